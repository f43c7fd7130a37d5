"""From a folder of 12-megapixel JPEG to an index: photos a second, beside other libraries with the same network.

    python benchmarks/pipeline_bench.py --photos DIR

DIR holds photos of any size; 12-megapixel ones are made of them (`large_photos.py`). Peers are `pipeline_peers.py`;
they only embed, ours also hashes, notes facts and stores durably. Rounds are interleaved.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import click
import numpy as np
import pipeline_peers as peers
from large_photos import write_large_photos
from PIL import Image
from result_file import row, write_result

from lowclip_runtime import jpeg_scaled
from lowclip_runtime.clip import BATCH_SIZE, LowClip
from lowclip_runtime.index import Index
from lowclip_runtime.preprocess import decode, normalize, resize
from lowclip_runtime.stream import batches, done_ahead


@click.command()
@click.option("--photos", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=64, show_default=True, help="12-megapixel photos.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--bundle", default=None, help="Bundle folder [default: the shipped one].")
def main(photos: Path, count: int, rounds: int, bundle: str | None) -> None:
    """Measure and write the result."""
    clip = LowClip.open(bundle)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        paths = write_large_photos(sorted(photos.rglob("*.jpg"))[:count], folder / "photos", count)
        pixels = [one for one in map(clip.read_pixels, paths) if isinstance(one, np.ndarray)]
        runs: dict[str, Callable[[int], object]] = {
            "ours": lambda round: _index(clip, paths[0].parent, folder / f"index{round}"),
            "decoding alone": lambda _: _decode(clip, paths),
            "decoding alone, by Pillow": lambda _: _decode_by_pillow(clip, paths),
            "tower alone": lambda _: [clip.embed_pixels(some) for some in batches(pixels, BATCH_SIZE)],
            **{name: partial(_embed, peer, paths) for name, peer in _others(clip, folder).items()},
        }
        names = list(runs)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for round in range(-1, rounds):  # the first warms up
            for name in names:
                start = time.perf_counter()
                runs[name](round)
                if round >= 0:
                    seconds[name].append(time.perf_counter() - start)
                click.echo(f"{name}: {count / (time.perf_counter() - start):.1f} photos/s")
        speed = {name: count / statistics.median(some) for name, some in seconds.items()}
        quality = _quality(clip, paths)
        size_mb = sum(path.stat().st_size for path in paths) / count / 1e6
    rows = [
        row("12 MP JPEG folder", "photos per second", speed.pop("ours"), unit="photos/s", peers=speed, rounds=rounds),
        row("12 MP JPEG folder", "mean file size", size_mb, unit="MB"),
        row("scaled decoding", "mean cosine to decoding in full", quality[0], rounds=count),
        row("scaled decoding", "least cosine to decoding in full", quality[1], rounds=count),
    ]  # fmt: skip
    click.echo(write_result("pipeline", rows))


def _embed(peer: peers.Peer, paths: list[Path], _round: int) -> None:
    embeddings = peer(paths)
    assert embeddings.shape[0] == len(paths)


def _others(clip: LowClip, folder: Path) -> dict[str, peers.Peer]:
    return {
        "sentence-transformers": peers.sentence_transformers(clip, clip.threads),
        "fastembed, our graph": peers.fastembed(clip, clip.threads, folder / "fastembed", parallel=None),
        "fastembed, our graph, 2 processes": peers.fastembed(
            clip, clip.threads, folder / "fastembed", parallel=2
        ),
        "clip-retrieval's DataLoader, our graph": peers.clip_retrieval(clip, clip.threads),
        "rclip's loop, our graph": peers.rclip(clip, clip.threads),
    }


def _decode(clip: LowClip, paths: list[Path]) -> None:
    list(done_ahead(clip.read_pixels, paths, threads=clip.threads, ahead=32))


def _decode_by_pillow(clip: LowClip, paths: list[Path]) -> None:
    with mock.patch.object(jpeg_scaled, "IS_COMPILED", False):
        _decode(clip, paths)


def _index(clip: LowClip, photos: Path, path: Path) -> None:
    with Index.open(path, clip) as index:
        report = index.add_folder(photos)
    assert not report.failed and report.added == len(list(photos.iterdir()))


def _quality(clip: LowClip, paths: list[Path]) -> tuple[float, float]:
    """Cosine of the embeddings with scaled decoding to those without: mean and least."""
    spec = clip.manifest.preprocess
    fast = clip.embed_images(paths)
    full = []
    for path in paths:
        with Image.open(path) as image:
            image.load()  # no draft mode from here on
            pixels = resize(decode(image, spec), spec)
        full.append(
            clip.image_session.run("image_embeds", {"pixel_values": normalize(pixels[None], spec)})[0]
        )
    cosines = (fast * np.stack(full)).sum(axis=1)
    return float(cosines.mean()), float(cosines.min())


if __name__ == "__main__":
    main()
