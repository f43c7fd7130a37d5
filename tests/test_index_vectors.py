"""Indexes of codes and of truncated embeddings: ranks and scores, and that the choice stays what it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tiny_index import directions

from lowclip_runtime.cli import main
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import IndexFileError, InputError
from lowclip_runtime.index import Index, describe_index, verify_index
from lowclip_runtime.index_manifest import MANIFEST_NAME
from lowclip_runtime.photo_record import PhotoRecord
from lowclip_runtime.points import Point
from lowclip_runtime.shard import VECTORS, Shard, Vectors
from lowclip_runtime.truncation import truncated


def test_truncated_embeddings_have_unit_norm_and_the_first_numbers() -> None:
    embeddings = directions(5, 4, 16)
    cut = truncated(embeddings, 8)
    np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1, atol=1e-6)
    ratio = cut / embeddings[:, :8]
    np.testing.assert_allclose(ratio, np.repeat(ratio[:, :1], 8, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(truncated(embeddings[2], 8), cut[2])
    assert truncated(embeddings, 16) is embeddings  # bit for bit what the bundle gave
    assert truncated(np.eye(16, dtype=np.float32)[15], 8).tolist() == [0] * 8  # no nan


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """Fifty pictures of colours drawn at random."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, colour in enumerate(np.random.default_rng(5).integers(0, 256, (50, 3), dtype=np.uint8)):
        Image.new("RGB", (20 + i, 30), tuple(colour.tolist())).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "photos.index"


@pytest.mark.parametrize("dims", [None, 16, 11, 8])
def test_ranks_and_scores_are_those_of_numpy(
    path: Path, tiny_clip: LowClip, gallery: Path, vectors: Vectors, dims: int | None
) -> None:
    """Of fifty photos a search for ten rescores enough for no rank to be lost."""
    with Index.open(path, tiny_clip, vectors=vectors, dims=dims) as index:
        assert index.add_folder(gallery).added == 50
    kept = dims or tiny_clip.dims
    photos = sorted(gallery.iterdir())
    stored = truncated(tiny_clip.embed_images(photos), kept)
    with Index.open(path, tiny_clip, create=False) as index:
        for word in ("qırmızı", "göy dəniz", "it"):
            exact = stored @ truncated(tiny_clip.embed_texts([word])[0], kept)
            hits = index.search(word, 10)
            np.testing.assert_allclose([hit.score for hit in hits], np.sort(exact)[::-1][:10], atol=1e-6)
            np.testing.assert_allclose(
                [hit.score for hit in hits], [exact[photos.index(Path(hit.path))] for hit in hits], atol=1e-6
            )
        hit = index.search_image(photos[7], 1)[0]
        assert (Path(hit.path), hit.score) == (photos[7], pytest.approx(1, abs=1e-6))
        assert len(index.search("it", 1000)) == 50
    report = verify_index(path, tiny_clip)
    assert (report["vectors"], report["dims"], report["photos"]) == (vectors, kept, 50)
    assert report["embedded_again"] == 8 and report["least_cosine"] > 0.9999


