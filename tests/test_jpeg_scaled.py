"""JPEG decoded to an eighth or a quarter by ourselves: as Pillow does it, to which we leave what we do not read."""

import io
import random
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny_pictures import scales_decoded_to

from lowclip_runtime import jpeg_scaled
from lowclip_runtime.preprocess import decode, resize
from lowclip_runtime.spec import PreprocessSpec

Table = tuple[list[int], list[int]]
SPEC = PreprocessSpec(size_px=16, decode_scale=1.0)
_SUBSAMPLING = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
needs_compiled = pytest.mark.skipif(not jpeg_scaled.IS_COMPILED, reason="there was no C compiler")


def test_it_is_compiled_where_there_are_a_compiler_and_pythons_headers() -> None:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
    assert jpeg_scaled.IS_COMPILED or not (shutil.which(compiler) and headers)


def pixels(kind: str, width: int, height: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(width * 1000 + height)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "corners":
        return rng.integers(0, 2, (height, width, 3), np.uint8) * np.uint8(255)
    few = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize((width, height))
    return np.clip(np.asarray(few, int) + rng.integers(-9, 10, (height, width, 3)), 0, 255).astype(np.uint8)


def jpeg(image: NDArray[np.uint8] | Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, "JPEG", **options)
    return out.getvalue()


def by_pillow(data: bytes, scale: int = 8) -> bytes:
    with Image.open(io.BytesIO(data)) as opened:
        opened.draft("RGB", (max(1, opened.width // scale), max(1, opened.height // scale)))
        return opened.tobytes()


def by_us(data: bytes, scale: int = 8) -> bytes | None:
    with Image.open(io.BytesIO(data)) as opened:
        return jpeg_scaled.decode(data, *opened.size, scale)


@needs_compiled
@pytest.mark.parametrize("subsampling", _SUBSAMPLING)
@pytest.mark.parametrize("quality", [10, 75, 88, 100])
@pytest.mark.parametrize("kind", ["photo", "noise"])
@pytest.mark.parametrize("scale", [8, 4])
def test_as_pillow_decodes_it(scale: int, kind: str, quality: int, subsampling: str) -> None:
    for width, height in ((64, 64), (121, 90), (8, 17), (33, 200), (200, 9)):
        for options in ({}, {"optimize": True}, {"restart_marker_blocks": 3}, {"restart_marker_rows": 1}):
            image = pixels(kind, width, height)
            data = jpeg(image, quality=quality, subsampling=_SUBSAMPLING[subsampling], **options)
            is_narrow = scale == 4 and width <= 16 and subsampling == "4:2:2"
            ours = by_us(data, scale)
            assert ours == (None if is_narrow else by_pillow(data, scale)), (width, height, options)


@needs_compiled
@pytest.mark.parametrize("scale", [8, 4])
def test_brightest_and_darkest_values(scale: int) -> None:
    """Large coefficients: left to Pillow or the same, and most of them are the same."""
    same = 0
    for quality in range(5, 100, 5):
        for subsampling in _SUBSAMPLING.values():
            data = jpeg(pixels("corners", 80, 56), quality=quality, subsampling=subsampling)
            ours = by_us(data, scale)
            assert ours in (None, by_pillow(data, scale))
            same += ours is not None
    assert same > 40


@needs_compiled
def test_chrominance_halved_in_height_alone() -> None:
    """A photo of 4:2:2 turned by its tags: Pillow cannot write one, but the same blocks are those of a narrower one."""
    data = bytearray(jpeg(pixels("photo", 64, 40), subsampling=1))
    frame = data.index(b"\xff\xc0")
    assert data[frame + 11] == 0x21
    data[frame + 5 : frame + 12] = bytes([0, 80, 0, 32, 3, data[frame + 10], 0x12])
    assert by_us(bytes(data)) == by_pillow(bytes(data)) is not None
    assert by_us(bytes(data), 4) is None  # rows above and below count there


@needs_compiled
@pytest.mark.parametrize("scale", [8, 4])
def test_damaged_files_are_left_to_pillow_or_read_as_by_it(scale: int) -> None:
    """Pillow forgives some damage; what we read of a damaged file must be what it reads."""
    rng = random.Random(0)
    read = 0
    for number in range(600):
        image = pixels("photo", 40 + number % 50, 40)
        data = bytearray(jpeg(image, quality=rng.choice([30, 90]), restart_marker_blocks=rng.choice([0, 2])))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(2, len(data))
            if rng.random() < 0.7:
                data[at] = rng.randrange(256)
            elif rng.random() < 0.5:
                del data[at : at + rng.randint(1, 30)]
            else:
                data[at:at] = rng.randbytes(rng.randint(1, 9))
        damaged = bytes(data)
        try:
            with Image.open(io.BytesIO(damaged)) as opened:
                if opened.mode != "RGB":
                    continue
            ours = by_us(damaged, scale)
        except OSError:
            continue  # not a JPEG any more
        if ours is not None:
            assert ours == by_pillow(damaged, scale), number
            read += 1
    assert read > 20


@needs_compiled
@pytest.mark.parametrize("scale", [8, 4])
@pytest.mark.parametrize("cut", [0.3, 0.9, 0.999])
def test_truncated_is_left_to_pillow(cut: float, scale: int) -> None:
    data = jpeg(pixels("photo", 90, 70))
    assert by_us(data, scale) is not None
    assert jpeg_scaled.decode(data[: int(len(data) * cut)], 90, 70, scale) is None
    assert jpeg_scaled.decode(data[:-2], 90, 70, scale) is None  # without its end marker


# Huffman tables: how many codes of one bit, of two, and their values
NOUGHT = ([1], [0])  # 0: no difference of a mean, or the end of a block
NOUGHT_AND_ELEVEN = ([0, 2], [0, 11])  # 01: a number of eleven bits follows


def by_hand(
    width: int, height: int, scan: str, *, sampling: int = 0x11, dc: Table = NOUGHT, ac: Table = NOUGHT
) -> bytes:
    """A JPEG of quantization 1 with these Huffman tables and these bits of its scan."""

    def segment(marker: int, *parts: bytes) -> bytes:
        data = b"".join(parts)
        return bytes([255, marker]) + (len(data) + 2).to_bytes(2, "big") + data

    def table(number: int, of: Table) -> bytes:
        counts, values = of
        return bytes([number, *counts, *[0] * (16 - len(counts)), *values])

    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    bits = scan + "1" * (-len(scan) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xDB, b"\0", b"\1" * 64),
            segment(0xC0, b"\x08", size, bytes([3, 1, sampling, 0, 2, 0x11, 0, 3, 0x11, 0])),
            segment(0xC4, table(0x00, dc), table(0x10, ac)),
            segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0])),
            data,
            b"\xff\xd9",
        ]
    )


