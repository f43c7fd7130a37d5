"""`lowclip-export` on a full disk and through a kill: OUT as it was, nothing left, one sentence if there can be one."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_export_refusals import OLD_MANIFEST, ROOT, content, write_old_bundle
from test_export_refusals import work as work

from lowclip_runtime.verify import verify_bundle

# Exports again and again, each time in a child of one process, which has imported everything once. The child of
# "limit N" may write no file of more than N bytes; that of "kill WHAT" is killed before the first file operation
# on the folder written aside whose event or arguments hold WHAT. Reads [OUT, job, value] and prints {"status",
# "errors"}, one a line.
IN_CHILDREN = """
import json, os, resource, signal, sys, traceback
import lowclip_export.export
from lowclip_export.cli import main

def kill_before(what):
    def hook(event, arguments):
        if not event.startswith(("open", "os.", "shutil.", "ctypes.dlsym")):
            return
        told = " ".join([event, *(os.fsdecode(one) for one in arguments if isinstance(one, (str, bytes, os.PathLike)))])
        if what in told and (".lowclip-" in told or event == "ctypes.dlsym"):
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

def export(out, job, value):
    os.dup2(os.open(out + ".errors", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.dont_write_bytecode = True  # the limit would cut it short
    if job == "kill":
        kill_before(value)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (value, value))
    try:
        main([sys.argv[1], out, "--quantize", "none", "--overwrite"], prog_name="lowclip-export")
    except SystemExit as left:
        return left.code or 0
    except BaseException:
        traceback.print_exc()
    return 99

for line in sys.stdin:
    out, job, value = json.loads(line)
    child = os.fork()
    if child == 0:
        status = export(out, job, value)
        sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(out + ".errors") as file:
        errors = file.read()
    os.remove(out + ".errors")  # before the answer, after which the folder is looked at
    print(json.dumps({"status": status, "errors": errors}), flush=True)
"""


@pytest.fixture
def export_in_child(work: Path) -> Iterator[Callable[[Path, str, object], dict[str, Any]]]:
    """(OUT, job, value) → what became of it."""
    command = [sys.executable, "-c", IN_CHILDREN, str(work / "checkpoint")]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout

        def export(out: Path, job: str, value: object) -> dict[str, Any]:
            print(json.dumps([str(out), job, value]), file=process.stdin, flush=True)
            result: dict[str, Any] = json.loads(next(line for line in process.stdout if line.startswith("{")))
            return result

        yield export
        process.stdin.close()


def assert_one_sentence(errors: str, reason: str) -> None:
    """The last line is the error; those before it tell of the progress."""
    *progress, last = errors.strip().splitlines()
    assert last.startswith("Error: ") and reason in last
    assert not any("Error" in line or "Traceback" in line for line in progress)


@pytest.mark.slow
def test_files_that_grow_too_large(
    tmp_path: Path, export_in_child: Callable[[Path, str, object], dict[str, Any]]
) -> None:
    """A limit on the size of files fails in the same write as a full disk does, and needs no disk."""
    old = write_old_bundle(tmp_path / "old")
    before = content(tmp_path)
    limit = 30_000  # bytes: less than the image tower's graph
    for out in (old, tmp_path / "new"):
        result = export_in_child(out, "limit", limit)
        assert result["status"] == 1, result
        assert_one_sentence(result["errors"], "File too large; free some space")
    assert content(tmp_path) == before


FILL_DISK = """
mount -t tmpfs -o size=200k tmpfs "$1" && cp -r "$2" "$1/old" || exit 77
for out in new old; do
    "$3" -c "from lowclip_export.cli import main; main()" "$4" "$1/$out" --quantize none --overwrite
    echo "status $?"
done
cd "$1" && find . -type f | sort && cat old/manifest.json
"""


@pytest.mark.slow
def test_a_full_disk(work: Path, tmp_path: Path) -> None:
    """A disk of 200 kB in a mount namespace of our own, which needs no privilege where the system allows it."""
    old = write_old_bundle(tmp_path / "old")
    (tmp_path / "disk").mkdir()
    script = ["sh", "-c", FILL_DISK, "sh", tmp_path / "disk", old, sys.executable, work / "checkpoint"]
    command = ["unshare", "--user", "--map-root-user", "--mount", *map(str, script)]
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0 and "status" not in result.stdout:
        pytest.skip(f"no mount namespace here: {result.stderr.strip()}")
    assert result.stdout.splitlines() == [
        "status 1", "status 1", "./old/manifest.json", "./old/onnx/vision_model.onnx", OLD_MANIFEST,
    ]  # fmt: skip
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 2 and "Traceback" not in result.stderr
    for line, out in zip(errors, ("new", "old"), strict=True):
        expected = f"Error: {tmp_path / 'disk' / out}: No space left on device; free some space"
        assert line.startswith(expected)


@pytest.mark.slow
def test_killed_at_any_moment_out_is_the_old_bundle_or_a_whole_new_one(
    tmp_path: Path, export_in_child: Callable[[Path, str, object], dict[str, Any]]
) -> None:
    new, old, other = (
        tmp_path / "new",
        write_old_bundle(tmp_path / "old"),
        write_old_bundle(tmp_path / "other"),
    )
    moments = [
        (new, "onnx/text_model", "nothing"),  # one graph is on the disk
        (new, "os.rename", "nothing"),  # all is on the disk, under another name
        (old, "manifest.json", "old"),
        (old, "renameat2", "old"),  # all is on the disk
        (other, "shutil.rmtree", "new"),  # the names are swapped, the old bundle is not removed yet
    ]
    before = content(old)
    for out, what, expected in moments:
        result = export_in_child(out, "kill", what)
        assert result["status"] == -9, (what, result)
        if expected == "nothing":
            assert not out.exists()
        elif expected == "old":
            assert content(old) == before
        else:
            verify_bundle(out)
        left = [path.name for path in tmp_path.iterdir() if path.name.startswith(f".{out.name}.")]
        assert len(left) == 1  # what the kill before this one left was removed


# Is killed as soon as the vocabulary is trimmed, which is written beside OUT for the minutes that follow.
TRIMS_AND_DIES = """
import os, signal, sys
import lowclip_export.export
from lowclip_export.cli import main
lowclip_export.export.float_image_tower = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main([*sys.argv[1:], "--quantize", "none"])
"""


def test_a_trimmed_vocabulary_that_a_kill_left_goes_with_the_next_export(work: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("red dog", "utf-8")
    (tmp_path / "tmp").mkdir()
    arguments = [
        str(work / "checkpoint"),
        str(tmp_path / "new"),
        "--trim-vocab",
        str(tmp_path / "corpus.txt"),
    ]
    command = [sys.executable, "-c", TRIMS_AND_DIES, *arguments]
    for _ in range(2):
        killed = subprocess.run(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")})
        assert killed.returncode == -signal.SIGKILL
        assert len(list(tmp_path.glob(".new.lowclip-*"))) == 1 and not list((tmp_path / "tmp").iterdir())
