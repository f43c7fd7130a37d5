"""What `run_evaluation` found, as tables for people: percent, with the size of the gallery beside every figure."""

from collections.abc import Iterator, Mapping
from typing import Any

from lowclip_runtime.one_line import on_one_line

Metrics = Mapping[str, float]
SHARES = ("R@1", "R@5", "R@10", "mAP")
_NAME_WIDTH = 15


class FiguresTable:
    """Lines of retrieval metrics, one below the other.

    Args:
        intervals: leave room for the interval of each figure.
    """

    def __init__(self, *, intervals: bool = False) -> None:
        self._intervals = intervals
        self._rows: list[list[str]] = []

    def add(self, name: str, gallery: int, metrics: Metrics, intervals: Mapping[str, Any] | None) -> None:
        """One line; `intervals` by the metrics' own names."""
        of = intervals or {}
        shares = [percent(metrics[share], of.get(share)) for share in SHARES]
        rank = f"{metrics['median_rank']:g}"
        if "median_rank" in of:
            rank += " [{:g}, {:g}]".format(*of["median_rank"])
        self._rows.append([on_one_line(name), f"{gallery:,}", *shares, rank])

    def __str__(self) -> str:
        name = max(_NAME_WIDTH, *(len(row[0]) + 1 for row in self._rows))
        share = 23 if self._intervals else 8
        widths = [9, *[share] * len(SHARES), 24 if self._intervals else 13]
        header = ["", "gallery", *SHARES, "median rank"]
        return "\n".join(
            f"{row[0]:<{name}}"
            + "".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))
            for row in (header, *self._rows)
        )


def percent(value: float, interval: list[float] | None = None) -> str:
    """A share as people read it: `14.3%`, or `14.3% [12.2, 16.5]`."""
    told = f"{value:.1%}"
    return told if interval is None else f"{told} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def main_table(report: Mapping[str, Any]) -> str:
    """Both directions of all pairs."""
    table = FiguresTable(intervals="intervals" in report)
    _add_directions(table, "", report)
    return str(table)


def further_tables(report: Mapping[str, Any]) -> Iterator[str]:
    """A table for each further thing that was asked for, with a line that says what it is."""
    intervals = "bootstrap" in report
    if "by_lang" in report:
        table = FiguresTable(intervals=intervals)
        for lang, told in report["by_lang"].items():
            _add_directions(table, f"{lang or 'no lang'} ", told)
        yield f"each language over the gallery of its own images\n{table}"
    if "robustness" in report:
        table = FiguresTable(intervals=intervals)
        told = report["robustness"]
        for row in told["rows"]:
            name = f"{row['lang']} {row['texts']}".strip()
            table.add(
                name, told["gallery"], row["text_to_image"], row.get("intervals", {}).get("text_to_image")
            )
        yield f"as people type, text to image, over one gallery\n{table}"
    if "classes" in report:
        yield _classes(report["classes"])
    if intervals:
        yield _how_intervals_were_drawn(report)


def _add_directions(table: FiguresTable, prefix: str, told: Mapping[str, Any]) -> None:
    sizes = {"text_to_image": told["gallery"], "image_to_text": told["queries"]}
    for direction, size in sizes.items():
        of = told.get("intervals", {}).get(direction)
        table.add(f"{prefix}{direction.replace('_', ' ')}", size, told[direction], of)


def _classes(told: Mapping[str, Any]) -> str:
    of = told.get("intervals", {})
    lines = [f"zero-shot, {told['images']:,} photos of {told['classes']:,} classes"]
    named = {
        "top-1": "photo to label, top-1",
        "top-5": "photo to label, top-5",
        "precision@10": "label to photo, precision@10",
    }
    lines += [f"{text:<30}{percent(told[name], of.get(name))}" for name, text in named.items()]
    return "\n".join(lines)


def _how_intervals_were_drawn(report: Mapping[str, Any]) -> str:
    drawn, of = report["bootstrap"], []
    if "gallery" in report:
        of.append("the queries, captions of one image together")
    if "classes" in report:
        of.append("the classes' photos (top-1, top-5) and labels (precision@10)")
    return (
        f"in brackets: {drawn['level']:.0%} intervals by {drawn['resamples']:,} bootstrap resamples of "
        f"{', and of '.join(of)} (seed {drawn['seed']})"
    )