@needs_compiled
def test_tables_and_sizes_that_libjpeg_refuses() -> None:
    fine = by_hand(8, 8, "00" * 3)
    assert by_us(fine) == by_pillow(fine) == b"\x80\x80\x80"
    of_ones = by_hand(8, 8, "00" * 3, dc=([2], [0, 1]))  # the second code is a one alone
    with pytest.raises(OSError, match="broken data stream"):
        by_pillow(of_ones)
    assert by_us(of_ones) is None
    widest = by_hand(65500, 8, "00" * 3 * 8188)
    assert by_us(widest) == by_pillow(widest) == b"\x80\x80\x80" * 8188
    assert by_us(by_hand(65501, 8, "00" * 3 * 8188)) is None


@needs_compiled
@pytest.mark.parametrize("scale", [8, 4])
def test_values_far_beyond_white_are_left_to_pillow(scale: int) -> None:
    """libjpeg clamps them with SIMD and lets them wrap around without."""
    greatest, end = "01" + "1" * 11, "00"
    for times, is_read in ((1, True), (4, False)):
        chrominance = "0" + greatest * times + end + "0" + end
        data = by_hand(16, 16, ("0" + end) * 4 + chrominance, sampling=0x22, ac=NOUGHT_AND_ELEVEN)
        assert by_us(data, scale) == (by_pillow(data, scale) if is_read else None)


