"""`--quantize auto`: tries recipes on this machine and keeps the fastest whose quality holds.

Where no recipe holds as it is, the node groups that hurt most stay float (`sensitivity.py`). What was tried is
reported, kept or not.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from lowclip_export.onnx_edit import Feed
from lowclip_export.recipe import Recipe
from lowclip_export.sensitivity import GroupDamage, group_damage
from lowclip_runtime.cores import available_cores
from lowclip_runtime.schema import to_dict
from lowclip_runtime.session import session_options
from lowclip_train.progress import say

Drop = Callable[[onnx.ModelProto], float]  # points that a graph costs against fp32
_ROUNDS = 5
_TOLD = ("method", "ranges", "float_stem", "smoothing")  # by which the recipes of one tower differ
_MOST_FLOAT_GROUPS = 3  # beyond these little is left to be quantized


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe that was tried: milliseconds for a batch, and what it cost in points."""

    recipe: dict[str, Any]
    milliseconds: float
    drop: float
    within_limit: bool


@dataclass(frozen=True)
class Found:
    """The fastest graph within the limit, None where fp32 is; the report is the manifest's `recipe`."""

    graph: onnx.ModelProto | None
    report: dict[str, Any]


def search(
    recipes: Sequence[Recipe],
    make: Callable[[Recipe], onnx.ModelProto],
    reference: onnx.ModelProto,
    *,
    drop: Drop,
    feed: Feed,
    max_drop: float,
    kind: str,
) -> Found:
    """Try every recipe, and where the fastest costs too much also that one with its worst groups float.

    Args:
        make: carries a recipe out.
        reference: the fp32 graph.
        drop: measures what a graph costs.
        feed: the batch that speed is measured on.
        max_drop: the most points that the kept recipe may cost.
    """
    graphs = {recipe: make(recipe) for recipe in recipes}
    drops = {recipe: drop(graph) for recipe, graph in graphs.items()}
    milliseconds = interleaved_milliseconds(reference, graphs, feed)
    fastest = min(recipes, key=lambda recipe: milliseconds[recipe])
    damage: list[GroupDamage] = []
    if drops[fastest] > max_drop:
        damage = group_damage(graphs[fastest], reference, fastest, make, drop)
        eased = {one: make(one) for one in _eased(fastest, damage)}
        graphs |= eased
        drops |= {recipe: drop(graph) for recipe, graph in eased.items()}
        # all anew: what the machine did meanwhile would tell for or against those timed before
        milliseconds = interleaved_milliseconds(reference, graphs, feed)
    trials = [_trial(recipe, milliseconds[recipe], drops[recipe], max_drop) for recipe in graphs]
    say(f"{kind} tower: fp32 {milliseconds[None]:.1f} ms a batch")
    for trial in trials:
        say(f"{kind} tower: tried {_told(trial)}")
    holding = [recipe for recipe in graphs if drops[recipe] <= max_drop]
    best = min(holding, key=lambda recipe: milliseconds[recipe], default=None)
    if best is not None and milliseconds[best] >= milliseconds[None]:
        best = None
    report = {
        **({} if best is None else to_dict(best)),
        "search": {
            "max_drop": max_drop,
            "fp32_milliseconds": round(milliseconds[None], 3),
            "batch_size": len(next(iter(feed.values()))),
            "tried": [to_dict(trial) for trial in trials],
            "sensitivity": [to_dict(one) for one in damage],
        },
    }
    return Found(None if best is None else graphs[best], report)


def interleaved_milliseconds(
    reference: onnx.ModelProto, graphs: Mapping[Recipe, onnx.ModelProto], feed: Feed
) -> dict[Recipe | None, float]:
    """Median time of one run of each graph, under None of the fp32 one; every round runs all in turn."""
    options = session_options(available_cores())
    all_graphs: dict[Recipe | None, onnx.ModelProto] = {None: reference, **dict(graphs.items())}
    sessions = {
        recipe: ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for recipe, graph in all_graphs.items()
    }
    times: dict[Recipe | None, list[float]] = {recipe: [] for recipe in sessions}
    for round_number in range(_ROUNDS + 1):
        for recipe, session in sessions.items():
            started = time.perf_counter()
            session.run(None, dict(feed))
            if round_number:  # the first warms up
                times[recipe].append(1000 * (time.perf_counter() - started))
    return {recipe: float(np.median(taken)) for recipe, taken in times.items()}


def _eased(recipe: Recipe, damage: Sequence[GroupDamage]) -> list[Recipe]:
    """The recipe with its worst group float, its worst two, and so on."""
    worst = sorted(damage, key=lambda one: -one.drop)[:_MOST_FLOAT_GROUPS]
    return [
        replace(recipe, keep_float=tuple(name for one in worst[:count] for name in one.outputs))
        for count in range(1, len(worst) + 1)
    ]


def _trial(recipe: Recipe, milliseconds: float, drop: float, max_drop: float) -> Trial:
    return Trial(
        recipe=to_dict(recipe),
        milliseconds=round(milliseconds, 3),
        drop=round(drop, 4),
        within_limit=drop <= max_drop,
    )


def _told(trial: Trial) -> str:
    told = ", ".join(f"{key} {trial.recipe[key]}" for key in _TOLD if key in trial.recipe)
    kept = len(trial.recipe["keep_float"])
    verdict = "within the limit" if trial.within_limit else "too much"
    floats = f", {kept} nodes float" if kept else ""
    return f"{told}{floats}: {trial.milliseconds:.1f} ms, drop {trial.drop:.3f} points, {verdict}"
