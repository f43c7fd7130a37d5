"""Every tower in every way to run it, side by side: speed, agreement with torch, dependence on the batch, size.

    python benchmarks/export_bench.py [TOWER ...] --photos DIR --captions pairs.tsv --openvino-python PYTHON

writes one file and one plot per tower into `results/export/`, each time anew. `ours` is the int8 graph of
`lowclip-export` on the CPU provider. Rounds are interleaved: each runs every peer in turn. How peers are made is
`export_peers.py`, what becomes of the figures `export_rows.py`; PYTHON is that of an environment with
onnxruntime-openvino, `.[bench]` installs the others.
"""

import contextlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from export_elsewhere import FLOAT_ELSEWHERE, INT8_ELSEWHERE, Worker, ours_elsewhere
from export_inputs import Given, Subject, prepare
from export_peers import (
    Embeddings,
    Feed,
    Loaded,
    Peer,
    openvino_peers,
    ort_dynamic,
    ort_fp32,
    ort_static,
    ours,
    torch_compile,
    torch_eager,
)
from export_profile import operator_shares
from export_rows import (
    OURS,
    PROFILE_BATCH,
    QUALITY_BATCH,
    REFERENCE,
    Measured,
    peer_row,
    profile_rows,
    quality_rows,
    write_tower,
)
from export_towers import TOWERS
from plots import plot_tower
from result_file import RESULTS

SLOW_RUN_S, ROUNDS_WHEN_SLOW = 2.0, 3
_PATH = click.Path(exists=True, path_type=Path)
Makers = dict[str, Callable[[], Peer]]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much to measure."""

    batches: tuple[int, ...]
    lengths: tuple[int, ...]
    rounds: int
    seconds: float


@click.command()
@click.argument("towers", nargs=-1, type=click.Choice(TOWERS))
@click.option("--photos", type=_PATH, help="Folder of calibration photos [made-up pictures].")
@click.option("--captions", type=_PATH, help="pairs.tsv of those photos [a few sentences].")
@click.option(
    "--weights", multiple=True, metavar="TOWER=PATH", help="State dict or Hugging Face folder [random]."
)
@click.option(
    "--tokenizer", multiple=True, metavar="TOWER=FILE", help="tokenizer.json [learnt from the captions]."
)
@click.option("--openvino-python", type=click.Path(exists=True, path_type=Path), metavar="PYTHON")
@click.option("--batches", default="1,8,32", show_default=True)
@click.option("--lengths", default="16,32", show_default=True, help="Tokens of a text.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=0.5, show_default=True, help="Of one peer in one round; one run at least.")
@click.option("--calibration-items", default=128, show_default=True)
@click.option("--quality-items", default=32, show_default=True)
@click.option("--leave-out", multiple=True, metavar="PEER")
@click.option(
    "--out", type=click.Path(path_type=Path), default=RESULTS / "export", help="Folder of the results."
)
def main(
    towers: tuple[str, ...], photos: Path | None, captions: Path | None, weights: tuple[str, ...],
    tokenizer: tuple[str, ...], openvino_python: Path | None, batches: str, lengths: str, rounds: int,
    seconds: float, calibration_items: int, quality_items: int, leave_out: tuple[str, ...], out: Path,
) -> None:  # fmt: skip
    """Measure the TOWERS [all]."""
    logging.disable(logging.WARNING)  # exporters, quantizers and compilers tell of every node
    given = Given(
        photos=photos, captions=captions, weights=_named_paths(weights), tokenizers=_named_paths(tokenizer),
        calibration_items=calibration_items, quality_items=quality_items,
    )  # fmt: skip
    effort = Effort(batches=_numbers(batches), lengths=_numbers(lengths), rounds=rounds, seconds=seconds)
    for name in towers or TOWERS:
        started = time.perf_counter()
        measured = measure_tower(name, given, effort, openvino_python, dict.fromkeys(leave_out, "as asked"))
        path = write_tower(name, measured, out)
        plot_tower(path)
        click.echo(f"{path.name}: {(time.perf_counter() - started) / 60:.1f} min")


def measure_tower(
    name: str, given: Given, effort: Effort, openvino_python: Path | None, left_out: dict[str, str]
) -> Measured:
    """Build the tower and its peers, then measure them."""
    measured = Measured(left_out=left_out)
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as stack:
        folder = Path(work)
        subject = prepare(name, given, effort.lengths, folder)
        peers = list(built(peer_makers(subject, openvino_python, measured, stack), measured))
        for batch, length in cases(effort.batches, subject.lengths):
            peers = measure_case(batch, length, peers, subject, effort, measured)
        feed = subject.speed(PROFILE_BATCH, subject.lengths[-1])
        shares = operator_shares(subject.graph, feed, subject.source.threads, folder)
    measured.rows += quality_rows(measured)
    measured.rows.append(
        peer_row("all", "size", "MB", False, {peer.name: peer.megabytes for peer in peers}, 1)
    )
    measured.rows += profile_rows(shares)
    return measured


def peer_makers(
    subject: Subject, openvino_python: Path | None, measured: Measured, stack: contextlib.ExitStack
) -> Makers:
    """Every peer's name and how it is made; what cannot be made here is left out with its reason."""
    source, graph = subject.source, subject.graph
    makers: Makers = {
        OURS: lambda: ours(source, graph),
        REFERENCE: lambda: torch_eager(source),
        "torch_compile": lambda: torch_compile(source),
        "ort_fp32": lambda: ort_fp32(source),
        "ort_dynamic": lambda: ort_dynamic(source),
        "ort_static": lambda: ort_static(source),
    }
    try:
        makers |= openvino_peers(source)
    except ImportError as error:
        measured.left_out["openvino"] = f"{error}; install .[bench]"
    if openvino_python is None:
        measured.left_out |= dict.fromkeys(
            (INT8_ELSEWHERE, FLOAT_ELSEWHERE), "no --openvino-python was given"
        )
        return makers

    def elsewhere(name: str, graph: Path) -> Callable[[], Peer]:
        """A process each: one that crashes leaves the other."""
        return lambda: ours_elsewhere(
            name,
            source,
            graph,
            stack.enter_context(Worker(openvino_python, source.folder)),
            measured.versions,
        )

    return makers | {
        INT8_ELSEWHERE: elsewhere(INT8_ELSEWHERE, subject.standard_graph),
        FLOAT_ELSEWHERE: elsewhere(FLOAT_ELSEWHERE, subject.standard_float_graph),
    }


