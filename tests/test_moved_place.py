"""An index and a model that are open while the process, a link or their folder goes elsewhere."""

from pathlib import Path

import pytest
from tiny_bundle import picture, write_tiny_bundle
from tiny_index import add

from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import BundleError, IndexFileError
from lowclip_runtime.index import Index


def test_a_process_may_go_to_another_folder(
    tmp_path: Path, tiny_bundle: Path, photos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a server does that becomes a daemon."""
    gallery = photos["göy"].parent
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "bundle").symlink_to(tiny_bundle)
    monkeypatch.chdir(tmp_path)
    clip = LowClip.open("bundle")
    with Index.open("i", clip) as index:
        monkeypatch.chdir("elsewhere")
        assert index.add_folder(gallery).added == len(photos)
        assert index.set_facts({str(photos["göy"]): {"who": "Leyla"}}) == 1
        index.compact()
        assert index.remove([photos["göy"]]) == 1
    assert [*Path().iterdir()] == []
    with Index.open(tmp_path / "i", clip) as index:
        assert len(index) == len(photos) - 1


def test_a_link_that_is_led_elsewhere_leaves_what_is_open_as_it_is(
    tmp_path: Path, tiny_clip: LowClip, photos: dict[str, Path]
) -> None:
    """As `current` is led to the next release, which must not be written over by what the last one holds."""
    add(tmp_path / "old", tiny_clip, photos["göy"].parent)
    Index.open(tmp_path / "new", tiny_clip).close()
    link = tmp_path / "current"
    link.symlink_to("old")
    with Index.open(link, tiny_clip) as index:
        link.unlink()
        link.symlink_to("new")
        assert index.set_facts({str(photos["göy"]): {"who": "Leyla"}}) == 1
        index.compact()
    with Index.open(link, tiny_clip) as new, Index.open(tmp_path / "old", tiny_clip) as old:
        assert (len(new), len(old)) == (0, len(photos))
        assert len(old.search("göy", where={"who": "Leyla"})) == 1


@pytest.mark.parametrize("replaced", [False, True])
def test_an_index_that_is_no_longer_in_its_place_is_not_written(
    replaced: bool, tmp_path: Path, tiny_clip: LowClip, photos: dict[str, Path]
) -> None:
    path, moved = tmp_path / "i", tmp_path / "moved"
    gallery, photo = photos["göy"].parent, str(photos["göy"])
    add(path, tiny_clip, gallery)
    with Index.open(path, tiny_clip) as index:
        path.rename(moved)
        if replaced:
            Index.open(path, tiny_clip).close()
        photos["qara"].write_bytes(photos["ağ"].read_bytes())
        for change in (
            index.compact,
            lambda: index.add_folder(gallery),
            lambda: index.set_facts({photo: {"who": "Leyla"}}),
            lambda: index.remove([photo]),
            lambda: index.forget(gallery),
        ):
            with pytest.raises(IndexFileError, match="was moved, deleted or replaced since it was opened"):
                change()
        assert len(index.search("göy")) == len(photos)
    assert path.exists() == replaced
    for one, count in ((moved, len(photos)), (path, 0)):
        with Index.open(one, tiny_clip) as index:
            assert len(index) == count


def test_a_bundle_is_that_which_its_link_led_to(tmp_path: Path) -> None:
    old, new = (
        write_tiny_bundle(tmp_path / name, variant=variant) for variant, name in enumerate(("old", "new"))
    )
    link = tmp_path / "current"
    link.symlink_to(old)
    clip = LowClip.open(link)
    link.unlink()
    link.symlink_to(new)
    assert (clip.embed_texts(["göy"]) == LowClip.open(old).embed_texts(["göy"])).all()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_bundle_that_is_replaced_is_no_longer_the_one_that_was_opened(
    replaced: bool, tmp_path: Path
) -> None:
    """As by an export with --overwrite, before the other tower is loaded."""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    clip = LowClip.open(bundle, threads=2)
    clip.embed_texts(["göy"])
    bundle.rename(tmp_path / "old")
    if replaced:
        write_tiny_bundle(bundle, variant=1)
    for use in (
        lambda: clip.embed_images([picture((0, 0, 255))]),
        lambda: clip.embed_texts(["göy"] * 200),  # by a session of its own
    ):
        with pytest.raises(BundleError, match="was replaced or deleted since it was opened; open"):
            use()
    assert len(clip.embed_texts(["yaşıl"])) == 1  # which is loaded
