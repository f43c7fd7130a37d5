"""A folder as bad as they come: all that is good is indexed, all that is bad is told with its reason."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torture_folder import BAD, GOOD, Torture, write_torture_folder

from lowclip_runtime.clip import LowClip
from lowclip_runtime.index import Index, verify_index
from lowclip_runtime.indexing import IndexReport

FILES = 20 * (len(GOOD) + len(BAD))
KILLS = 20


@pytest.fixture
def gallery(tmp_path: Path) -> tuple[Path, Torture]:
    root = tmp_path / "photos"
    root.mkdir()
    return root, write_torture_folder(root, FILES, bad_share=0.15)


def check(report: IndexReport, torture: Torture) -> None:
    failed = dict(report.failed)
    assert set(failed) == set(torture.bad)
    for path, words in torture.bad.items():
        assert failed[path] and words in failed[path], (path, failed[path])
        assert "\n" not in failed[path]


def indexed(index: Index, root: Path) -> list[str]:
    hits = index.search("it", k=10 * FILES)
    return sorted(Path(hit.path).relative_to(root).as_posix() for hit in hits)


@pytest.mark.slow
def test_all_good_is_indexed_and_all_bad_is_told(
    tmp_path: Path, tiny_clip: LowClip, gallery: tuple[Path, Torture]
) -> None:
    root, torture = gallery
    told: dict[str, str] = {}
    with Index.open(tmp_path / "i", tiny_clip) as index:
        report = index.add_folder(root, on_failed=lambda path, reason: told.update({path: reason}))
        check(report, torture)
        assert told == dict(report.failed)
        assert report.added == len(torture.good) and report.duplicates == 0
        assert indexed(index, root) == sorted(torture.good)
        again = index.add_folder(root)
        assert (again.added, again.unchanged) == (0, len(torture.good))
        check(again, torture)


PROGRAM = """
import sys
from lowclip_runtime.clip import LowClip
from lowclip_runtime.index import Index

with Index.open(sys.argv[2], LowClip.open(sys.argv[1], threads=2)) as index:
    print("opened", len(index), flush=True)
    index.add_folder(sys.argv[3])
"""


@pytest.mark.slow
def test_twenty_kills_at_random_moments_lose_nothing(
    tmp_path: Path, tiny_bundle: Path, tiny_clip: LowClip, gallery: tuple[Path, Torture]
) -> None:
    root, torture = gallery
    path = tmp_path / "i"
    chance = random.Random(4)
    command = [sys.executable, "-c", PROGRAM, str(tiny_bundle), str(path), str(root)]
    before = 0
    for _ in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        opened = int(process.stdout.readline().split()[1])
        assert opened >= before  # nothing that was there is gone
        before = opened
        time.sleep(chance.uniform(0, 0.4))
        process.kill()
        process.communicate()
    with Index.open(path, tiny_clip) as index:
        check(index.add_folder(root), torture)
        assert indexed(index, root) == sorted(torture.good)
    assert verify_index(path, tiny_clip)["photos"] == len(torture.good)
