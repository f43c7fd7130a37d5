"""Memory that may still be had, the budget that decoding threads share, and what decoding really takes."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from lowclip_runtime.errors import ImageError
from lowclip_runtime.memory import MemoryBudget, available_memory_bytes
from lowclip_runtime.preprocess import decode
from lowclip_runtime.spec import PreprocessSpec

MIB = 1 << 20
SQUASH = PreprocessSpec(size_px=64)


def write(root: Path, files: dict[str, str]) -> None:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/meminfo": "MemTotal: 999 kB\nMemAvailable:    2048 kB\n"}, 2 * MIB),
        ({"proc/meminfo": "MemTotal: 999 kB\n"}, 64 * MIB),  # it does not say: what is installed
        (
            {
                "proc/meminfo": "MemAvailable: 99999 kB\n",
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/b/memory.current": "1\n",
                "sys/fs/cgroup/a/memory.max": f"{50 * MIB}\n",
                "sys/fs/cgroup/a/memory.current": f"{40 * MIB}\n",
                "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {4 * MIB}\nactive_file {3 * MIB}\n",
            },
            17 * MIB,  # the cache of files is given back when it is needed
        ),
        (
            {
                "proc/self/cgroup": "3:memory:/x\n",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": f"{30 * MIB}\n",
                "sys/fs/cgroup/memory/x/memory.usage_in_bytes": f"{31 * MIB}\n",
            },
            0,
        ),
    ],
)
def test_available_memory_by_system_and_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    sysconf = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * MIB // 4096}
    monkeypatch.setattr(os, "sysconf", sysconf.__getitem__)
    write(tmp_path, files)
    assert available_memory_bytes(tmp_path) == expected


def test_this_machine_has_some_memory() -> None:
    assert 16 * MIB < available_memory_bytes() < 1 << 50


def test_who_asks_for_more_than_is_left_waits_for_the_others() -> None:
    budget = MemoryBudget(10)
    holding, release, order = threading.Event(), threading.Event(), []

    def hold() -> None:
        with budget.reserved(7):
            holding.set()
            release.wait(10)
            order.append("first")

    first = threading.Thread(target=hold)
    first.start()
    holding.wait(10)
    with budget.reserved(3):  # there is still as much
        pass
    threading.Timer(0.05, release.set).start()
    with budget.reserved(8):
        order.append("second")
    first.join()
    assert order == ["first", "second"]
    with budget.reserved(10):  # all of it was given back
        pass


def test_a_budget_grows_with_what_there_is_but_one_that_was_given_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lowclip_runtime.memory.available_memory_bytes", lambda: 0)
    budget, given = MemoryBudget(), MemoryBudget(100)
    assert budget.total_bytes == 256 * MIB  # enough for a phone's photo, however busy the machine is
    assert not budget.holds(300 * MIB)
    monkeypatch.setattr("lowclip_runtime.memory.available_memory_bytes", lambda: 1000 * MIB)
    assert budget.holds(300 * MIB) and not budget.holds(501 * MIB) and not given.holds(101)
    with budget.reserved(500 * MIB):
        pass


def test_an_image_that_the_machine_cannot_hold_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    Image.new("RGB", (1000, 600)).save(path)
    with pytest.raises(ImageError, match=r"big\.png: the image has 1000×600 pixels .* shrink it first"):
        decode(path, SQUASH, budget=MemoryBudget(MIB))
    assert decode(path, SQUASH, budget=MemoryBudget(8 * MIB)).size == (1000, 600)


def test_a_large_jpeg_fits_where_it_is_decoded_smaller(tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    Image.new("RGB", (4000, 3000)).save(path)
    assert decode(path, SQUASH, budget=MemoryBudget(4 * MIB)).size == (500, 375)
    Image.new("RGB", (4000, 3000)).save(path, progressive=True)  # holds all coefficients, whatever the size
    with pytest.raises(ImageError, match="takes"):
        decode(path, SQUASH, budget=MemoryBudget(4 * MIB))


# prints what is reserved, and by how much the most memory that the process ever had grew, in bytes; `getrusage` would
# begin with what the parent holds, and see no growth below that
MEASURE = """
import sys
from PIL import Image
from lowclip_runtime.memory import MemoryBudget
from lowclip_runtime.preprocess import decode
from lowclip_runtime.spec import PreprocessSpec

class Told(MemoryBudget):
    def reserved(self, size_bytes):
        print(size_bytes)
        return super().reserved(size_bytes)

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))

spec = PreprocessSpec()
decode(sys.argv[2], spec)  # what a first decoding loads is not counted
before = peak()
decode(sys.argv[1], spec, budget=Told(1 << 40))
print(peak() - before)
"""
KINDS = {
    "rgb.png": ("RGB", {}),
    "grey.png": ("L", {}),
    "alpha.png": ("RGBA", {}),
    "palette.png": ("P", {"transparency": 0}),
    "deep.png": ("I;16", {}),
    "cmyk.tif": ("CMYK", {}),
    "plain.jpg": ("RGB", {}),
    "turned.jpg": (
        "RGB",
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
    ),
    "progressive.jpg": ("RGB", {"progressive": True}),
    "photo.webp": ("RGB", {"method": 0}),
    "alpha.webp": ("RGBA", {"method": 0}),
    "photo.avif": ("RGB", {"speed": 10}),
    "alpha.avif": ("RGBA", {"speed": 10}),
    "photo.jp2": ("RGB", {}),
    "packed.tif": ("RGB", {"compression": "tiff_lzw"}),
    "turned.png": (
        "RGB",
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
    ),
    "moving.gif": ("P", {}),
}


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="the system does not tell a process's peak"
)
@pytest.mark.parametrize("name", KINDS)
def test_decoding_takes_no_more_memory_than_is_reserved(tmp_path: Path, name: str) -> None:
    mode, options = KINDS[name]
    suffix = Path(name).suffix
    big, small = tmp_path / f"big{suffix}", tmp_path / f"small{suffix}"
    for path, size in ((big, (5000, 4000)), (small, (50, 40))):
        Image.effect_noise((size[0] // 10, size[1] // 10), 50).resize(size).convert(mode).save(
            path, **options
        )
    command = [sys.executable, "-c", MEASURE, str(big), str(small)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    reserved, taken = map(int, result.stdout.split())
    assert taken > reserved / 8  # what is measured is the decoding
    slack = 8 * MIB  # buffers of the decoders, which do not grow with the picture
    assert taken <= reserved + slack


def test_texts_that_differ_are_not_remembered() -> None:
    """In a process of its own; the library would keep 2 MB of these."""
    program = (
        "import random, resource\n"
        "from lowclip_runtime import LowClip\n"
        "def now():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()\n"
        "tokenizer, chance = LowClip.open(towers=('text',)).tokenizer, random.Random(0)\n"
        "words = 'dənizdə üzən ağ it qırmızı maşın böyük ağac altında oturan uşaqlar'.split()\n"
        "told = []\n"
        "for _ in range(2):\n"
        "    for _ in range(300):\n"
        "        tokenizer.token_ids([' '.join(chance.choices(words, k=20)) for _ in range(10)])\n"
        "    told.append(now())\n"
        "print(told[1] - told[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < MIB // 2