def test_the_choice_is_kept_and_another_one_is_refused(path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    with Index.open(path, tiny_clip, vectors="int8", dims=12) as index:
        index.add_folder(gallery)
    before = (path / MANIFEST_NAME).read_bytes()
    refusals: list[tuple[dict[str, Any], str]] = [
        (
            {"vectors": "float32"},
            "made with int8 vectors of 12 dims, not float32 of 12; leave that choice out",
        ),
        ({"vectors": "binary", "dims": 12}, "not binary of 12"),
        ({"dims": 16}, "not int8 of 16"),
        ({"vectors": "binary", "dims": 8}, "not binary of 8"),
    ]
    for choice, expected in refusals:
        with pytest.raises(IndexFileError, match=expected):
            Index.open(path, tiny_clip, **choice)
    kept: list[dict[str, Any]] = [{}, {"vectors": "int8"}, {"dims": 12}, {"vectors": "int8", "dims": 12}]
    for choice in kept:
        with Index.open(path, tiny_clip, **choice) as index:
            assert (index.manifest.vectors, index.manifest.dims, len(index)) == ("int8", 12, 50)
    told = describe_index(path)
    assert (told["vectors"], told["dims"], told["photos"]) == ("int8", 12, 50)
    assert (path / MANIFEST_NAME).read_bytes() == before


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"vectors": "int4"}, "vectors must be one of float32, int8, binary, not 'int4'"),
        ({"dims": 7}, "dims must be 8 to 16, the bundle's own, not 7"),
        ({"dims": "8"}, "dims must be 8 to 16, the bundle's own, not '8'"),
        ({"dims": 17}, "not 17"),
        ({"dims": 0}, "not 0"),
        ({"dims": -8}, "not -8"),
    ],
)
def test_what_no_index_can_be_is_refused_and_leaves_nothing(
    path: Path, tiny_clip: LowClip, choice: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        Index.open(path, tiny_clip, **choice)
    assert not path.exists()


def test_dims_may_be_a_number_of_numpy(path: Path, tiny_clip: LowClip) -> None:
    for _ in ("made", "opened"):
        with Index.open(path, tiny_clip, dims=np.int64(8)) as index:  # type: ignore[arg-type]
            assert index.manifest.dims == 8


def test_an_index_of_the_first_schema_opens_as_float32(path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    with Index.open(path, tiny_clip) as index:
        index.add_folder(gallery)
        expected = index.search("qırmızı")
    old = {
        "schema_version": 1,
        "created": "2026-11-20",
        "engine": "qdrant-edge 0.9",
        "bundle_id": tiny_clip.bundle_id,
        "bundle_name": "tiny",
        "dims": 16,
    }
    (path / MANIFEST_NAME).write_text(json.dumps(old, indent=2) + "\n", "utf-8")
    with Index.open(path, tiny_clip, vectors="float32", dims=16) as index:
        assert index.search("qırmızı") == expected
        assert index.add_folder(gallery).unchanged == 50
    with pytest.raises(IndexFileError, match="made with float32 vectors of 16 dims, not int8"):
        Index.open(path, tiny_clip, vectors="int8")
    assert describe_index(path)["vectors"] == "float32"
    assert verify_index(path, tiny_clip)["photos"] == 50


def test_this_schema_needs_its_keys(path: Path, tiny_clip: LowClip) -> None:
    Index.open(path, tiny_clip).close()
    data = json.loads((path / MANIFEST_NAME).read_text("utf-8"))
    assert data["schema_version"] == 3
    for value, expected in (("int4", "vectors must be one of"), (None, "missing key 'vectors'")):
        changed = {key: one for key, one in {**data, "vectors": value}.items() if one is not None}
        (path / MANIFEST_NAME).write_text(json.dumps(changed), "utf-8")
        with pytest.raises(IndexFileError, match=expected):
            Index.open(path, tiny_clip)


def test_a_moved_photo_keeps_its_truncated_embedding(path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    with Index.open(path, tiny_clip, vectors="int8", dims=8) as index:
        index.add_folder(gallery)
        (gallery / "07.png").rename(gallery / "moved.png")
        report = index.add_folder(gallery)
        assert (report.added, report.removed, report.duplicates) == (1, 1, 0)
        assert Path(index.search_image(gallery / "moved.png", 1)[0].path).name == "moved.png"
    assert verify_index(path, tiny_clip)["photos"] == 50


def test_an_embedding_that_no_bundle_gives_is_refused(path: Path, tiny_clip: LowClip) -> None:
    with Index.open(path, tiny_clip, dims=8) as index:
        for shape in ((8,), (17,), (1, 16)):
            with pytest.raises(InputError, match=r"an embedding of shape \(16,\) is needed"):
                index.search_embedding(np.ones(shape, np.float32))


def test_verify_finds_codes_that_are_not_those_of_the_photos(path: Path, tiny_clip: LowClip) -> None:
    Index.open(path, tiny_clip, vectors="int8").close()
    shard = Shard.open(path / "shard", "int8")
    for row, embedding in enumerate(directions(400, 6, 16)):
        record = PhotoRecord("/none", f"{row}.png", 1, 1, f"{row:064x}")
        shard.upsert([Point(record.id, record.to_payload(), embedding)])
    shard.close()
    assert verify_index(path)["photos"] == 400
    for codes in path.glob("shard/segments/*/vector_storage/quantized_data/chunk_0.mmap"):
        with codes.open("r+b") as file:
            file.write(np.random.default_rng(7).bytes(400 * 20))  # a byte a number, and 4 for the length
    with pytest.raises(IndexFileError, match="of 64 photos are found by their own embedding"):
        verify_index(path)


def lowclip(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_command_line(path: Path, tiny_bundle: Path, gallery: Path) -> None:
    options = ("index", gallery, "--index", path, "--bundle", tiny_bundle)
    made = lowclip(*options, "--vectors", "binary", "--dims", 8)
    assert made.exit_code == 0 and made.stdout.startswith("50 added")
    assert lowclip(*options).stdout.startswith("50 unchanged")
    refused = lowclip(*options, "--vectors", "int8")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"Error: {path} was made with binary vectors of 8 dims, not int8 of 8; "
        "leave that choice out to keep what it has, or build a new index\n"
    )
    told = json.loads(lowclip("info", path, "--json").stdout)
    assert (told["vectors"], told["dims"]) == ("binary", 8)
    checked = json.loads(lowclip("verify", path, "--json").stdout)
    assert (checked["vectors"], checked["dims"], checked["photos"]) == ("binary", 8, 50)
    found = lowclip("search", "qırmızı", "--index", path, "--bundle", tiny_bundle, "-k", 3, "--json")
    assert [json.loads(line)["rank"] for line in found.stdout.splitlines()] == [1, 2, 3]


def test_wrong_options_of_the_command_line(path: Path, tiny_bundle: Path, gallery: Path) -> None:
    options = ("index", gallery, "--index", path, "--bundle", tiny_bundle)
    assert f"[{'|'.join(VECTORS)}]" in lowclip("index", "--help").stdout
    for wrong in (("--vectors", "int4"), ("--dims", "many"), ("--dims",)):
        assert lowclip(*options, *wrong).exit_code == 2
    refused = lowclip(*options, "--dims", 17)
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: dims must be 8 to 16, the bundle's own, not 17\n",
    )
    assert not path.exists()
