"""Names that cannot be written: not UTF-8, half an emoji, as a web client's JSON may hold, and of files without one."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from lowclip_runtime.clip import LowClip
from lowclip_runtime.embed import Watch, embed_images_to
from lowclip_runtime.errors import BundleError, ImageError, InputError
from lowclip_runtime.folder import printable
from lowclip_runtime.index import Index

HALF = "\ud83d"


@pytest.fixture
def index(tmp_path: Path, tiny_clip: LowClip, photos: dict[str, Path]) -> Iterator[Index]:
    with Index.open(tmp_path / "i", tiny_clip) as opened:
        opened.add_folder(photos["göy"].parent)
        yield opened


@pytest.mark.parametrize("name", [HALF, f"{HALF}/a.jpg", f"/{HALF}/a.jpg"])
def test_half_an_emoji_is_no_photo_and_no_folder(index: Index, tmp_path: Path, name: str) -> None:
    assert index.remove([name]) == index.forget(name) == index.set_facts({name: {"who": "Leyla"}}) == 0
    index.check_forgotten([name], tmp_path)
    with pytest.raises(InputError, match=r"\\ud83d.*: no such folder"):
        index.add_folder(name)


@pytest.mark.parametrize("name", [f"{HALF}.jpg", os.fsdecode(b"s\xe9kil.jpg")])
def test_the_reason_why_a_photo_cannot_be_read_can_be_written(
    name: str, tiny_clip: LowClip, tmp_path: Path
) -> None:
    for path in (name, Path(name)):
        found = tiny_clip.read_pixels(path)
        assert str(found).encode("utf-8").startswith(printable(name).encode("utf-8") + b": ")
    told: list[tuple[str, str]] = []
    with pytest.raises(InputError, match="none of the 1 items can be read"):
        embed_images_to(
            tiny_clip, [name], tmp_path / "v.npy", watch=Watch(on_failed=lambda *one: told.append(one))
        )
    assert printable(name) not in told[0][1]


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_embeddings_are_written_below_a_folder_that_is_not_utf8(
    suffix: str, tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    folder = tmp_path / os.fsdecode(b"\xe9")
    folder.mkdir()
    assert embed_images_to(tiny_clip, [str(photos["göy"])], folder / f"v.{suffix}").written == 1
    assert (folder / f"v.{suffix}").stat().st_size > 0


def test_a_bundle_in_a_folder_that_is_not_utf8_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / os.fsdecode(b"\xe9") / "bundle")
    with pytest.raises(BundleError, match=r"\\xe9/bundle: the folder's name is not UTF-8; rename it"):
        LowClip.open(bundle)
    link = tmp_path / "link"
    link.symlink_to(bundle)
    with pytest.raises(BundleError, match="not UTF-8"):
        LowClip.open(link)


def test_a_name_in_bytes_can_be_written() -> None:
    assert printable(os.fsencode("şəkil.jpg")) == "şəkil.jpg"  # type: ignore[arg-type]
    assert printable("şəkil.jpg") == "şəkil.jpg"


@pytest.mark.parametrize("opened", [tempfile.TemporaryFile, tempfile.SpooledTemporaryFile])
def test_a_file_without_a_name_is_the_given_one(opened: Callable[[], IO[bytes]], tiny_clip: LowClip) -> None:
    """As uploads come from web frameworks."""
    with opened() as file:
        file.write(b"no image")
        with pytest.raises(ImageError, match=r"^images\[0\]: the given file: not an image"):
            tiny_clip.embed_images([file])  # type: ignore[list-item]
