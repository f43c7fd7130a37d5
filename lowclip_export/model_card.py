"""The bundle's README.md: what the model is, how good it is, what export cost, and its limits."""

from collections.abc import Iterable, Set
from typing import Any

from lowclip_export.graph import OPSET
from lowclip_export.hf_tokenizer import differences
from lowclip_export.onnx_edit import CONTRIB
from lowclip_runtime.bundle import BundleManifest

_METRICS = ("R@1", "R@5", "R@10", "mAP", "median_rank")


def model_card(manifest: BundleManifest, domains: Set[str]) -> str:
    """Markdown, written from the manifest and the domains of the operators that its graphs use."""
    parts = [
        _header(manifest),
        _use(manifest, domains),
        _evaluation(manifest.evaluation),
        _parity(manifest.parity),
        _recipes(manifest),
        _data(manifest),
        _limits(manifest),
        f"## Licence\n\n{manifest.licence}\n",
    ]
    return "\n".join(part for part in parts if part)


def _header(manifest: BundleManifest) -> str:
    size = sum(entry.bytes for entry in manifest.files.values()) / 1e6
    return (
        f"# {manifest.name}\n\n"
        f"A LowCLIP bundle: an image tower and a text tower that embed photos and sentences into one space "
        f"of {manifest.dims} dimensions. Image tower {manifest.image_tower.precision}, text tower "
        f"{manifest.text_tower.precision}, {size:.1f} MB, exported {manifest.created}.\n"
    )


def _use(manifest: BundleManifest, domains: Set[str]) -> str:
    text, spec = manifest.text, manifest.preprocess
    notes = [
        f"`onnx` graphs: `pixel_values` (N, 3, {spec.size_px}, {spec.size_px}) → `image_embeds`; "
        f"`input_ids`, `attention_mask` (N, L up to {text.max_tokens}) → `text_embeds`. Both of unit norm.",
        f"ONNX opset {OPSET}; {_operators(manifest, domains)}.",
    ]
    code = (
        "```python\nfrom lowclip_runtime import LowClip\n\n"
        'clip = LowClip.open("THIS FOLDER")\n'
        'clip.embed_images(["photo.jpg"]) @ clip.embed_texts(["dənizdə üzən it"]).T\n```\n'
    )
    return f"## Use\n\n{code}\n{_bullets(notes)}\n{_other_clients(manifest)}"


def _other_clients(manifest: BundleManifest) -> str:
    size_px = manifest.preprocess.size_px
    code = (
        "```js\n"
        "import { AutoProcessor, AutoTokenizer, CLIPTextModelWithProjection, CLIPVisionModelWithProjection, "
        'RawImage }\n  from "@huggingface/transformers";\n\n'
        "const tokenizer = await AutoTokenizer.from_pretrained(FOLDER);\n"
        "const textModel = await CLIPTextModelWithProjection.from_pretrained(FOLDER);\n"
        'const inputs = tokenizer(["dənizdə üzən it"], { padding: true, truncation: true });\n'
        "const { text_embeds } = await textModel(inputs);\n"
        "const processor = await AutoProcessor.from_pretrained(FOLDER);\n"
        "const visionModel = await CLIPVisionModelWithProjection.from_pretrained(FOLDER);\n"
        'const { image_embeds } = await visionModel(await processor(await RawImage.read("photo.jpg")));\n```\n'
    )
    told = [
        *differences(manifest.text),
        f"A photo is resized by the client's own filter; one of {size_px} × {size_px} pixels is taken as it is.",
    ]
    return (
        "## Other clients\n\n"
        "transformers.js, onnxruntime-node and optimum-onnx (`ORTModelForCustomTasks`, with `subfolder` and "
        "`file_name`) give the same embeddings. `tokenizer.json` does all of LowCLIP's normalization (typographic "
        "marks, lower case, prefix), and `config.json` names the files for transformers.js: leave its `dtype` out."
        f"\n\n{code}\nThey differ from LowCLIP in this:\n\n{_bullets(told)}"
    )