@needs_compiled
def test_the_smallest_pictures_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1×1 pixels an eighth has the size of the whole, which shows the corner and not the mean."""
    data = bytearray(jpeg(pixels("corners", 8, 8), quality=95))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = bytes([0, 1, 0, 1])
    with_it = decode(bytes(data), SPEC).tobytes()
    monkeypatch.setattr(jpeg_scaled, "IS_COMPILED", False)
    assert decode(bytes(data), SPEC).tobytes() == with_it


@needs_compiled
def test_a_file_object_may_seek_without_saying_where_to() -> None:
    class Silent(io.BytesIO):
        def seek(self, *args: int) -> None:  # type: ignore[override]
            super().seek(*args)

    data = jpeg(pixels("photo", 160, 160))
    assert decode(Silent(data), SPEC).tobytes() == decode(data, SPEC).tobytes()


@needs_compiled
def test_what_follows_the_picture_is_not_looked_at() -> None:
    data = jpeg(pixels("photo", 90, 70))
    for scale in (8, 4):
        assert by_us(data + b"\xff\xd8 the second picture of an MPO", scale) == by_us(data, scale)


@needs_compiled
def test_other_kinds_are_left_to_pillow() -> None:
    image = Image.fromarray(pixels("photo", 64, 48))
    others = {
        "grey": jpeg(image.convert("L")),
        "CMYK": jpeg(image.convert("CMYK")),
        "RGB, by Adobe's marker or its names": jpeg(image, keep_rgb=True),
    }
    for name, data in others.items():
        assert by_us(data) is by_us(data, 4) is None, name
    for scale in (8, 4):
        assert (
            jpeg_scaled.decode(b"", 64, 48, scale) is jpeg_scaled.decode(b"\xff\xd8", 64, 48, scale) is None
        )
        assert jpeg_scaled.decode(jpeg(image), 48, 64, scale) is None  # the size that another marker gives
    assert by_us(jpeg(image, progressive=True), 4) is None
    for scale in (0, 1, 2, 16, -4):
        assert jpeg_scaled.decode(jpeg(image), 64, 48, scale) is None


def turned(data_of: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(data_of, exif=exif, quality=90)


@needs_compiled
@pytest.mark.parametrize("scale", [8, 4])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_same_photo_with_and_without_it(
    orientation: int, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (213, 140) if scale == 8 else (107, 70)
    data = turned(Image.fromarray(pixels("photo", *size)), orientation)
    calls = scales_decoded_to(monkeypatch)
    fast = decode(data, SPEC)
    monkeypatch.setattr(jpeg_scaled, "IS_COMPILED", False)
    slow = decode(data, SPEC)
    assert calls == [scale]
    assert fast.size == slow.size == ((27, 18) if orientation < 5 else (18, 27))
    assert fast.tobytes() == slow.tobytes()
    assert np.array_equal(resize(fast, SPEC), resize(slow, SPEC))


@needs_compiled
def test_only_a_quarter_or_less_of_files_that_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(data: bytes, width: int, height: int, scale: int) -> bytes | None:
        raise AssertionError

    monkeypatch.setattr(jpeg_scaled, "decode", never)
    image = pixels("photo", 60, 60)
    assert decode(jpeg(image), SPEC).size == (30, 30)  # a half: a quarter is smaller than the spec's 16 px
    monkeypatch.setattr(jpeg_scaled, "_LARGEST_BYTES", 100)
    assert decode(jpeg(pixels("photo", 160, 160)), SPEC).size == (20, 20)


@needs_compiled
def test_the_first_picture_of_several_in_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Image.fromarray(pixels("photo", 213, 140))
    out = io.BytesIO()
    first.save(out, "MPO", save_all=True, append_images=[first.rotate(180)])
    fast = decode(out.getvalue(), SPEC)
    assert by_us(out.getvalue()) == fast.tobytes()
    monkeypatch.setattr(jpeg_scaled, "IS_COMPILED", False)
    assert decode(out.getvalue(), SPEC).tobytes() == fast.tobytes()
