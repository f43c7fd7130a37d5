"""Writes the tables of README.md from `benchmarks/results/*.json`.

python benchmarks/readme_tables.py          # rewrites README.md; a test checks that it is up to date
"""

import json
from typing import Any

from ablation_table import ablation_table
from export_table import export_table
from result_file import RESULTS
from runtime_table import runtime_table

README = RESULTS.parents[1] / "README.md"
_CASES = {
    "flickr8k test, az, text_to_image": "Flickr8k test, Azerbaijani → photo",
    "flickr8k test, az without diacritics": "the same typed without diacritics",
    "flickr8k test, az in capitals": "the same in capitals",
    "flickr8k test, az in capitals without dots": "the same in capitals of software that knows no İ",
    "flickr8k test, az in Cyrillic": "the same in Cyrillic",
    "flickr8k test, az with a typing error": "the same with a typing error",
    "flickr8k test, en, text_to_image": "Flickr8k test, English → photo",
    "gcompris94, az noun": "GCompris drawings, Azerbaijani noun",
    "twemoji, az name, seen concepts": "Twemoji (a vendor never trained on), Azerbaijani name, seen concepts",
    "twemoji, az name, unseen concepts": "Twemoji, concepts unseen in training",
}
_FIRST = next(iter(_CASES))
_METRICS = ("R@1", "R@5", "R@10", "mAP")
_PRECISIONS = ("fp32", "fp16", "int8")
_AGREEMENT = ("mean_cosine", "min_cosine", "centred_cosine", "top1_agreement")
_WITHOUT = "own dims"  # cut to the projections' own, as `lowclip-export --dims` would
_GUESSED = (
    "guessed looks"  # the bundle of before, whose words met the classes whose names mean something like them
)
_PEERS = {_WITHOUT: "R@10 without concepts", _GUESSED: "R@10 with looks guessed from names"}
# of the very towers, before their concepts were coded anew: int8 and the fp32 bundle of the checkpoint
_INT8 = "quality_int8"


def main() -> None:
    """Rewrite README.md where its tables differ."""
    README.write_text(with_tables(README.read_text("utf-8")), "utf-8")


def with_tables(text: str) -> str:
    """`text` with every generated table as the result files have it."""
    tables = {
        "quality": _quality, "footprint": _footprint, "index": _index, "vocabulary": _vocabulary, "stages": _stages,
    }  # fmt: skip
    made = {name: table(_result(name)) for name, table in tables.items()}
    made |= {name: export_table(RESULTS / name) for name in ("export", "export_without_vnni")}
    made["runtime"] = runtime_table(RESULTS)
    made["ablation"] = ablation_table(RESULTS / "ablation")
    for name, table in made.items():
        opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = text.split(opening, 1)
        after = rest.split(closing, 1)[1]
        text = before + opening + table + closing + after
    return text


def _result(name: str) -> dict[str, Any]:
    result = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    assert isinstance(result, dict)
    return result


def _case(result: dict[str, Any], prefix: str) -> str:
    return str(next(r["case"] for r in result["rows"] if r["case"].startswith(prefix)))


def _quality(result: dict[str, Any]) -> str:
    value = {(r["case"], r["metric"]): r for r in result["rows"]}
    cases = list(dict.fromkeys(r["case"] for r in result["rows"]))
    lines = [
        f"| test | gallery | {' | '.join(_METRICS)} | {' | '.join(_PEERS.values())} |",
        "|---" * (len(_METRICS) + len(_PEERS) + 2) + "|",
    ]
    for prefix, title in _CASES.items():
        case = next(c for c in cases if c.startswith(prefix))
        cells = " | ".join(f"{value[case, metric]['ours']:.3f}" for metric in _METRICS)
        peers = " | ".join(f"{value[case, 'R@10']['peers'][name]:.3f}" for name in _PEERS)
        lines.append(f"| {title} | {case.rsplit(' ', 1)[1]} | {cells} | {peers} |")
    caltech = next(r for r in result["rows"] if r["metric"] == "precision@10")
    exported = _result(_INT8)
    agreement = {(r["case"], r["metric"]): r["ours"] for r in exported["rows"]}
    cosine = {kind: agreement[f"{kind} embeddings, flickr8k test", "mean cosine with the last peer"]
              for kind in ("image", "text")}  # fmt: skip
    first = _case(exported, _FIRST)
    recall = next(r for r in exported["rows"] if (r["case"], r["metric"]) == (first, "R@10"))
    apart = max(
        r["ours"]
        for r in (*exported["rows"], *result["rows"])
        if r["metric"].startswith("max abs difference")
    )
    lines += [
        "",
        f"Caltech-101, Azerbaijani label → photos of that class: precision@10 {caltech['ours']:.3f}, "
        f"{caltech['peers'][_WITHOUT]:.3f} without the dims of concepts, {caltech['peers'][_GUESSED]:.3f} with "
        f"looks guessed from names ({caltech['case'].rsplit(', ', 1)[1]}). All of the int8 bundle inside the package; "
        f"{_where(result)}.",
        "",
        "int8 against fp32, measured when these towers were exported, with random codes: "
        f"R@10 {recall['ours']:.3f} and {recall['peers']['fp32']:.3f} on Flickr8k test, "
        f"mean cosine {cosine['image']:.4f} image, {cosine['text']:.4f} text; {_where(exported)}. "
        f"An embedding in a batch of 32 differs from the same one alone by at most {apart:.1e}.",
        "",
    ]
    return "\n".join(lines)