def _bullets(lines: Iterable[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def _operators(manifest: BundleManifest, domains: Set[str]) -> str:
    if CONTRIB in domains:
        return "operators of onnxruntime's `com.microsoft` domain where fusion or int8 needs them"
    has_int8 = "int8" in (manifest.image_tower.precision, manifest.text_tower.precision)
    return "operators of the ONNX standard only" + (", int8 as QDQ pairs" if has_int8 else "")


def _evaluation(evaluation: dict[str, Any]) -> str:
    lines = []
    for name, languages in evaluation.items():
        for lang, one in languages.items():
            if lang == "parity":
                continue
            for when in [one_of for one_of in ("before", "after") if one_of in one]:
                figures = one[when]["text_to_image"]
                shown = " | ".join(f"{figures[metric]:.4g}" for metric in _METRICS)
                lines.append(f"| {name} | {lang} | {one['gallery']} | {when} | {shown} |")
    if not lines:
        return ""
    names = ("pairs", "language", "gallery", "quantization", *_METRICS)
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|"
    return (
        "## Text → image retrieval\n\nEvery caption is one query over the whole gallery; ties count against "
        f"the model.\n\n{head}\n" + "\n".join(lines) + "\n"
    )


def _parity(parity: dict[str, Any]) -> str:
    lines = [
        f"| {tower} | {stage} | {one['items']} | {one['mean_cosine']:.5f} | {one['min_cosine']:.5f} | "
        f"{one['centred_cosine']:.5f} | {one['top1_agreement']:.3f} |"
        for tower, stages in parity.items()
        for stage, one in stages.items()
        if "mean_cosine" in one
    ]
    invariance = [
        f"The largest difference between an embedding made alone and in a batch is "
        f"{stages['batch_invariance']['max_abs_difference']:.1e} ({tower} tower)."
        for tower, stages in parity.items()
        if "batch_invariance" in stages
    ]
    head = "| tower | stage | items | mean cosine | lowest | centred | same nearest |\n|---|---|---|---|---|---|---|"
    return (
        "## Parity\n\nEach stage against the one before; `whole` is the finished graph against torch.\n\n"
        + "\n".join([head, *lines, "", *invariance])
        + "\n"
    )


def _recipes(manifest: BundleManifest) -> str:
    towers = (("image", manifest.image_tower), ("text", manifest.text_tower))
    parts = [f"- {kind} tower: {_told(tower.recipe)}\n" for kind, tower in towers if tower.recipe]
    parts += [_search(kind, tower.recipe["search"]) for kind, tower in towers if "search" in tower.recipe]
    return "## Recipes\n\n" + "".join(parts) if parts else ""


def _told(recipe: dict[str, Any]) -> str:
    """A recipe in words; node names are many, and the manifest has them."""
    kept = len(recipe.get("keep_float", ()))
    told = [f"{key} {value}" for key, value in recipe.items() if key not in ("keep_float", "search")]
    return ", ".join([*told, f"{kept} nodes float"] if kept else told) or "kept in fp32"


def _search(kind: str, search: dict[str, Any]) -> str:
    """What `--quantize auto` tried."""
    lines = [
        f"| {_told(one['recipe'])} | {one['milliseconds']:.1f} | {one['drop']:.3f} | "
        f"{'yes' if one['within_limit'] else 'no'} |"
        for one in search["tried"]
    ]
    return (
        f"\nTried for the {kind} tower, on the exporting machine; fp32 took "
        f"{search['fp32_milliseconds']:.1f} ms for a batch of {search['batch_size']}:\n\n"
        f"| recipe | ms | drop in points | within {search['max_drop']:g} |\n|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n"
    )


def _data(manifest: BundleManifest) -> str:
    """What the checkpoint's lineage says it was trained on; empty where it says nothing."""
    lineage = manifest.lineage
    datasets = lineage.get("datasets")
    if not isinstance(datasets, dict) or not datasets:
        return ""
    lines = [
        f"- {name}: captions " + ", ".join(f"{split} {count:,}" for split, count in captions.items())
        for name, captions in datasets.items()
    ]
    known, left = lineage.get("concepts"), _dims_of_concepts(manifest)
    if isinstance(known, dict) and left:
        lines.append(
            f"- known by name, {known['names']:,} of them: {known['pretrained']:,} classes of the image encoder's "
            f"pretraining, {known['learned']:,} concepts of training images (the last {left} dimensions)"
        )
    if "recoded" in lineage:
        lines.append(
            "- these were named, and their codes made, once more after the export: parity, and what retrieval was "
            "before quantization, are of the bundle before"
        )
    starts = ", ".join(str(lineage[key]) for key in ("image_weights", "text_weights") if key in lineage)
    return "## Data\n\n" + "\n".join(lines) + (f"\n- starting weights: {starts}" if starts else "") + "\n"


def _limits(manifest: BundleManifest) -> str:
    trimmed = manifest.lineage.get("trimmed_vocabulary")
    lines = ["Small models confuse fine detail, counts and who does what; look at what is found."]
    if isinstance(trimmed, dict) and "rows_kept" in trimmed:
        lines.append(
            f"The vocabulary was trimmed from {trimmed['rows_before']:,} to {trimmed['rows_kept']:,} pieces; "
            "text in languages that the corpora did not hold is cut into small pieces or unknown."
        )
    if "dims_before_truncation" in manifest.lineage:
        lines.append(
            f"The embeddings were shortened from {manifest.lineage['dims_before_truncation']} to {manifest.dims} "
            "dimensions, which costs least where the model was trained for it (Matryoshka)."
        )
        if isinstance(known := manifest.lineage.get("concepts"), dict):
            lines.append(
                f"Of the {known['dims']} dimensions that knew things by name, "
                f"{_dims_of_concepts(manifest) or 'none'} are left."
            )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"


def _dims_of_concepts(manifest: BundleManifest) -> int:
    """How many of the embedding's last dimensions know things by name; they are what `--dims` cuts first."""
    known = manifest.lineage.get("concepts")
    cut = manifest.lineage.get("dims_before_truncation", manifest.dims) - manifest.dims
    return max(0, known["dims"] - cut) if isinstance(known, dict) else 0
