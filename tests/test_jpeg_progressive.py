"""Progressive JPEG decoded to an eighth by ourselves, from the scans that count, as Pillow does it from all of them."""

import io
import random
from itertools import pairwise

import pytest
from test_jpeg_scaled import SPEC, by_pillow, by_us, jpeg, needs_compiled, pixels
from tiny_pictures import scales_decoded_to

from lowclip_runtime import jpeg_scaled
from lowclip_runtime.preprocess import decode

pytestmark = needs_compiled


def scans(data: bytes) -> list[int]:
    """Where each scan's header begins, and the end of the picture."""
    places, at = [], 2
    while data[at + 1] != 0xD9:
        if data[at + 1] == 0xDA:
            places.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        while data[at] != 0xFF or data[at + 1] == 0 or 0xD0 <= data[at + 1] <= 0xD7:
            at += 1
    return [*places, at]


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [10, 75, 95])
@pytest.mark.parametrize("kind", ["photo", "noise"])
def test_as_pillow_decodes_it(kind: str, quality: int, subsampling: int) -> None:
    for width, height in ((64, 64), (121, 90), (8, 17), (33, 200), (200, 9)):
        for options in ({}, {"restart_marker_blocks": 3}, {"restart_marker_rows": 1}):
            image = pixels(kind, width, height)
            data = jpeg(image, quality=quality, subsampling=subsampling, progressive=True, **options)
            assert by_us(data) == by_pillow(data) is not None, (width, height, options)


def test_the_scans_of_other_coefficients_are_not_read() -> None:
    """Of luminance only the means count; what the other scans hold may even be damaged."""
    data = jpeg(pixels("photo", 120, 90), progressive=True, quality=90)
    damaged = bytearray(data)
    passed = 0
    for start, end in pairwise(scans(data)):
        header = start + 4
        if data[header] == 1 and data[header + 1] == 1 and data[header + 3] > 0:
            middle = (start + 10 + end) // 2
            damaged[middle : middle + 4] = b"\x55\x55\x55\x55"
            passed += 1
    assert passed >= 2
    assert by_us(bytes(damaged)) == by_us(data) == by_pillow(bytes(damaged))


def test_a_picture_without_all_its_scans_is_left_to_pillow() -> None:
    """libjpeg guesses what is missing from the blocks around."""
    data = jpeg(pixels("photo", 120, 90), progressive=True, quality=90)
    *places, end = scans(data)
    assert by_us(data) is not None
    for place in places:
        assert by_us(data[:place] + data[end:]) is None


def test_a_second_means_scan_and_a_refinement_of_nothing_are_left_to_pillow() -> None:
    data = jpeg(pixels("photo", 120, 90), progressive=True, quality=90)
    *places, end = scans(data)
    first = data[places[0] : places[1]]
    last = data[places[-1] : end]
    assert by_us(data[: places[1]] + first + data[places[1] :]) is None
    assert by_us(data[: places[1]] + last + data[places[1] :]) is None


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9, 0.999])
def test_truncated_is_left_to_pillow(cut: float) -> None:
    data = jpeg(pixels("photo", 90, 70), progressive=True)
    assert by_us(data) is not None
    assert by_us(data[: int(len(data) * cut)]) is by_us(data[:-2]) is None


def test_damaged_files_are_left_to_pillow_or_read_as_by_it() -> None:
    rng = random.Random(1)
    read = 0
    for number in range(400):
        image = pixels("photo", 40 + number % 50, 40)
        options = {"quality": rng.choice([30, 90]), "restart_marker_blocks": rng.choice([0, 2])}
        data = bytearray(jpeg(image, progressive=True, **options))
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(2, len(data))] = rng.randrange(256)
        damaged = bytes(data)
        try:
            ours = by_us(damaged)
        except OSError:
            continue  # not a JPEG any more
        if ours is not None:
            assert ours == by_pillow(damaged), number
            read += 1
    assert read > 20


@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_file_is_decoded_by_it_to_an_eighth_alone(
    subsampling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = scales_decoded_to(monkeypatch)
    for size, is_ours in (((213, 140), True), ((107, 70), False)):
        data = jpeg(pixels("photo", *size), progressive=True, subsampling=subsampling)
        fast = decode(io.BytesIO(data), SPEC)
        assert calls == ([8] if is_ours else [])
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(jpeg_scaled, "IS_COMPILED", False)
            assert decode(data, SPEC).tobytes() == fast.tobytes()


def test_means_of_one_component_come_by_its_own_rows() -> None:
    """Alone in a scan, luminance of 3×3 blocks has nine of them, in interleaved scans sixteen, four by four."""

    def segment(marker: int, *content: int) -> bytes:
        return bytes([255, marker, 0, len(content) + 2, *content])

    def scan(components: list[int], first: int, last: int, bits: str) -> bytes:
        numbers = [number for component in components for number in (component, 0)]
        bits += "1" * (-len(bits) % 8)
        data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
        return segment(0xDA, len(components), *numbers, first, last, 0) + data

    brighter, as_before = "0110000", "00"
    means = [brighter, as_before, brighter, brighter, as_before, as_before, brighter, as_before, brighter]
    data = b"".join(
        [
            b"\xff\xd8",
            segment(0xDB, 0, *[8] * 64),
            segment(0xC2, 8, 0, 24, 0, 20, 3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0),
            segment(0xC4, 0x00, 0, 2, *[0] * 14, 0, 5, 0x10, 1, *[0] * 15, 0),
            scan([1], 0, 0, "".join(means)),
            scan([2, 3], 0, 0, as_before * 8),
            *(scan([component], 1, 63, "0" * blocks) for component, blocks in ((1, 9), (2, 4), (3, 4))),
            b"\xff\xd9",
        ]
    )
    decoded = by_us(data)
    assert decoded == by_pillow(data) is not None
    assert list(decoded[::3]) == [144, 144, 160, 176, 176, 176, 192, 192, 208]
