"""`kill -9` while translating: what was acknowledged is not translated again, and the rerun writes the same pairs."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_translators import CAPTIONS

from lowclip_runtime.pairs import Pair, write_pairs

PROGRAM = "from lowclip_train.cli import main; main()"


def _start(pairs: Path, out: Path, model: Path) -> subprocess.Popen[str]:
    options = ["--model", model, "--from", "en", "--to", "az", "--batch-tokens", "8", "--beams", "2"]
    arguments = [sys.executable, "-c", PROGRAM, "translate", pairs, out, *options]
    return subprocess.Popen(list(map(str, arguments)), stderr=subprocess.DEVNULL, text=True)


def _acknowledged(cache: Path) -> int:
    """Whole lines after the first, which says what the file is."""
    return max(0, cache.read_bytes().count(b"\n") - 1) if cache.exists() else 0


def _kill_after(process: subprocess.Popen[str], cache: Path, lines: int) -> None:
    while process.poll() is None and _acknowledged(cache) < lines:
        time.sleep(0.002)
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_killed_run_is_resumed(tmp_path: Path, nllb: Path) -> None:
    rows = [Pair(f"{i % 9}.jpg", caption, "en", "train", str(i)) for i, caption in enumerate(CAPTIONS)]
    write_pairs(tmp_path / "pairs.tsv", rows)
    out, cache = tmp_path / "killed.tsv", tmp_path / "killed.cache.jsonl"
    acknowledged = 0
    for more in (1, 9):
        process = _start(tmp_path / "pairs.tsv", out, nllb)
        _kill_after(process, cache, acknowledged + more)
        assert process.returncode == -9, "it ended before it was killed"
        assert not out.exists() and not (tmp_path / "killed.report.json").exists()
        assert _acknowledged(cache) >= acknowledged + more
        acknowledged = _acknowledged(cache)
    assert _start(tmp_path / "pairs.tsv", out, nllb).wait() == 0
    report = json.loads((tmp_path / "killed.report.json").read_text("utf-8"))
    assert report["forward"]["from_cache"] == acknowledged
    assert report["forward"]["translated_now"] == len(CAPTIONS) - acknowledged
    assert _acknowledged(cache) == len(CAPTIONS), "nothing was translated twice"
    assert _start(tmp_path / "pairs.tsv", tmp_path / "whole.tsv", nllb).wait() == 0
    assert out.read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    assert [p.name for p in tmp_path.glob(".*")] == []
