r"""Writes the project's text normalization into a `tokenizer.json`, so that other clients need none of ours.

`lowclip_runtime.text.normalize_text` says what the normalization is; here it is spelled in the normalizers that
the tokenizers library and transformers.js both carry out. They run before the tokenizer's own. On a text that
`normalize_text` has made already they change nothing, so our runtime reads the very same token ids with them.

What they cannot do is told by `differences`. The patterns keep to what Oniguruma and JavaScript read alike: `\A`
rather than `^`, which Oniguruma takes for every line's start, and `\uHHHH` for what is not ASCII.
"""

import json
from pathlib import Path
from typing import Any

from lowclip_runtime.diacritics import AZERBAIJANI_LETTERS
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import AZERBAIJANI_CYRILLIC, TYPOGRAPHIC

# What `\s` of Python's `re` matches; Oniguruma and JavaScript each leave some of it out.
_WHITE_SPACE = r"[\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
_SYNTAX = frozenset(r"\^$.|?*+()[]{}/-")
Step = dict[str, Any]

_DIFFERENCES = (
    "A text of more than {max_tokens} tokens is cut: by transformers.js after that many tokens, without the end mark.",
    "A text that holds a special token's name, such as `<s>` or `[SEP]`, is normalized in parts, around it.",
    "An empty text is not refused, and one of thousands of characters is not cut before it is tokenized.",
)
_PREFIX_DIFFERENCE = "A text that begins with `{prefix}` already does not get it a second time."
_DIACRITICS_DIFFERENCE = (
    "Azerbaijani typed without diacritics (qirmizi masin), without some (qirmizi maşın), with other letters for them "
    "(ushaq), or in capitals without dots (DƏNIZ), is not read as if typed with them."
)
_MARKS_DIFFERENCE = (
    'Marks and emoji that touch words (#it, "it"), full stops behind names, drawn out letters (gözəəəl) and words '
    "for photos (pişik şəkilləri) are not taken off, and emoji that stand alone are not read by their names."
)
_SCRIPTS_DIFFERENCE = (
    "A word of both Latin and Cyrillic letters is not read in one of them, and ь and ъ stay."
)


def differences(spec: TextSpec) -> list[str]:
    """How a client that knows only the bundle's `tokenizer.json` departs from ours, as sentences."""
    told = [*_DIFFERENCES]
    told += [_PREFIX_DIFFERENCE] if spec.prefix else []
    told += [_DIACRITICS_DIFFERENCE, _MARKS_DIFFERENCE] if spec.restore_diacritics else []
    told += [_SCRIPTS_DIFFERENCE] if spec.restore_diacritics and spec.from_cyrillic else []
    return [sentence.format(max_tokens=spec.max_tokens, prefix=spec.prefix) for sentence in told]


def write_bundle_tokenizer(source: Path, target: Path, spec: TextSpec) -> None:
    """Copy a `tokenizer.json`, with the normalization of `spec` put before its own, and no blanks between values."""
    content = with_normalization(json.loads(source.read_text("utf-8")), spec)
    target.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), "utf-8")


def with_normalization(content: dict[str, Any], spec: TextSpec) -> dict[str, Any]:
    """The content of a `tokenizer.json` with the normalization of `spec`; unchanged where it has that already."""
    steps, own = normalization_steps(spec), _own_steps(content.get("normalizer"))
    if own[: len(steps)] == steps:
        return content
    return {**content, "normalizer": {"type": "Sequence", "normalizers": [*steps, *own]}}


def normalization_steps(spec: TextSpec) -> list[Step]:
    """`normalize_text` as normalizers in the order they run.

    The prefix is taken off first and put back last, so that it comes once, in its own case, whether or not
    `normalize_text` has put it there.
    """
    lower = _lower_azerbaijani() if spec.lowercase == "azerbaijani" else []
    steps = [
        {"type": "NFC"},
        *_typographic(),
        {"type": "NFC"},  # a letter and its mark may have stood apart, with a zero-width character between
        _replace(f"{_WHITE_SPACE}+", " "),
        {"type": "Strip", "strip_left": True, "strip_right": True},
        *lower,
        *(_cyrillic() if spec.from_cyrillic else []),
    ]
    if not spec.prefix:
        return steps
    return [_replace(rf"\A{_quoted(spec.prefix)}", ""), *steps, {"type": "Prepend", "prepend": spec.prefix}]


def _typographic() -> list[Step]:
    """One step for each replacement, in the order of the runtime's table."""
    groups: dict[str, str] = {}
    for character, replacement in TYPOGRAPHIC.items():
        groups[replacement or ""] = groups.get(replacement or "", "") + f"\\u{character:04x}"
    return [_replace(f"[{characters}]", replacement) for replacement, characters in groups.items()]


def _lower_azerbaijani() -> list[Step]:
    """I → ı where an Azerbaijani letter stands anywhere in the text: after it, or (second step) before it.

    The classes `[^…]*` keep the search for that letter from going back over what it has passed.
    """
    letter = AZERBAIJANI_LETTERS.pattern
    other = f"[^{letter[1:]}"
    return [
        _replace(f"I(?={other}*{letter})", "ı"),
        _replace(f"(?<={letter}{other}*)I", "ı"),
        _replace("İ", "i"),
        _replace(
            r"(?<=\p{L})Σ(?!\p{L})", "ς"
        ),  # `str.lower` does, the tokenizers library's Lowercase does not
        {"type": "Lowercase"},
        _replace(r"i\u0307+", "i"),  # İ as software lowers it that knows no Azerbaijani
        {"type": "NFC"},  # J̌ has no letter of its own, ǰ has
    ]


def _cyrillic() -> list[Step]:
    """What is lower case already, letter by letter."""
    letters = [_replace(f"\\u{ord(letter):04x}", latin) for letter, latin in AZERBAIJANI_CYRILLIC.items()]
    return [*letters, {"type": "NFC"}]  # a mark over a Cyrillic letter may have one over the Latin one


def _own_steps(normalizer: Any) -> list[Step]:
    if not normalizer:
        return []
    if normalizer["type"] == "Sequence":
        return list(normalizer["normalizers"])
    return [normalizer]


def _replace(pattern: str, content: str) -> Step:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _quoted(text: str) -> str:
    """`text` as a pattern that matches it; `re.escape` would put a backslash before the space too."""
    return "".join(f"\\{character}" if character in _SYNTAX else character for character in text)
