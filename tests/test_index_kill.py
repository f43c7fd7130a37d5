"""`kill -9` while indexing, at many moments: acknowledged photos survive, and a rerun completes the index."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lowclip_runtime.clip import LowClip
from lowclip_runtime.index import Index, verify_index
from lowclip_runtime.photo_record import record_id
from lowclip_runtime.points import Point
from lowclip_runtime.shard import Shard, Vectors

PHOTOS = 480
BATCH = 8
KILLS = 8
REBUILD_DIMS = 32
# prints the paths it embeds, and, once a batch is on the disk, how many photos are settled
PROGRAM = """
import os, sys
from lowclip_runtime import indexing
from lowclip_runtime.clip import LowClip
from lowclip_runtime.index import Index

def tell(*words):  # in one write, which neither a kill nor another thread can tear
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

indexing.BATCH_SIZE = indexing.STORE_BATCH = int(sys.argv[4])
read, embed = LowClip.read_pixels, LowClip.embed_pixels
name_of = {}

def remembered(self, image):
    pixels = read(self, image)
    name_of[pixels.tobytes()] = image.name.rpartition("/")[2]
    return pixels

def told(self, pixels):
    for one in pixels:
        tell("embeds", name_of[one.tobytes()])
    return embed(self, pixels)

LowClip.read_pixels, LowClip.embed_pixels = remembered, told
with Index.open(sys.argv[2], LowClip.open(sys.argv[1], threads=1), vectors=sys.argv[5]) as index:
    tell("opened", len(index))
    index.add_folder(sys.argv[3], progress=lambda done, total: tell("settled", done, total))
"""


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(PHOTOS):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
    return folder


def start(bundle: Path, index: Path, gallery: Path, vectors: Vectors) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PROGRAM, bundle, index, gallery, str(BATCH), vectors]
    return subprocess.Popen(list(map(str, arguments)), stdout=subprocess.PIPE, text=True)


def lines_until_killed(process: subprocess.Popen[str], after: int, delay_s: float) -> list[list[str]]:
    """Kill the process `delay_s` after its batch number `after`; give every line it printed."""
    assert process.stdout is not None
    lines, settled = [], -1  # the first `settled` line only says how much there is to do
    for line in process.stdout:
        lines.append(line.split())
        settled += line.startswith("settled")
        if settled == after:
            time.sleep(delay_s)
            process.kill()
            break
    lines += [line.split() for line in process.stdout]
    process.wait()
    process.stdout.close()
    return [line for line in lines if line]


@pytest.mark.slow
@pytest.mark.parametrize("vectors", ["float32", "int8"])
def test_killed_runs_lose_nothing_acknowledged_and_a_rerun_completes(
    tmp_path: Path, tiny_bundle: Path, tiny_clip: LowClip, gallery: Path, vectors: Vectors
) -> None:
    path = tmp_path / "photos.index"
    chance = random.Random(5)
    acknowledged = killed = 0
    embedded: list[str] = []
    for kill in range(KILLS):
        process = start(tiny_bundle, path, gallery, vectors)
        lines = lines_until_killed(process, after=kill % 3, delay_s=chance.choice([0, 0.002, 0.01, 0.03]))
        if process.returncode == 0:  # a machine so fast that nothing was left to do
            break
        assert process.returncode == -9
        killed += 1
        opened = next(int(line[1]) for line in lines if line[0] == "opened")
        assert opened >= acknowledged
        acknowledged = opened + max(int(line[1]) for line in lines if line[0] == "settled")
        embedded += [line[1] for line in lines if line[0] == "embeds"]
    assert killed >= 4 and acknowledged > 0

    with Index.open(path, tiny_clip) as index:
        before = len(index)
        assert before >= acknowledged
        report = index.add_folder(gallery)
        assert (report.added, report.unchanged, report.failed) == (PHOTOS - before, before, ())
        found = index.search("it", k=2 * PHOTOS)
        assert sorted(Path(hit.path).name for hit in found) == [f"{i:03}.png" for i in range(PHOTOS)]
    checked = verify_index(path, tiny_clip)  # the codes, too, are those of the photos
    assert (checked["photos"], checked["vectors"]) == (PHOTOS, vectors)
    # only the batch that a kill interrupted is embedded a second time
    assert len(embedded) - before <= KILLS * BATCH


@pytest.mark.slow
def test_killed_while_making_the_index_there_is_a_whole_one_or_none(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    path = tmp_path / "photos.index"
    program = """
import os, sys
from lowclip_runtime.clip import LowClip
from lowclip_runtime.index import Index
from lowclip_runtime.shard import Shard

real = Shard.create
Shard.create = lambda *arguments: (real(*arguments), os.kill(os.getpid(), 9))
Index.open(sys.argv[2], LowClip.open(sys.argv[1]))
"""
    result = subprocess.run([sys.executable, "-c", program, str(tiny_bundle), str(path)])
    assert result.returncode == -9
    assert not path.exists()
    with Index.open(path, LowClip.open(tiny_bundle)) as index:
        assert len(index) == 0
    assert [one.name for one in tmp_path.iterdir()] == ["photos.index"]  # and nothing of the killed one


REBUILD = """
import sys
from pathlib import Path
from lowclip_runtime import shard

shard.EXACT_BELOW = 1000
opened = shard.Shard.open(Path(sys.argv[1]))
print("opened", len(opened), flush=True)
while True:
    opened.compact(DIMS, ["album"])  # which makes the graph too
""".replace("DIMS", str(REBUILD_DIMS))


@pytest.mark.slow
def test_killed_while_compacting_and_building_the_graph_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "index" / "shard"
    path.parent.mkdir()
    rows = np.random.default_rng(0).standard_normal((1500, REBUILD_DIMS)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    points = [Point(record_id(f"/{i}"), {"album": ["x"]}, row) for i, row in enumerate(rows)]
    Shard.create(path, REBUILD_DIMS, ["album"])
    shard = Shard.open(path)
    shard.upsert(points)
    shard.close()
    chance = random.Random(1)
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", REBUILD, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "opened 1500\n"
        time.sleep(chance.uniform(0, 1))
        process.kill()
        process.communicate()
    shard = Shard.open(path)
    assert len(shard) == 1500
    assert all(shard.search(point.embedding, 1)[0].id == point.id for point in points[::50])
    shard.compact(REBUILD_DIMS, ["album"])  # also removes what the killed ones left
    shard.close()
    assert [one.name for one in path.parent.iterdir()] == ["shard"]
