"""Evaluation of a bundle whose answers are known."""

from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import COLOURS

from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import DatasetError
from lowclip_runtime.evaluate import both_directions, distinct_images, evaluate
from lowclip_runtime.pairs import Pair


def test_colour_words_find_their_pictures(
    tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path
) -> None:
    pairs = [Pair(f"{word}.png", caption, "az") for word in COLOURS for caption in (word, f"{word} it")]
    seen: list[tuple[int, int | None]] = []
    result = evaluate(
        tiny_clip, pairs, tmp_path / "photos", lang="az", on_progress=lambda *step: seen.append(step)
    )
    assert list(result) == ["bundle", "gallery", "queries", "lang", "split", "text_to_image", "image_to_text"]
    assert result["bundle"] == f"tiny@{tiny_clip.bundle_id}"
    assert (result["gallery"], result["queries"], result["lang"], result["split"]) == (6, 12, "az", None)
    perfect = {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "mAP": 1.0, "median_rank": 1.0}
    assert result["text_to_image"] == result["image_to_text"] == perfect
    assert seen[-1] == (6, 6)


def test_wrong_captions_are_seen(tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path) -> None:
    # black and white are each other's opposite, so each caption ranks its picture last of the two
    pairs = [Pair("ağ.png", "qara"), Pair("qara.png", "ağ")]
    result = evaluate(tiny_clip, pairs, tmp_path / "photos")
    assert result["text_to_image"]["R@1"] == 0
    assert result["text_to_image"]["median_rank"] == 2


def test_the_gallery_is_every_distinct_image_once() -> None:
    pairs = [Pair("b", "1"), Pair("a", "2"), Pair("b", "3")]
    assert distinct_images(pairs) == ["b", "a"]


def test_both_directions_by_hand() -> None:
    pairs = [Pair("x", "1"), Pair("y", "2"), Pair("x", "3")]
    images = np.asarray([[1, 0], [0, 1]], np.float32)
    texts = np.asarray([[1, 0], [0, 1], [0, 1]], np.float32)  # the third caption of x looks like y
    result = both_directions(pairs, images, texts)
    assert result["text_to_image"]["R@1"] == pytest.approx(2 / 3)
    assert result["text_to_image"]["mAP"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    # x scores the captions 1, 0, 0: its own are ranked 1 and, by the tie with y's, 3; y scores 0, 1, 1: 2
    assert result["image_to_text"]["R@1"] == 0.5
    assert result["image_to_text"]["mAP"] == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)


def test_missing_images_are_counted_and_the_first_named(
    tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path
) -> None:
    pairs = [Pair("ağ.png", "ağ"), Pair("gone.png", "it"), Pair("lost.png", "qız"), Pair("gone.png", "it")]
    with pytest.raises(DatasetError, match=r"gone\.png is missing, 2 of 3 images in all"):
        evaluate(tiny_clip, pairs, tmp_path / "photos")
