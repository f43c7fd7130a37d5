"""What a thread can still do when the main thread of its program has come to the end."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lowclip_runtime.workers import Workers

_SAYS_WHEN_MAIN_HAS_ENDED = """
import sys, threading
from pathlib import Path
from lowclip_runtime import Index, LowClip

bundle, gallery, index, early = sys.argv[1:]
clip = LowClip.open(bundle, threads=2)
photos = [path for path in sorted(Path(gallery).iterdir()) for _ in range(20)]
if early == "early":  # the pools are there before the end
    clip.embed_images(photos[:40])

def work():
    while not threading._SHUTTING_DOWN:
        pass
    with Index.open(index, clip) as opened:
        print(opened.add_folder(gallery).added, len(opened.search("göy")))
    print(clip.embed_images(photos).shape[0] == len(photos), clip.embed_texts(["göy", "it"] * 20).shape[0])

threading.Thread(target=work).start()
"""


@pytest.mark.parametrize("early", ["early", "late"])
def test_a_thread_that_outlives_the_main_one_finishes_its_work(
    early: str, tiny_bundle: Path, photos: dict[str, Path], tmp_path: Path
) -> None:
    gallery = photos["göy"].parent
    arguments = [str(tiny_bundle), str(gallery), str(tmp_path / "i"), early]
    ended = subprocess.run(
        [sys.executable, "-c", _SAYS_WHEN_MAIN_HAS_ENDED, *arguments],
        capture_output=True, text=True, timeout=120, encoding="utf-8",
    )  # fmt: skip
    count = len(list(gallery.iterdir()))
    assert (ended.stdout.splitlines(), ended.stderr) == ([f"{count} {count}", "True 40"], "")


def test_what_waits_is_given_up_by_whoever_stops_early() -> None:
    done: list[int] = []
    has_stopped = threading.Event()

    def work(item: int) -> None:
        done.append(item)
        if item == 1:
            raise ValueError("one")
        assert item == 0 or has_stopped.wait(60)

    workers = Workers(1, "work")
    with pytest.raises(ValueError, match="one"):
        list(workers.each(work, range(10_000)))
    has_stopped.set()
    workers.close()
    assert done in ([0, 1], [0, 1, 2])  # one may have been begun
