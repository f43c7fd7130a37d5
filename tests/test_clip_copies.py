"""A model that is copied or sent to another process, and an index, which cannot be."""

import copy
import gc
import json
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import BundleError, IndexFileError, InputError
from lowclip_runtime.index import Index

Copier = Callable[[LowClip], LowClip]
COPIERS: dict[str, Copier] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda clip: pickle.loads(pickle.dumps(clip)),
}


@pytest.mark.parametrize("used", [True, False], ids=["used", "new"])
@pytest.mark.parametrize("copied", COPIERS.values(), ids=COPIERS)
def test_a_copy_embeds_also_once_the_model_is_gone(
    copied: Copier, used: bool, tiny_bundle: Path, photos: dict[str, Path]
) -> None:
    expected = LowClip.open(tiny_bundle).embed_texts(["göy it"])
    clip = LowClip.open(tiny_bundle, threads=3, provider_options=MappingProxyType({"a": "b"}))
    if used:
        clip.embed_texts(["it"])
        clip.embed_images(photos.values())
    other = copied(clip)
    del clip
    gc.collect()
    np.testing.assert_array_equal(other.embed_texts(["göy it"]), expected)
    assert len(other.embed_images(photos.values())) == len(photos)
    assert (other.path, other.threads, other.bundle_id) == (
        tiny_bundle,
        3,
        LowClip.open(tiny_bundle).bundle_id,
    )


def test_a_copy_has_the_towers_of_the_model(tiny_bundle: Path) -> None:
    other = copy.copy(LowClip.open(tiny_bundle, towers=("text",)))
    with pytest.raises(InputError, match="without 'image'"):
        other.embed_images([np.zeros((9, 9, 3), np.uint8)])


@pytest.mark.parametrize("way", ["spawn", "forkserver"])
def test_a_model_goes_to_another_process(way: str, tiny_bundle: Path) -> None:
    clip = LowClip.open(tiny_bundle)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(way)) as processes:
        found = processes.submit(clip.embed_texts, ["göy"]).result()
    np.testing.assert_allclose(found, clip.embed_texts(["göy"]), atol=1e-6)


def test_a_copy_of_a_bundle_that_was_replaced_says_so(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    sent = pickle.dumps(LowClip.open(bundle))
    manifest = bundle / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text("utf-8")), "name": "other"}), "utf-8")
    with pytest.raises(BundleError, match="was replaced or deleted since it was opened"):
        pickle.loads(sent).embed_texts(["it"])


def test_an_index_says_that_it_cannot_be_copied(tmp_path: Path, tiny_clip: LowClip) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        for copied in (pickle.dumps, copy.deepcopy):
            with pytest.raises(
                IndexFileError, match=r"i is open here and cannot be copied or sent to another"
            ):
                copied(index)  # type: ignore[operator]
        assert len(index) == 0
