"""What exporting full-size towers costs and gives: peak memory and time of `lowclip-export`, size, byte-identity.

    python benchmarks/export_memory_bench.py --photos DIR --captions pairs.tsv --tokenizer mbert/tokenizer.json

Weights are random: neither memory nor size depends on them. Every export is the command itself, in a process
of its own; its peak is the resident set that the kernel counted since it was started (`getrusage` would begin with
the peak of this program, which builds the checkpoints).
"""

import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from export_towers import MBERT, build_model, made_up_tokenizer, manifest, settle_batch_norm
from result_file import row, write_result

from lowclip_export.calibration import made_up_samples
from lowclip_runtime.pairs import read_pairs
from lowclip_runtime.spec import PreprocessSpec
from lowclip_train.checkpoint import save_checkpoint

LARGE, SMALL = "vit_base_patch16_224", "efficientnet_b0"
_KIB_IN_GIB = 2**20
_POLL_S = 0.05
_PATH = click.Path(exists=True, path_type=Path)


@dataclass(frozen=True)
class Export:
    """One run of `lowclip-export`."""

    bundle: Path
    peak_gib: float
    minutes: float

    def total_bytes(self) -> int:
        """Of the whole bundle."""
        return sum(path.stat().st_size for path in self.bundle.rglob("*") if path.is_file())

    def graph_hashes(self) -> dict[str, str]:
        """SHA-256 of every graph file and its external data."""
        files = sorted((self.bundle / "onnx").iterdir())
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@click.command()
@click.option("--photos", type=_PATH, required=True, help="Folder of calibration photos.")
@click.option("--captions", type=_PATH, required=True, help="pairs.tsv of calibration captions.")
@click.option("--tokenizer", type=_PATH, help="mBERT's tokenizer.json [one learnt from the captions].")
@click.option("--corpus", multiple=True, type=_PATH, help="Chooses the trimmed vocabulary [the captions].")
@click.option("--out", type=click.Path(path_type=Path), default=None)
def main(
    photos: Path, captions: Path, tokenizer: Path | None, corpus: tuple[Path, ...], out: Path | None
) -> None:
    """Export the pairs and write the figures to OUT [results/export_memory.json]."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tokenizer = tokenizer or made_up_tokenizer(
            (p.caption for p in read_pairs(captions)), work / "made.json"
        )
        calibrated = ["--calibration", captions, "--images", photos]
        trim: list[str | Path] = [word for one in corpus or (captions,) for word in ("--trim-vocab", one)]
        large = export(random_checkpoint(LARGE, tokenizer, work / "large"), work / "large-int8", calibrated)
        checkpoint = random_checkpoint(SMALL, tokenizer, work / "small")
        whole = export(checkpoint, work / "fp32", ["--quantize", "none"])
        trimmed = export(checkpoint, work / "int8", [*calibrated, *trim])
        again = export(checkpoint, work / "again", [*calibrated, *trim])
        rows = figures(large, whole, trimmed, again)
    click.echo(write_result("export_memory", rows, out))


def figures(large: Export, whole: Export, trimmed: Export, again: Export) -> list[dict[str, Any]]:
    """The rows of the result file."""
    pair = f"{MBERT} + {LARGE}, int8"
    small = f"{MBERT} trimmed + {SMALL}, int8"
    peers = {f"untrimmed {MBERT} + {SMALL}, fp32": round(whole.total_bytes() / 1e6, 1)}
    same = trimmed.graph_hashes() == again.graph_hashes()
    return [
        row(pair, "peak memory of export", round(large.peak_gib, 2), unit="GiB", higher_is_better=False),
        row(pair, "time of export", round(large.minutes, 1), unit="min", higher_is_better=False),
        row(pair, "bundle", round(large.total_bytes() / 1e6, 1), unit="MB", higher_is_better=False),
        row(small, "peak memory of export", round(trimmed.peak_gib, 2), unit="GiB", higher_is_better=False),
        row(
            small,
            "bundle",
            round(trimmed.total_bytes() / 1e6, 1),
            unit="MB",
            higher_is_better=False,
            peers=peers,
        ),
        row(
            small,
            "fp32 bundle's size over this one's",
            round(whole.total_bytes() / trimmed.total_bytes(), 2),
            unit="x",
        ),
        row(small, "share of graph files equal byte by byte in two exports", float(same)),
    ]


def random_checkpoint(image: str, tokenizer: Path, folder: Path, text: str | None = MBERT) -> Path:
    """A whole checkpoint of the two named towers at full size; without a text one, of a small one."""
    model = build_model(image, text)
    noise = replace(made_up_samples(PreprocessSpec()), texts=())
    settle_batch_norm(
        model.image_tower.encoder, (f["pixel_values"] for f in noise.image_feeds(PreprocessSpec()))
    )
    save_checkpoint(folder, model, tokenizer, manifest(model, folder.name, text))
    return folder


def export(checkpoint: Path, bundle: Path, options: Sequence[str | Path]) -> Export:
    """Run the command and wait for it."""
    command = [str(Path(sys.executable).with_name("lowclip-export")), checkpoint, bundle, *options]
    started = time.perf_counter()
    process = subprocess.Popen(command)
    peak_kib = 0
    while process.poll() is None:
        peak_kib = max(peak_kib, _peak_kib(process.pid))
        time.sleep(_POLL_S)
    if process.returncode:
        raise click.ClickException(f"lowclip-export {bundle.name} failed; its last line says why")
    return Export(bundle, peak_kib / _KIB_IN_GIB, (time.perf_counter() - started) / 60)


def _peak_kib(pid: int) -> int:
    """It only grows, so that asking now and then misses nothing but what comes just before the end."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    main()