def built(makers: Makers, measured: Measured) -> Iterator[Peer]:
    """The peers that can be made."""
    for name, make in makers.items():
        if name in measured.left_out:
            continue
        try:
            yield make()
        except Exception as error:  # a peer may fail in any way; ours and the reference may not
            _leave_out(name, error, measured)


def measure_case(
    batch: int, length: int, peers: list[Peer], subject: Subject, effort: Effort, measured: Measured
) -> list[Peer]:
    """Speed at this shape, and quality where it is the shape for that; returns the peers that could run it."""
    feed = subject.speed(batch, length)
    loaded: dict[str, Loaded] = {}
    for peer in peers:
        try:
            loaded[peer.name] = peer.load(feed)
            loaded[peer.name].embed(feed)  # warms up; the first run of a shape allocates
        except Exception as error:
            loaded.pop(peer.name, None)
            _leave_out(peer.name, error, measured)
    if length == max(subject.lengths) and batch in (1, QUALITY_BATCH):
        embedded = measured.alone if batch == 1 else measured.together
        embedded |= {name: embed(one, subject.quality, batch) for name, one in loaded.items()}
    if batch in effort.batches:
        case = f"batch {batch}" if not length else f"{length} tokens, batch {batch}"
        unit = "images/s" if not length else "captions/s"
        times = interleaved(loaded, feed, effort)
        speeds = {name: batch / float(np.median(taken)) for name, taken in times.items()}
        rounds = len(next(iter(times.values())))
        measured.rows.append(peer_row(case, "speed", unit, True, speeds, rounds))
        click.echo(
            f"  {case}: " + ", ".join(f"{name} {speed:.4g}" for name, speed in speeds.items()), err=True
        )
    return [peer for peer in peers if peer.name in loaded]


def interleaved(loaded: Mapping[str, Loaded], feed: Feed, effort: Effort) -> dict[str, list[float]]:
    """Seconds per run of every peer in every round; fewer rounds where one run of one peer is slow."""
    times: dict[str, list[float]] = {name: [] for name in loaded}
    rounds = effort.rounds
    for done in range(effort.rounds):
        if done >= rounds:
            break
        for name, one in loaded.items():
            times[name].append(one.seconds_per_run(feed, effort.seconds))
        if max(taken[-1] for taken in times.values()) > SLOW_RUN_S:
            rounds = min(rounds, ROUNDS_WHEN_SLOW)
    return times


def embed(loaded: Loaded, items: list[Feed], batch: int) -> Embeddings:
    """(N, D) of the items in batches of exactly `batch`; alone, only the first few are needed."""
    if batch == 1:
        return np.concatenate([loaded.embed(item) for item in items[:QUALITY_BATCH]])
    wanted = np.arange(-(-len(items) // batch) * batch) % len(items)  # the last batch is filled up
    filled = [items[i] for i in wanted]
    batches = [filled[start : start + batch] for start in range(0, len(filled), batch)]
    rows = [
        loaded.embed({key: np.concatenate([one[key] for one in part]) for key in part[0]}) for part in batches
    ]
    return np.concatenate(rows)[: len(items)]


def cases(batches: tuple[int, ...], lengths: tuple[int, ...]) -> list[tuple[int, int]]:
    """(batch, length) of every case, and those that only quality needs."""
    wanted = {(batch, length) for length in lengths for batch in batches}
    return sorted(
        wanted | {(batch, max(lengths)) for batch in (1, QUALITY_BATCH)}, key=lambda c: (c[1], c[0])
    )


def _leave_out(name: str, error: Exception, measured: Measured) -> None:
    if name in (OURS, REFERENCE):
        raise error
    reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
    measured.left_out[name] = f"{type(error).__name__}: {reason}"
    click.echo(f"  {name} is left out: {measured.left_out[name]}", err=True)


def _named_paths(words: tuple[str, ...]) -> dict[str, Path]:
    named = dict(word.split("=", 1) for word in words if "=" in word)
    wrong = [word for word in words if word.split("=", 1)[0] not in TOWERS or "=" not in word]
    wrong += [path for path in named.values() if not Path(path).exists()]
    if wrong:
        raise click.BadParameter(f"{', '.join(wrong)}: expected TOWER=PATH of an existing file or folder")
    return {name: Path(path) for name, path in named.items()}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(word) for word in text.split(",")}))
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: expected numbers with commas between them") from error


if __name__ == "__main__":
    main()