def _footprint(result: dict[str, Any]) -> str:
    lines = ["| what | |", "|---|---|"]
    lines += [f"| {r['case']}: {r['metric']} | {r['ours']:.3g} {r['unit']} |" for r in result["rows"]]
    return "\n".join([*lines, "", f"Measured: {_where(result)}.", ""])


def _stages(result: dict[str, Any]) -> str:
    """How well each tower's final graph agrees with torch in each precision, and what it weighs."""
    of = {(r["case"], r["metric"]): r["ours"] for r in result["rows"]}
    towers = dict.fromkeys(case.rpartition(", ")[0] for case, _ in of)
    lines = [
        "| tower | fp32: cosine to torch, mean / least | fp16 | int8 | int8, centred | int8, same nearest | "
        "MB in fp32 / fp16 / int8 |",
        "|---" * 7 + "|",
    ]
    for tower in towers:
        told = {
            precision: [
                of[f"{tower}, {precision}", f"{metric}, torch to the final graph"] for metric in _AGREEMENT
            ]
            for precision in _PRECISIONS
        }
        cosines = [f"{told[precision][0]:.4f} / {told[precision][1]:.4f}" for precision in _PRECISIONS]
        sizes = " / ".join(f"{of[f'{tower}, {precision}', 'graph']:.0f}" for precision in _PRECISIONS)
        centred, nearest = told["int8"][2:]
        lines.append(f"| {tower} | {' | '.join(cosines)} | {centred:.4f} | {nearest:.2f} | {sizes} |")
    return "\n".join([*lines, "", f"Measured: {_where(result)}.", ""])


def _index(result: dict[str, Any]) -> str:
    """Of each way to hold vectors: what is found, what is kept in memory, how long a search takes."""
    of = {(r["case"], r["metric"]): {"int8": r["ours"], **r["peers"]} for r in result["rows"]}
    large, test = (
        "drawn vectors in 2000 clusters, gallery 100000",
        "flickr8k test photos, az captions, gallery 970",
    )
    lines = [
        "| dims | vectors | R@10, Flickr8k test, Azerbaijani (gallery 970) | bytes a vector in memory | "
        "search of 100,000, ms of processor time |",
        "|---|---|---|---|---|",
    ]
    for dims in (256, 128, 64):
        for kind in ("float32", "int8", "binary"):
            recall = of[f"{test}, {dims} dims", "R@10, caption to photo"][kind]
            held = of[f"{large}, {dims} dims", "what a search scans, kept in memory"][kind]
            taken = of[f"{large}, {dims} dims", "search, median of processor time"][kind]
            lines.append(f"| {dims} | {kind} | {recall:.3f} | {held:.0f} | {taken:.1f} |")
    return "\n".join([*lines, "", f"Measured: {_where(result)}.", ""])


def _vocabulary(result: dict[str, Any]) -> str:
    case = "mbert, cased, with word list"
    of = {r["metric"]: r for r in result["rows"] if r["case"] == case}
    rows = of["rows kept"]
    lines = [
        f"mBERT, {rows['peers']['whole']:,} → {rows['ours']:,} rows; re-segmented and unknown of held-out text:",
        "",
    ]
    for metric, r in of.items():
        if "running words" in metric:
            name = metric.split(",")[0]
            unknown = of[f"{name}: unknown tokens"]
            lines.append(
                f"- {metric} {r['ours']:.2f} %, unknown {unknown['peers']['whole']:.2f} → {unknown['ours']:.2f} %"
            )
    return "\n".join([*lines, ""])


def _where(result: dict[str, Any]) -> str:
    machine = result["machine"]
    vnni = "with" if machine["vnni"] else "without"
    return f"{result['date']}, {machine['cores']} cores ({machine['processor']}, {vnni} VNNI)"


if __name__ == "__main__":
    main()
