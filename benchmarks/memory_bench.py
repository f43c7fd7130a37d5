"""The most memory that indexing many large photos, searching many, and embedding texts of any length take.

    python benchmarks/memory_bench.py --photos DIR

Every case is a process of its own. DIR holds photos of any size; 12-megapixel ones are made of them, and the others
are those with a few bytes behind their end, so that each has a content of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from large_photos import write_large_photos
from result_file import row, write_result

# `getrusage` would tell what this program held when it started the process
PEAK = """
def peak_mb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM:"))
"""
INDEXING = """
import json, sys
from lowclip_runtime import Index, LowClip

told = {}
def progress(done, total):
    told[done] = peak_mb()

with Index.open(sys.argv[1], LowClip.open(towers=("image",))) as index:
    report = index.add_folder(sys.argv[2], progress=progress)
assert not report.failed, report.failed
early = min(told[done] for done in told if done >= report.added // 10)
print(json.dumps({"peak": peak_mb(), "after a tenth": early, "photos": report.added}))
"""
SEARCHING = """
import json, sys
from lowclip_runtime import Index, LowClip

clip = LowClip.open(towers=("text",))
with Index.open(sys.argv[1], clip, create=False) as index:
    for i in range(200):
        assert len(index.search(f"dənizdə {i} it", k=10)) == 10
    print(json.dumps({"peak": peak_mb(), "photos": len(index)}))
"""
TEXTS = """
import json, random, resource
from lowclip_runtime import LowClip

def now_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

clip = LowClip.open(towers=("text",))
chance, words = random.Random(0), "dənizdə üzən ağ it qırmızı maşın böyük ağac altında oturan uşaqlar".split()
told = []
for _ in range(20):
    for _ in range(100):
        clip.embed_texts([" ".join(chance.choices(words, k=chance.randint(1, 60))) for _ in range(10)])
    told.append(now_mb())
print(json.dumps({"peak": peak_mb(), "after a tenth": told[1], "at the end": told[-1]}))
"""


@click.command()
@click.option("--photos", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=10_000, show_default=True, help="12-megapixel photos to index.")
@click.option("--gallery", default=100_000, show_default=True, help="Photos of the index that is searched.")
@click.option(
    "--work", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where photos are written."
)
def main(photos: Path, count: int, gallery: int, work: Path | None) -> None:
    """Measure and write the result."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        large = Path(folder) / "photos"
        _write_many(photos, large, count)
        indexing = _run(INDEXING, Path(folder) / "index", large)
        _fill(Path(folder) / "searched", gallery)
        searching = _run(SEARCHING, Path(folder) / "searched")
    texts = _run(TEXTS)
    case, words = f"indexing {count:,} photos of 12 MP", "20,000 texts of 1 to 60 words"
    rows = [
        _mb(case, "peak memory", indexing["peak"]),
        _mb(case, "peak memory after a tenth of them", indexing["after a tenth"]),
        _mb(f"searching {gallery:,} photos", "peak memory", searching["peak"]),
        _mb(words, "peak memory", texts["peak"]),
        _mb(words, "memory after a tenth of them", texts["after a tenth"]),
        _mb(words, "memory at the end", texts["at the end"]),
    ]
    click.echo(write_result("memory", rows))


def _mb(case: str, metric: str, value: float) -> dict[str, Any]:
    return row(case, metric, value, unit="MB", higher_is_better=False)


def _write_many(sources: Path, folder: Path, count: int) -> None:
    some = write_large_photos(sorted(sources.rglob("*.jpg"))[:50], folder / "0", min(count, 50))
    contents = [path.read_bytes() for path in some]
    for i in range(len(some), count):
        path = folder / str(i // 500) / f"IMG_{i:05}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents[i % len(contents)] + i.to_bytes(4, "big"))


def _fill(path: Path, size: int) -> None:
    """An index of drawn vectors, made by a process of its own."""
    program = (
        "import sys; from pathlib import Path; import search_bench as s; from lowclip_runtime import Index, LowClip;"
        "from lowclip_runtime.shard import Shard; path = Path(sys.argv[1]);"
        "Index.open(path, LowClip.open()).close(); shard = Shard.open(path / 'shard');"
        "s.fill(shard, s.drawn(int(sys.argv[2]))[0]); shard.close()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program, str(path), str(size)], check=True, env=environment)


def _run(program: str, *arguments: Path) -> dict[str, float]:
    command = [sys.executable, "-c", PEAK + program, *map(str, arguments)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    main()
