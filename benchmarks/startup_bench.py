"""From the start of a process to the first answer: wall time and memory, beside the torch + transformers way.

    python benchmarks/startup_bench.py

Each round starts a new process that opens the shipped bundle and an index of 1,000 photos, embeds one text and
searches. The peer loads a text encoder of the same size with transformers and searches with numpy.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image
from result_file import row, write_result

from lowclip_runtime import Index, LowClip
from lowclip_train.torchvision_repair import import_torchvision

PHOTOS = 1000
# `getrusage` would tell what this program held when it started the process
_TOLD = "print(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line.startswith('VmHWM:')))"
OURS = f"""
import sys
from lowclip_runtime import Index, LowClip
with Index.open(sys.argv[1], LowClip.open(towers=("text",)), create=False) as index:
    assert len(index.search("dənizdə üzən it", k=10)) == 10
{_TOLD}
"""
# a torchvision beside it would only make it slower
_WITHOUT_TORCHVISION = "import sys; sys.modules['torchvision'] = None"
TRANSFORMERS = f"""
{_WITHOUT_TORCHVISION}
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[2]), AutoModel.from_pretrained(sys.argv[2]).eval()
gallery = np.load(sys.argv[3], mmap_mode="r")
with torch.inference_mode():
    states = model(**tokenizer(["dənizdə üzən it"], return_tensors="pt")).last_hidden_state.mean(1)
query = states[0, : gallery.shape[1]].numpy()
assert len(np.argsort(-(gallery @ query))[:10]) == 10
{_TOLD}
"""
IMPORTS = {
    "ours": "from lowclip_runtime import Index, LowClip",
    "torch + transformers": f"{_WITHOUT_TORCHVISION}; import torch, transformers",
}


@click.command()
@click.option("--rounds", default=15, show_default=True)
def main(rounds: int) -> None:
    """Measure and write the result."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        _write_index(folder / "index", folder / "photos")
        _write_encoder(folder / "encoder", folder / "gallery.npy")
        arguments = [str(folder / "index"), str(folder / "encoder"), str(folder / "gallery.npy")]
        programs = {
            ("first answer", "ours"): OURS,
            ("first answer", "torch + transformers"): TRANSFORMERS,
            **{("imports", name): f"{code}\n{_TOLD}" for name, code in IMPORTS.items()},
        }
        # an installed package is compiled, as those of the peer are; the first round compiles a checkout
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        seconds: dict[tuple[str, str], list[float]] = {one: [] for one in programs}
        memory: dict[tuple[str, str], list[float]] = {one: [] for one in programs}
        for round in range(-1, rounds):  # the first warms the disk's cache
            for one, program in programs.items():
                start = time.perf_counter()
                result = subprocess.run(
                    [sys.executable, "-c", program, *arguments],
                    check=True,
                    capture_output=True,
                    text=True,
                    env=environment,
                )
                if round >= 0:
                    seconds[one].append(time.perf_counter() - start)
                    memory[one].append(float(result.stdout.split()[-1]))
    rows = []
    for case in ("first answer", "imports"):
        for metric, unit, values in (("wall time", "s", seconds), ("peak memory", "MB", memory)):
            median = {name: statistics.median(some) for (of, name), some in values.items() if of == case}
            rows.append(
                row(
                    case,
                    metric,
                    median.pop("ours"),
                    unit=unit,
                    higher_is_better=False,
                    peers=median,
                    rounds=rounds,
                )
            )
    click.echo(write_result("startup", rows))


def _write_index(path: Path, photos: Path) -> None:
    photos.mkdir()
    for i in range(PHOTOS):
        pixels = np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(photos / f"{i}.jpg")
    with Index.open(path, LowClip.open()) as index:
        assert index.add_folder(photos).added == PHOTOS


def _write_encoder(folder: Path, gallery: Path) -> None:
    """A text encoder of the shipped one's size, in the form that transformers loads fastest."""
    import_torchvision()  # before transformers, which imports it
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    clip = LowClip.open()
    vocab = clip.tokenizer.vocab_size
    config = BertConfig(
        vocab_size=vocab, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_file=str(clip.path / "tokenizer.json")).save_pretrained(folder)
    np.save(gallery, np.random.default_rng(0).standard_normal((PHOTOS, clip.dims)).astype(np.float32))


if __name__ == "__main__":
    main()
