"""What one translation run is asked to do, checked when built."""

from dataclasses import dataclass
from typing import Literal

EngineName = Literal["transformers", "ctranslate2"]


@dataclass(frozen=True, kw_only=True)
class TranslationConfig:
    """From which language to which, by which model, and what is good enough to keep.

    Attributes:
        model: hub name or local folder of a transformers seq2seq model; for `ctranslate2` a converted folder that
            also holds the tokenizer's files.
        source, target: the `lang` of the rows to translate, and of the new rows.
        source_code, target_code: what the model calls these languages, where the guess from `lang` is not wanted.
        device: `cpu`, `cuda` or `cuda:1`.
        batch_tokens: most source tokens in a batch, padding included.
        max_tokens: sentences of more source tokens are dropped.
        back_model: translates back, by the same engine; min_similarity: least cosine between a sentence and its
            back-translation; encoder: E5 text encoder (hub name or local folder) that says how similar they are.
    """

    model: str
    source: str
    target: str
    source_code: str | None = None
    target_code: str | None = None
    engine: EngineName = "transformers"
    device: str = "cpu"
    batch_tokens: int = 2048
    beams: int = 4
    max_tokens: int = 128
    back_model: str | None = None
    min_similarity: float | None = None
    encoder: str | None = None

    def __post_init__(self) -> None:
        problems = []
        for name in ("batch_tokens", "beams", "max_tokens"):
            if getattr(self, name) < 1:
                problems.append(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.source == self.target:
            problems.append(f"source and target must be two languages, not both {self.source!r}")
        if not self.target.strip():
            problems.append("target must be a language such as 'az', not empty")
        judging = {name: getattr(self, name) for name in ("back_model", "min_similarity", "encoder")}
        missing = [name for name, value in judging.items() if value is None]
        if 0 < len(missing) < 3:
            problems.append(
                f"back_model, min_similarity and encoder work together; {' and '.join(missing)} is not given"
            )
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            problems.append(f"min_similarity is a cosine in [-1, 1], not {self.min_similarity}")
        if problems:
            raise ValueError("; ".join(problems))
