"""`LowClip` against answers computed in numpy: order, batches, laziness, and what it refuses."""

import contextlib
import gc
import io
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny_bundle import COLOURS, DIMS, PREPROCESS, THINGS, image_embedding, text_embedding

from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import ImageError, InputError, TextError
from lowclip_runtime.index import Index
from lowclip_runtime.preprocess import preprocess
from lowclip_runtime.session import TowerSession

# float32 sums of a few terms; an embedding's entries are at most 1
ROUNDING = 1e-5
TEXTS = [
    "it",
    "qırmızı paltarlı qız",
    "ağ it dəniz maşın pişik qız",
    "göy",
    "naməlum söz",
    "qara pişik qız it",
    "yaşıl maşın",
]


def random_images(count: int) -> list[NDArray[np.uint8]]:
    """Pictures of different sizes from a fixed seed."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (20 + 7 * i, 90 - 5 * i, 3), np.uint8) for i in range(count)]


def test_a_colour_word_finds_its_picture(tiny_clip: LowClip, photos: dict[str, Path]) -> None:
    gallery = tiny_clip.embed_images(photos.values())
    queries = tiny_clip.embed_texts([f"{word} {thing}" for word, thing in zip(COLOURS, THINGS, strict=True)])
    np.testing.assert_array_equal((queries @ gallery.T).argmax(axis=1), np.arange(len(COLOURS)))


def test_image_session_gives_what_numpy_computes(tiny_clip: LowClip) -> None:
    images = random_images(5)
    embeddings = tiny_clip.embed_images(images)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, image_embedding(preprocess(images, PREPROCESS)), atol=ROUNDING)


def test_text_session_gives_what_numpy_computes_in_the_order_given(tiny_clip: LowClip) -> None:
    for batch_size in (1, 2, 3, 16):
        embeddings = tiny_clip.embed_texts(TEXTS, batch_size)
        np.testing.assert_allclose(embeddings, text_embedding(TEXTS), atol=ROUNDING)


def test_embeddings_have_unit_norm(tiny_clip: LowClip) -> None:
    for embeddings in (tiny_clip.embed_images(random_images(4)), tiny_clip.embed_texts(TEXTS)):
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=ROUNDING)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_an_embedding_does_not_depend_on_its_neighbours(tiny_clip: LowClip, batch_size: int) -> None:
    images = random_images(7)
    alone = np.concatenate([tiny_clip.embed_images([image]) for image in images])
    np.testing.assert_allclose(tiny_clip.embed_images(images, batch_size), alone, atol=ROUNDING)
    alone = np.concatenate([tiny_clip.embed_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(tiny_clip.embed_texts(TEXTS, batch_size), alone, atol=ROUNDING)


def test_nothing_gives_no_rows(tiny_clip: LowClip) -> None:
    for embeddings in (
        tiny_clip.embed_images([]),
        tiny_clip.embed_texts([]),
        tiny_clip.embed_images(iter(())),
    ):
        assert embeddings.shape == (0, DIMS)
        assert embeddings.dtype == np.float32


def test_every_kind_of_image_in_one_list(tiny_clip: LowClip, photos: dict[str, Path]) -> None:
    path = photos["sarı"]
    with Image.open(path) as opened:
        image = opened.copy()
    rows = tiny_clip.embed_images([path, str(path), path.read_bytes(), image, np.asarray(image)])
    np.testing.assert_allclose(rows, np.repeat(rows[:1], 5, axis=0), atol=ROUNDING)


def test_a_broken_image_is_named_with_its_place(
    tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing more")
    with pytest.raises(ImageError, match=r"images\[1\]: .*broken\.jpg: not an image"):
        tiny_clip.embed_images([photos["göy"], broken])
    with pytest.raises(ImageError, match=r"images\[2\]: the given bytes"):
        tiny_clip.embed_images([photos["göy"], photos["ağ"], b"no image"])


def test_the_reason_of_a_broken_image_does_not_hold_its_content(tiny_clip: LowClip) -> None:
    content = io.BytesIO(b"no image")
    kept = weakref.ref(content)
    reason = tiny_clip.read_pixels(content)
    del content
    assert isinstance(reason, ImageError) and kept() is None


def test_a_search_by_a_broken_image_does_not_hold_it(tmp_path: Path, tiny_clip: LowClip) -> None:
    content = io.BytesIO(b"no image")
    kept = weakref.ref(content)
    gc.disable()  # else it might free what holds itself
    try:
        with Index.open(tmp_path / "i", tiny_clip) as index:
            with contextlib.suppress(ImageError):  # `pytest.raises` would hold the error
                index.search_image(content)
            del content
            assert kept() is None
    finally:
        gc.enable()


def test_embed_each_gives_reasons_in_their_places(tiny_clip: LowClip, photos: dict[str, Path]) -> None:
    good = photos["qara"]
    results = list(tiny_clip.embed_each([b"1", good, b"2", b"3", good], batch_size=2))
    assert [isinstance(result, ImageError) for result in results] == [True, False, True, True, False]
    expected = tiny_clip.embed_images([good])[0]
    for result in (results[1], results[4]):
        assert not isinstance(result, ImageError)
        np.testing.assert_allclose(result, expected, atol=ROUNDING)


def test_images_are_read_as_they_are_needed(tiny_clip: LowClip) -> None:
    taken = 0

    def many() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield np.zeros((8, 8, 3), np.uint8)

    results = tiny_clip.embed_each(many(), batch_size=4)
    for _ in range(10):
        next(results)
    # three batches embedded, one decoded ahead, one just taken
    assert taken <= 3 * 4 + 4 + 1


def test_one_item_instead_of_a_list_is_refused(tiny_clip: LowClip, photos: dict[str, Path]) -> None:
    for image in (photos["ağ"], str(photos["ağ"]), b"bytes", Image.new("RGB", (2, 2))):
        with pytest.raises(InputError, match="list of images"):
            tiny_clip.embed_images(image)  # type: ignore[arg-type]
    with pytest.raises(TextError, match="list of texts"):
        tiny_clip.embed_texts("it")


def test_an_empty_text_is_named_with_its_place(tiny_clip: LowClip) -> None:
    with pytest.raises(TextError, match=r"texts\[1\]"):
        tiny_clip.embed_texts(["it", "  "])


@pytest.mark.parametrize("batch_size", [0, -1, "8", 2.5])
def test_batch_size_must_be_positive(tiny_clip: LowClip, batch_size: Any) -> None:
    with pytest.raises(InputError, match="batch_size must be 1 or more"):
        tiny_clip.embed_texts(["it"], batch_size)
    with pytest.raises(InputError, match="batch_size must be 1 or more"):
        tiny_clip.embed_images([], batch_size)


def test_a_tower_that_was_not_asked_for_is_refused(tiny_bundle: Path) -> None:
    clip = LowClip.open(tiny_bundle, towers=("text",))
    assert clip.embed_texts(["it"]).shape == (1, DIMS)
    with pytest.raises(InputError, match="without 'image'"):
        clip.embed_images([Image.new("RGB", (2, 2))])


@pytest.mark.parametrize("towers", [(), ("picture",), "image"])
def test_unknown_towers_are_refused(tiny_bundle: Path, towers: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="towers must be"):
        LowClip.open(tiny_bundle, towers=towers)


@pytest.mark.parametrize("threads", [0, "2", 1.5])
def test_threads_must_be_positive(tiny_bundle: Path, threads: Any) -> None:
    with pytest.raises(InputError, match=f"threads must be 1 or more, not {threads!r}"):
        LowClip.open(tiny_bundle, threads=threads)


def test_opening_loads_no_tower(tiny_bundle: Path) -> None:
    clip = LowClip.open(tiny_bundle)
    clip.embed_texts(["it"])
    assert "text_session" in vars(clip)
    assert "image_session" not in vars(clip)


def test_what_a_clip_says_of_its_bundle(tiny_clip: LowClip, tiny_bundle: Path) -> None:
    assert (tiny_clip.name, tiny_clip.dims, tiny_clip.path) == ("tiny", DIMS, tiny_bundle)
    assert tiny_clip.bundle_id == tiny_clip.manifest.bundle_id


def test_batches_of_texts_are_cut_by_their_tokens(
    tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding included, no batch has more than the limit, unless one text alone has."""
    monkeypatch.setattr("lowclip_runtime.clip.BATCH_TOKENS", 24)
    shapes: list[tuple[int, ...]] = []
    real = TowerSession.run

    def seen(self: TowerSession, output: str, feed: Any) -> Any:
        shapes.append(feed["input_ids"].shape)
        return real(self, output, feed)

    monkeypatch.setattr(TowerSession, "run", seen)
    texts = ["it " * n for n in (1, 13, 2, 5, 1, 1, 9, 3, 1, 2)]
    together = tiny_clip.embed_texts(texts)
    assert all(rows * tokens <= 24 for rows, tokens in shapes)
    assert sum(rows for rows, _ in shapes) == len(texts) and len(shapes) < len(texts)
    shapes.clear()
    np.testing.assert_allclose(tiny_clip.embed_texts(texts, batch_size=2), together, atol=1e-6)
    assert max(rows for rows, _ in shapes) == 2


