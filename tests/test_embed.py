"""Bulk embedding into files: what is written, what is left out, and what stays when it fails."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lowclip_runtime import embed
from lowclip_runtime.clip import LowClip
from lowclip_runtime.embed import Watch, embed_folder_to, embed_images_to, embed_texts_to
from lowclip_runtime.errors import InputError
from lowclip_runtime.vector_file import ids_path, vector_file


def read_ids(out: Path) -> list[str]:
    return ids_path(out).read_text("utf-8").splitlines()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "vectors.npy"


def test_a_folder_becomes_rows_with_ids(tiny_clip: LowClip, photos: dict[str, Path], out: Path) -> None:
    folder = photos["ağ"].parent
    (folder / "sub").mkdir()
    photos["göy"].rename(folder / "sub" / "göy.png")
    (folder / "notes.txt").write_text("no photo")
    report = embed_folder_to(tiny_clip, folder, out, batch_size=4)
    ids = read_ids(out)
    assert ids == sorted(ids)
    assert set(ids) == {"ağ.png", "qara.png", "qırmızı.png", "sarı.png", "yaşıl.png", "sub/göy.png"}
    assert (report.written, report.failed) == (6, 0)
    embeddings = np.load(out)
    assert embeddings.dtype == np.float32
    expected = tiny_clip.embed_images([folder / one for one in ids])
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_broken_photos_are_told_and_left_out(tiny_clip: LowClip, photos: dict[str, Path], out: Path) -> None:
    folder = photos["ağ"].parent
    (folder / "broken.jpg").write_bytes(b"no photo")
    failed: list[tuple[str, str]] = []
    steps: list[tuple[int, int | None]] = []
    watch = Watch(
        on_failed=lambda one, reason: failed.append((one, reason)),
        on_progress=lambda *step: steps.append(step),
    )
    report = embed_folder_to(tiny_clip, folder, out, watch=watch)
    assert (report.written, report.failed) == (6, 1)
    assert failed == [("broken.jpg", "not an image in a format that can be read")]
    assert "broken.jpg" not in read_ids(out)
    assert len(np.load(out)) == 6
    assert steps == [(done, 7) for done in range(1, 8)]


def test_a_list_of_paths_keeps_its_order(tiny_clip: LowClip, photos: dict[str, Path], out: Path) -> None:
    paths = [str(photos[word]) for word in ("sarı", "ağ", "sarı")]
    embed_images_to(tiny_clip, iter(paths), out)
    assert read_ids(out) == paths
    np.testing.assert_allclose(np.load(out), tiny_clip.embed_images(paths), atol=1e-5)


def test_texts_are_their_own_ids_and_empty_lines_are_told(
    tiny_clip: LowClip, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "_WRITE_ROWS", 2)  # so that five lines take several writes
    failed: list[str] = []
    watch = Watch(on_failed=lambda one, _reason: failed.append(one))
    report = embed_texts_to(
        tiny_clip, ["qırmızı paltarlı qız", "", "it", "göy dəniz", "  "], out, watch=watch
    )
    assert (report.written, report.failed) == (3, 2)
    assert failed == ["line 2", "line 5"]
    assert read_ids(out) == ["qırmızı paltarlı qız", "it", "göy dəniz"]
    np.testing.assert_allclose(np.load(out), tiny_clip.embed_texts(read_ids(out)), atol=1e-5)


def test_nothing_readable_writes_nothing(tiny_clip: LowClip, tmp_path: Path, out: Path) -> None:
    out.parent.mkdir()
    with pytest.raises(InputError, match="none of the 2 items can be read"):
        embed_images_to(tiny_clip, ["gone.jpg", "lost.jpg"], out)
    with pytest.raises(InputError, match="nothing to embed"):
        embed_folder_to(tiny_clip, out.parent, out)
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        embed_folder_to(tiny_clip, tmp_path / "nowhere", out)
    assert names(out.parent) == []


def test_a_failure_keeps_the_old_file(tiny_clip: LowClip, out: Path) -> None:
    embed_texts_to(tiny_clip, ["it"], out)
    before = out.read_bytes()
    with pytest.raises(InputError):
        embed_texts_to(tiny_clip, [""], out)
    assert out.read_bytes() == before
    assert read_ids(out) == ["it"]
    assert names(out.parent) == ["vectors.npy", "vectors.npy.ids.txt"]


def test_a_kill_between_the_two_files_leaves_no_ids_of_other_rows(tiny_clip: LowClip, out: Path) -> None:
    embed_texts_to(tiny_clip, ["it", "pişik"], out)
    killed = f"""
