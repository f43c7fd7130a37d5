"""What a model expects of its inputs, as data: `PreprocessSpec` for images, `TextSpec` for text.

Checkpoint and bundle manifests carry both, and training, calibration, parity and serving all read them, so
the four can never disagree. How the specs are carried out is `preprocess.py` and `text.py`.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from lowclip_runtime.folder import is_utf8

Rgb = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class PreprocessSpec:
    """How an image becomes `pixel_values`.

    Attributes:
        size_px: height and width of `pixel_values`.
        resize_mode: `squash` scales the whole photo to a square and loses nothing at the borders; `shortest`
            scales the shorter side to `size_px / crop_pct` and cuts the centre.
        crop_pct: the share of the shorter side that the centre crop keeps (only for `shortest`).
        interpolation: Pillow filter, antialiased.
        mean, std: per RGB channel, for pixels scaled to 0..1.
        decode_scale: JPEG is decoded no smaller than this many times the target (0: always in full).
    """

    size_px: int = 224
    resize_mode: Literal["squash", "shortest"] = "squash"
    crop_pct: float = 1.0
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: Rgb = (0.5, 0.5, 0.5)
    std: Rgb = (0.5, 0.5, 0.5)
    decode_scale: float = 1.5

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= self.size_px <= 4096:
            problems.append(f"size_px must be in 1..4096, not {self.size_px}")
        if not 0 < self.crop_pct <= 1:
            problems.append(f"crop_pct must be in (0, 1], not {self.crop_pct}")
        if self.resize_mode == "squash" and self.crop_pct != 1.0:
            problems.append(f"crop_pct must be 1 where resize_mode is 'squash', not {self.crop_pct}")
        if not (min(self.std) > 0 and all(map(isfinite, (*self.mean, *self.std)))):
            problems.append(f"mean must be finite and std positive, too, not {self.mean} and {self.std}")
        if not 0 <= self.decode_scale <= 8:
            problems.append(f"decode_scale must be in 0..8, not {self.decode_scale}")
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """How text becomes `input_ids` and `attention_mask`.

    Attributes:
        prefix: put before every text after normalization (the e5 family wants `query: `).
        max_tokens: longer texts are cut to this many tokens, special tokens included.
        lowercase: `azerbaijani` lowers with İ → i and I → ı where the text is Azerbaijani; `none` keeps case.
        from_cyrillic: write Cyrillic letters as Azerbaijani Latin ones, for models that know no Cyrillic.
        restore_diacritics: write what people type as it is meant: Azerbaijani that lacks diacritics or spells letters
            by others, words of two scripts, letters drawn out, marks that touch words, emoji. See `normalize_text`.
        pad_token_id: the id that fills a row up to the longest of its batch.
    """

    prefix: str = ""
    max_tokens: int = 64
    lowercase: Literal["none", "azerbaijani"] = "none"
    from_cyrillic: bool = False
    restore_diacritics: bool = False
    pad_token_id: int = 0

    def __post_init__(self) -> None:
        problems = []
        if not 4 <= self.max_tokens <= 512:
            problems.append(f"max_tokens must be in 4..512, not {self.max_tokens}")
        if not 0 <= self.pad_token_id < 2**31:
            problems.append(f"pad_token_id must be 0 or more and fit 31 bits, not {self.pad_token_id}")
        if not is_utf8(self.prefix):
            problems.append(f"prefix must be valid UTF-8, not {self.prefix!r}")
        for name in ("from_cyrillic", "restore_diacritics"):
            if getattr(self, name) and self.lowercase != "azerbaijani":
                problems.append(f"{name} needs lowercase = 'azerbaijani', not {self.lowercase!r}")
        if problems:
            raise ValueError("; ".join(problems))
