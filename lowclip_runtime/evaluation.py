"""Everything that can be asked of a model's quality in one run; `lowclip eval` and `lowclip-train eval` share it.

`EvaluationRequest` says what, `run_evaluation` does it. Each part has its own file: `evaluate.py` (retrieval),
`robustness.py`, `zero_shot.py`, `bootstrap.py` (intervals), `evaluation_sheet.py` (examples to look at).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowclip_runtime.bootstrap import Bootstrap
from lowclip_runtime.errors import ConfigError
from lowclip_runtime.evaluate import EmbeddedPairs, Embedder, OnProgress, embed_pairs, figures
from lowclip_runtime.evaluation_sheet import examples, write_examples
from lowclip_runtime.files import check_file_target
from lowclip_runtime.pairs import read_pairs
from lowclip_runtime.robustness import base_lang, robustness
from lowclip_runtime.sheet import refuse_a_photo
from lowclip_runtime.zero_shot import (
    PLACE,
    LabelledImages,
    labelled_pairs,
    read_class_folders,
    read_labels,
    zero_shot,
)

_MAX_EXAMPLES = 60  # on one sheet: more would be too high to look at


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What to measure, and on what.

    Attributes:
        pairs, images: the retrieval test, a pairs file and the folder of its images; `lang` and `split` filter it.
        by_lang: also each language alone, over the gallery of its own images.
        robustness: also the captions as people type them.
        bootstrap: resamples of the intervals; without it there are none.
        seed: of the intervals and of the choice of examples.
        sheet: PNG of `sheet_queries` example queries.
        classes: a folder of class folders, or a pairs file of which captions are labels (its images below `images`).
        labels: file that names the class folders, see `read_labels`; `templates` hold `{}` for the label.

    Raises:
        ConfigError: these do not go together; names every problem.
    """

    pairs: Path | None = None
    images: Path | None = None
    lang: str | None = None
    split: str | None = None
    by_lang: bool = False
    robustness: bool = False
    bootstrap: int | None = None
    seed: int = 0
    sheet: Path | None = None
    sheet_queries: int = 8
    classes: Path | None = None
    labels: Path | None = None
    templates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = [*self._missing(), *self._ignored(), *self._wrong()]
        if problems:
            raise ConfigError("; ".join(problems))

    def _missing(self) -> list[str]:
        """Parts that need another."""
        extras = {"by-lang": self.by_lang, "robustness": self.robustness, "sheet": self.sheet}
        problems = [f"--{name} wants --pairs" for name, asked in extras.items() if asked and not self.pairs]
        if not (self.pairs or self.classes):
            problems.append("give --pairs and --images, or --classes")
        if self.pairs and not self.images:
            problems.append("--pairs wants --images, the folder of its images")
        naming = {"labels": self.labels, "template": self.templates}
        return problems + [
            f"--{name} wants --classes" for name, asked in naming.items() if asked and not self.classes
        ]

    def _ignored(self) -> list[str]:
        """What no part of the work would look at."""
        if self.classes is None:
            return []
        if self.classes.is_file():
            return ["--labels wants a folder of class folders, --classes is a file"] if self.labels else []
        if self.pairs:
            return []
        unused = {"images": self.images, "split": self.split, "lang": None if self.labels else self.lang}
        return [
            f"--{name} says nothing of class folders{' without --labels' if name == 'lang' else ''}, leave it out"
            for name, given in unused.items()
            if given
        ]

    def _wrong(self) -> list[str]:
        """Values that cannot be."""
        problems = [
            f"the template {template!r} has no {PLACE} for the label"
            for template in self.templates
            if PLACE not in template
        ]
        if self.sheet and self.sheet.suffix.lower() != ".png":
            problems.append(f"--sheet is a PNG, give it a name that ends in .png, not {self.sheet.name}")
        if not 1 <= self.sheet_queries <= _MAX_EXAMPLES:
            problems.append(f"--sheet-queries must be 1 to {_MAX_EXAMPLES}, not {self.sheet_queries}")
        if self.bootstrap is not None and self.bootstrap < 1:
            problems.append(f"--bootstrap must be 1 or more resamples, not {self.bootstrap}")
        if self.seed < 0:
            problems.append(f"--seed must be 0 or more, not {self.seed}")
        return problems

    @property
    def intervals(self) -> Bootstrap | None:
        """How intervals are drawn, if they are."""
        return None if self.bootstrap is None else Bootstrap(resamples=self.bootstrap, seed=self.seed)


def run_evaluation(
    embedder: Embedder, request: EvaluationRequest, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Measure what `request` asks for.

    Returns:
        `gallery`, `queries`, `text_to_image`, `image_to_text` where there are pairs, and whatever was asked for of
        `intervals`, `by_lang` (language → the same), `robustness`, `classes`, `bootstrap` (how intervals were drawn).

    Raises:
        DatasetError: the pairs, labels or images cannot be read.
        ImageError: an image cannot be decoded.
        InputError: `sheet` cannot be written, or is one of the images.
    """
    if request.sheet:
        check_file_target(request.sheet)
    labelled = read_labelled(request)  # before the long work, as what it lacks is soon told
    report = _retrieval(embedder, request, on_progress) if request.pairs else {}
    if labelled is not None:
        templates = request.templates or (PLACE,)
        report["classes"] = zero_shot(embedder, labelled, templates, request.intervals, on_progress)
    drawn = request.intervals
    if drawn is not None:
        report["bootstrap"] = {"resamples": drawn.resamples, "seed": drawn.seed, "level": drawn.level}
    return report


def read_labelled(request: EvaluationRequest) -> LabelledImages | None:
    """The photos and labels that `--classes` names."""
    if request.classes is None:
        return None
    if request.classes.is_file():
        pairs = read_pairs(request.classes, lang=request.lang, split=request.split)
        return labelled_pairs(pairs, request.images or request.classes.parent)
    names = read_labels(request.labels, request.lang) if request.labels else None
    return read_class_folders(request.classes, names)


def _retrieval(
    embedder: Embedder, request: EvaluationRequest, on_progress: OnProgress | None
) -> dict[str, Any]:
    assert request.pairs and request.images  # checked when the request was built
    pairs = read_pairs(request.pairs, lang=request.lang, split=request.split)
    if request.robustness:
        base_lang(pairs)
    if request.sheet:
        refuse_a_photo(request.sheet, (request.images / one for one in {pair.image for pair in pairs}))
    embedded = embed_pairs(embedder, pairs, request.images, on_progress=on_progress)
    report = figures(embedded, request.intervals)
    if request.by_lang:
        report["by_lang"] = by_lang(embedded, request.intervals)
    if request.robustness:
        report["robustness"] = robustness(embedder, embedded, request.intervals)
    if request.sheet:
        shown = examples(embedded, request.images, count=request.sheet_queries, seed=request.seed)
        write_examples(request.sheet, shown)
    return report


def by_lang(embedded: EmbeddedPairs, bootstrap: Bootstrap | None = None) -> dict[str, Any]:
    """Language → what `figures` tells of its pairs alone, over the gallery of their own images."""
    langs = sorted({pair.lang for pair in embedded.pairs})
    return {lang: figures(embedded.of_lang(lang), bootstrap) for lang in langs}
