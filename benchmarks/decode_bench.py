"""A photo's JPEG to the pixels that are resized, on one core: our decoder beside Pillow's, by the photo's size.

    python benchmarks/decode_bench.py --photos DIR

DIR holds photos of any size; ones of 12, 8, 5 and 3 megapixels are made of them (`large_photos.py`) and read from
memory. Each round decodes every photo by both, and both must come to the same pixels.
"""

import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import click
from large_photos import write_large_photos
from result_file import row, write_result

from lowclip_runtime import jpeg_scaled
from lowclip_runtime.clip import LowClip
from lowclip_runtime.preprocess import decode
from lowclip_runtime.spec import PreprocessSpec

_SIZES_PX = {
    "12 MP": (4000, 3000),
    "12 MP, progressive": (4000, 3000),
    "8 MP": (3264, 2448),
    "5 MP": (2592, 1944),
    "3 MP": (2048, 1536),
}


@click.command()
@click.option("--photos", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=8, show_default=True, help="Photos of each size.")
@click.option("--rounds", default=15, show_default=True)
@click.option("--bundle", default=None, help="Bundle folder [default: the shipped one].")
def main(photos: Path, count: int, rounds: int, bundle: str | None) -> None:
    """Measure and write the result."""
    if not jpeg_scaled.IS_COMPILED:
        raise click.ClickException(
            "lowclip_runtime._jpeg_scaled is not compiled; install a C compiler and the package again"
        )
    spec = LowClip.open(bundle).manifest.preprocess
    sources, rows = sorted(photos.rglob("*.jpg"))[:count], []
    for name, size in _SIZES_PX.items():
        with tempfile.TemporaryDirectory() as work:
            paths = write_large_photos(sources, Path(work), count, size, progressive="progressive" in name)
            files = [path.read_bytes() for path in paths]
        ours, pillow = _milliseconds(files, spec, rounds)
        scale = max(size) // decode(files[0], spec).width
        case = f"JPEG of {name}, {sum(map(len, files)) / count / 1e6:.1f} MB, to 1/{scale}"
        rows.append(
            row(
                case,
                "one photo",
                ours,
                unit="ms",
                higher_is_better=False,
                peers={"Pillow": pillow},
                rounds=rounds,
            )
        )
        click.echo(f"{case}: {ours:.1f} ms, Pillow {pillow:.1f} ms")
    click.echo(write_result("decode", rows))


def _milliseconds(files: list[bytes], spec: PreprocessSpec, rounds: int) -> tuple[float, float]:
    """Of one photo, by our decoder and by Pillow: the median round."""
    taken: dict[bool, list[float]] = {True: [], False: []}
    for round in range(-1, rounds):  # the first warms up
        pixels = {}
        for is_ours in taken:
            with mock.patch.object(jpeg_scaled, "IS_COMPILED", is_ours):
                start = time.perf_counter()
                decoded = [decode(file, spec) for file in files]
                seconds = time.perf_counter() - start
            if round >= 0:
                taken[is_ours].append(seconds / len(files) * 1000)
            pixels[is_ours] = [image.tobytes() for image in decoded]
        assert pixels[True] == pixels[False]
    return statistics.median(taken[True]), statistics.median(taken[False])


if __name__ == "__main__":
    main()