def test_a_query_that_is_asked_again_does_not_run_the_tower(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = LowClip.open(tiny_bundle)
    first = clip.embed_texts(["it"])
    monkeypatch.setattr(TowerSession, "run", None)
    again = clip.embed_texts(["it"])
    np.testing.assert_array_equal(again, first)
    again[:] = 0  # a caller's own
    np.testing.assert_array_equal(clip.embed_texts(["it"]), first)
    with pytest.raises(TextError):
        clip.embed_texts([""])


def test_what_nobody_uses_any_more_is_freed_at_once(tiny_bundle: Path, photos: dict[str, Path]) -> None:
    gc.disable()  # else it might free what holds itself
    try:
        clip = LowClip.open(tiny_bundle)
        clip.embed_texts(["it"])
        clip.embed_images(photos.values())
        clip_and_tower = weakref.ref(clip), weakref.ref(clip.text_session)
        del clip
        assert [one() for one in clip_and_tower] == [None, None]
    finally:
        gc.enable()


def test_the_tower_of_a_first_text_is_opened_while_the_tokenizer_is_read(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    open_ahead = TowerSession.open_ahead
    monkeypatch.setattr(
        TowerSession, "open_ahead", lambda self: (begun.append("tokenizer" in vars(clip)), open_ahead(self))
    )
    clip = LowClip.open(tiny_bundle, threads=2)
    np.testing.assert_allclose(clip.embed_texts(["it"]), text_embedding(["it"]), atol=ROUNDING)
    clip.embed_texts(["göy"])
    assert begun == [False]


@pytest.mark.parametrize(
    "options",
    [{"towers": None}, {"towers": ()}, {"towers": "text"}, {"threads": True}, {"threads": 10**9}, {"threads": 0},
     {"bundle": 5}, {"bundle": b"bundle"}, {"bundle": ""}],
)  # fmt: skip
def test_what_is_no_option_is_refused(tiny_bundle: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be"):
        LowClip.open(**{"bundle": tiny_bundle, **options})


@pytest.mark.parametrize("name", [None, 5, b"i"])
def test_what_is_no_path_is_refused(tiny_clip: LowClip, tmp_path: Path, name: Any) -> None:
    with pytest.raises(InputError, match="an index must be a path"):
        Index.open(name, tiny_clip)
    with Index.open(tmp_path / "i", tiny_clip) as index:
        with pytest.raises(InputError, match="a gallery must be a path"):
            index.add_folder(name)
        with pytest.raises(InputError, match=r"remove wants a list|must be a path"):
            index.remove(name)


def test_one_image_is_no_list_of_them(tiny_clip: LowClip, photos: dict[str, Path]) -> None:
    for one in (photos["ağ"], str(photos["ağ"]), photos["ağ"].read_bytes(), 5):
        for embed in (tiny_clip.embed_images, lambda images: list(tiny_clip.embed_each(images))):
            with pytest.raises(InputError, match="wants a list of images"):
                embed(one)