import sys
from pathlib import Path
import numpy as np
from lowclip_runtime.vector_file import vector_file

def trace(event, arguments):
    if event == "os.rename" and str(arguments[1]) == {str(out)!r}:
        put.append(1)
    elif put and event == "os.rename":
        import os
        os._exit(9)

put = []
with vector_file({str(out)!r}, 2, {{}}) as writer:
    writer.add(["at"], np.ones((1, 2), np.float32))
    sys.addaudithook(trace)
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == 9
    assert np.load(out).shape == (1, 2)
    assert not ids_path(out).exists()


def test_a_name_with_a_line_break_cannot_spoil_the_ids(
    tiny_clip: LowClip, photos: dict[str, Path], out: Path
) -> None:
    folder = photos["ağ"].parent
    photos["göy"].rename(folder / "a\nb.png")
    failed: list[str] = []
    embed_folder_to(tiny_clip, folder, out, watch=Watch(on_failed=lambda _one, reason: failed.append(reason)))
    assert len(read_ids(out)) == len(np.load(out)) == 5
    assert "line break" in failed[0]
    pytest.importorskip("pyarrow")
    assert (
        embed_folder_to(tiny_clip, folder, out.with_suffix(".parquet")).failed == 0
    )  # it has a column of ids


@pytest.mark.parametrize("name", ["vectors.txt", "vectors"])
def test_another_suffix_is_refused(tiny_clip: LowClip, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name} must end in \.npy or \.parquet"):
        embed_texts_to(tiny_clip, ["it"], tmp_path / name)


def test_a_folder_as_target_is_refused(tiny_clip: LowClip, tmp_path: Path) -> None:
    (tmp_path / "a.npy").mkdir()
    (tmp_path / "b.npy.ids.txt").mkdir()
    for name in ("a.npy", "b.npy"):
        with pytest.raises(InputError, match="is a folder"):
            embed_texts_to(tiny_clip, ["it"], tmp_path / name)


def test_missing_pyarrow_says_how_to_get_it(
    tiny_clip: LowClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install pyarrow$"):
        embed_texts_to(tiny_clip, ["it"], tmp_path / "a.parquet")


def test_parquet_holds_ids_and_vectors(tiny_clip: LowClip, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "a.parquet"
    embed_texts_to(tiny_clip, ["qırmızı it", "göy"], out)
    table = parquet.read_table(out)
    assert table.column("id").to_pylist() == ["qırmızı it", "göy"]
    vectors = np.asarray(table.column("embedding").to_pylist(), np.float32)
    np.testing.assert_allclose(vectors, tiny_clip.embed_texts(["qırmızı it", "göy"]), atol=1e-6)
    assert table.schema.metadata[b"bundle"].decode() == f"tiny@{tiny_clip.bundle_id}"
    assert names(tmp_path) == ["a.parquet"]


@pytest.mark.parametrize("rows", [1, 9, 12_345])
def test_the_header_grows_with_the_rows(tmp_path: Path, rows: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    with vector_file(tmp_path / "a.npy", 3, {}) as writer:
        for start in range(0, rows, 1000):
            part = vectors[start : start + 1000]
            writer.add([str(start + i) for i in range(len(part))], part)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), vectors)
    assert read_ids(tmp_path / "a.npy") == [str(i) for i in range(rows)]
