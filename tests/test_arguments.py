"""What a program passes by mistake is refused in one sentence, before any work, and never by another library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import InputError, LowClipError, ProviderError
from lowclip_runtime.evaluate import evaluate
from lowclip_runtime.index import Index
from lowclip_runtime.pairs import Pair

ANYTHING = (None, 5, 2.5, True, "", "x", b"x", [], [5], {"x"}, object())


@pytest.fixture
def index(tmp_path: Path, tiny_clip: LowClip, photos: dict[str, Path]) -> Any:
    with Index.open(tmp_path / "i", tiny_clip) as opened:
        opened.add_folder(photos["göy"].parent)
        yield opened


@pytest.mark.parametrize("provider", [None, 5, ["cpu"], {"cpu"}, b"cpu"])
def test_what_is_no_provider_is_refused(tiny_bundle: Path, provider: Any) -> None:
    with pytest.raises(ProviderError, match="there is no provider"):
        LowClip.open(tiny_bundle, provider)


@pytest.mark.parametrize("options", [5, "device_id", b"x", [("device_id", "1")]])
def test_provider_options_are_a_mapping(tiny_bundle: Path, options: Any) -> None:
    with pytest.raises(InputError, match="provider_options must be a mapping"):
        LowClip.open(tiny_bundle, provider_options=options)


def test_towers_in_a_list_of_lists_are_refused(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="towers must be some of"):
        LowClip.open(tiny_bundle, towers=[["text"]])  # type: ignore[list-item]


@pytest.mark.parametrize("clip", [None, "my-bundle", Path("my-bundle"), LowClip])
def test_an_index_is_opened_with_a_model(tmp_path: Path, clip: Any) -> None:
    with pytest.raises(InputError, match=r"clip must be what LowClip.open gives, not"):
        Index.open(tmp_path / "i", clip)
    assert not any(tmp_path.iterdir())


def test_pixels_are_what_a_tower_sees(tiny_clip: LowClip, photos: dict[str, Path]) -> None:
    pixels = tiny_clip.read_pixels(photos["göy"])
    assert isinstance(pixels, np.ndarray)
    together = tiny_clip.embed_pixels([pixels, pixels])
    np.testing.assert_array_equal(tiny_clip.embed_pixels(np.stack([pixels, pixels])), together)  # type: ignore[arg-type]
    for wrong in (pixels[1:], pixels / 255, tiny_clip.read_pixels(b"no image"), None):
        with pytest.raises(InputError, match="pixels must be uint8 arrays of shape"):
            tiny_clip.embed_pixels([pixels, wrong])  # type: ignore[list-item]
    for nothing in (5, None, iter([pixels])):
        with pytest.raises(InputError, match="pixels must be uint8 arrays of shape"):
            tiny_clip.embed_pixels(nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["progress", "on_failed"])
def test_who_cannot_be_told_is_refused_before_a_folder_is_added(
    index: Index, tmp_path: Path, name: str
) -> None:
    for wrong in (None, 5, "print"):
        with pytest.raises(InputError, match=f"{name} must be a function, not {wrong!r}; leave it out"):
            index.add_folder(tmp_path / "none", **{name: wrong})  # type: ignore[arg-type]


def test_photos_are_all_looked_at_before_one_is_taken_out(index: Index, photos: dict[str, Path]) -> None:
    known, count = [*photos.values()], len(index)
    with pytest.raises(InputError, match="a photo must be a path, not 5"):
        index.remove([*known * 1024, 5])  # type: ignore[list-item]
    assert len(index) == count


@pytest.mark.parametrize("folders", [None, 5, "/photos", Path("/photos"), [None], [5], [b"/photos"]])
def test_folders_to_forget_are_a_list_of_paths(index: Index, tmp_path: Path, folders: Any) -> None:
    with pytest.raises(InputError, match=r"a list of folders is wanted|must be a path, not"):
        index.check_forgotten(folders, tmp_path)


def test_folders_to_forget_may_be_paths(index: Index, tmp_path: Path) -> None:
    index.check_forgotten([tmp_path / "other"], tmp_path)
    with pytest.raises(InputError, match="would take the photos of"):
        index.check_forgotten([tmp_path], tmp_path)


@pytest.mark.parametrize("pairs", [None, "pairs.tsv", Path("pairs.tsv"), [], [("a.png", "it")]])
def test_an_evaluation_wants_pairs(tiny_clip: LowClip, tmp_path: Path, pairs: Any) -> None:
    with pytest.raises(InputError, match="pairs"):
        evaluate(tiny_clip, pairs, tmp_path)


def test_an_evaluation_wants_a_folder(tiny_clip: LowClip) -> None:
    with pytest.raises(InputError, match="the folder of the images must be a path, not None"):
        evaluate(tiny_clip, [Pair("a.png", "it")], None)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ANYTHING, ids=lambda one: type(one).__name__)
def test_no_method_fails_with_an_error_of_another_library(
    index: Index, tiny_clip: LowClip, photos: dict[str, Path], wrong: Any
) -> None:
    photo = photos["göy"]
    calls: dict[str, Callable[[], object]] = {
        "embed_texts": lambda: tiny_clip.embed_texts(wrong),
        "embed_images": lambda: tiny_clip.embed_images(wrong),
        "embed_pixels": lambda: tiny_clip.embed_pixels(wrong),
        "search": lambda: index.search(wrong),
        "k": lambda: index.search("göy", wrong),
        "where": lambda: index.search("göy", where=wrong),
        "value": lambda: index.search("göy", where={"album": wrong}),
        "search_all": lambda: index.search_all(wrong),
        "search_image": lambda: index.search_image(wrong),
        "search_like": lambda: index.search_like(photo, wrong),
        "text_share": lambda: index.search_like(photo, "göy", text_share=wrong),
        "search_embedding": lambda: index.search_embedding(wrong),
        "near_duplicates": lambda: index.near_duplicates(wrong),
        "set_facts": lambda: index.set_facts(wrong),
        "facts": lambda: index.set_facts({str(photo): wrong}),
        "remove": lambda: index.remove(wrong),
        "forget": lambda: index.forget(wrong),
        "check_forgotten": lambda: index.check_forgotten(wrong, wrong),
        "add_folder": lambda: index.add_folder(wrong),
        "evaluate": lambda: evaluate(tiny_clip, wrong, wrong),
    }
    for name, call in calls.items():
        try:
            call()
        except LowClipError as error:
            assert str(error)
        except Exception as error:
            pytest.fail(f"{name}({wrong!r}): {error!r}")
