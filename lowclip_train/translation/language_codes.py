"""What a translation model calls a language, read from its own vocabulary.

Models with many languages are told them by tokens: NLLB `azj_Latn`, M2M100 `__az__` and mBART-50 `az_AZ` mark the
source and begin the translation; Marian `>>aze_Latn<<` and MADLAD `<2az>` stand before the source and name the target.
A model without such tokens translates one pair of languages.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lowclip_runtime.errors import ConfigError

_MARKS_SOURCE = {
    "NLLB": re.compile(r"([a-z]{3}_[A-Z][a-z]{3})"),
    "M2M100": re.compile(r"__([a-z]{2,3})__"),
    "mBART": re.compile(r"([a-z]{2}_[A-Z]{2})"),
}
_BEFORE_SOURCE = {
    "Marian": re.compile(r">>([\w-]+)<<"),
    "MADLAD": re.compile(r"<2([A-Za-z_-]+)>"),
}
_TOKEN_MARKS = re.compile(r">>|<<|<2|>|^__|__$")

# ISO 639-1 → ISO 639-3 codes, the individual language before its macrolanguage, and the script of today.
_LATIN = (
    "af:afr az:azj,aze bs:bos ca:cat ceb:ceb cs:ces cy:cym da:dan de:deu en:eng eo:epo es:spa et:est,ekk eu:eus "
    "fi:fin fr:fra ga:gle gd:gla gl:glg gn:grn,gug ha:hau hr:hrv ht:hat hu:hun id:ind ig:ibo is:isl it:ita jv:jav "
    "ku:kmr,kur lb:ltz lt:lit lv:lvs,lav mg:plt,mlg ms:zsm,msa mt:mlt nb:nob nl:nld nn:nno no:nob,nor om:gaz,orm "
    "pl:pol pt:por qu:quy,que ro:ron rw:kin sk:slk sl:slv so:som sq:als,sqi sv:swe sw:swh,swa tk:tuk tl:tgl,fil "
    "tr:tur uz:uzn,uzb vi:vie wo:wol xh:xho yo:yor zu:zul"
)
_OTHER_SCRIPTS = (
    "am:amh:Ethi ar:arb,ara:Arab as:asm:Beng ba:bak:Cyrl be:bel:Cyrl bg:bul:Cyrl bn:ben:Beng el:ell:Grek "
    "fa:pes,fas:Arab gu:guj:Gujr he:heb:Hebr hi:hin:Deva hy:hye:Armn ja:jpn:Jpan ka:kat:Geor kk:kaz:Cyrl "
    "km:khm:Khmr kn:kan:Knda ko:kor:Hang ky:kir:Cyrl lo:lao:Laoo mk:mkd:Cyrl ml:mal:Mlym mn:khk,mon:Cyrl "
    "mr:mar:Deva my:mya:Mymr ne:npi,nep:Deva or:ory,ori:Orya pa:pan:Guru ps:pbt,pus:Arab ru:rus:Cyrl "
    "sd:snd:Arab si:sin:Sinh sr:srp:Cyrl ta:tam:Taml te:tel:Telu tg:tgk:Cyrl th:tha:Thai ti:tir:Ethi "
    "tt:tat:Cyrl ug:uig:Arab uk:ukr:Cyrl ur:urd:Arab yi:ydd,yid:Hebr zh:zho:Hans"
)


def _languages() -> dict[str, tuple[tuple[str, ...], str]]:
    entries = [f"{entry}:Latn" for entry in _LATIN.split()] + _OTHER_SCRIPTS.split()
    split = [entry.split(":") for entry in entries]
    return {lang: (tuple(codes.split(",")), script) for lang, codes, script in split}


_LANGUAGES = _languages()


@dataclass(frozen=True, kw_only=True)
class LanguageCodes:
    """How to tell a model its two languages; everything is None for a model of one pair.

    Attributes:
        family: whose kind of codes these are.
        source, target: the codes, for `tokenizer.src_lang` and for people.
        source_prefix: token put before the source. first_token: token that the translation begins with.
    """

    family: str
    source: str | None = None
    target: str | None = None
    source_prefix: str | None = None
    first_token: str | None = None


def choose_codes(
    tokenizer: Any, model: str, languages: tuple[str, str], asked: tuple[str | None, str | None]
) -> LanguageCodes:
    """The codes of (source, target) `languages` in this model's own spelling; `asked` codes come first.

    Raises:
        ConfigError: the model has no such code (the nearest are named), or does not take any.
    """
    family, codes = _own_codes(tokenizer)
    if not codes:
        _check_pair(tokenizer, model, languages, asked)
        return LanguageCodes(family=family)
    if family in _BEFORE_SOURCE:
        if asked[0] is not None:
            raise ConfigError(f"{model} is told its target only; leave --source-code {asked[0]} out")
        target = _choose(codes, model, languages[1], asked[1], "--target-code")
        return LanguageCodes(family=family, target=target, source_prefix=codes[target])
    source = _choose(codes, model, languages[0], asked[0], "--source-code")
    target = _choose(codes, model, languages[1], asked[1], "--target-code")
    return LanguageCodes(family=family, source=source, target=target, first_token=codes[target])


def known_codes(tokenizer: Any, asked: tuple[str | None, str | None]) -> tuple[str | None, str | None]:
    """`asked` as far as this model can be told it, else None: a model for the way back may spell languages otherwise.

    One that is told its target only knows no source code, even where it has the language as a target.
    """
    family, codes = _own_codes(tokenizer)
    source, target = (code if code in codes else None for code in asked)
    return (source if family in _MARKS_SOURCE else None), target


def _own_codes(tokenizer: Any) -> tuple[str, dict[str, str]]:
    """The model's family, and code → token; a model of one pair has none."""
    tokens = _tokens(tokenizer)
    for family, pattern in {**_MARKS_SOURCE, **_BEFORE_SOURCE}.items():
        if codes := _codes(tokens, pattern):
            return family, codes
    return "one pair", {}


def _tokens(tokenizer: Any) -> Collection[str]:
    # M2M100's slow tokenizer keeps its language tokens out of its vocabulary
    return {*tokenizer.get_vocab(), *getattr(tokenizer, "lang_code_to_token", {}).values()}


def _codes(tokens: Collection[str], pattern: re.Pattern[str]) -> dict[str, str]:
    """Code → token, for all tokens of this kind."""
    found = ((pattern.fullmatch(token), token) for token in tokens)
    return {match[1]: token for match, token in found if match}


def _choose(codes: Mapping[str, str], model: str, lang: str, asked: str | None, option: str) -> str:
    wanted = lang if asked is None else asked
    bare = _TOKEN_MARKS.sub("", wanted)  # people may write the token as it stands: >>aze_Latn<<
    if bare in codes:
        return bare
    if asked is None:
        ranked = [(rank, code) for code in codes if (rank := _rank(code, lang)) is not None]
        if ranked:
            return min(ranked)[1]
    named = f"language code {wanted!r}" if asked is not None else f"code for the language {lang!r}"
    raise ConfigError(
        f"{model} knows no {named}; the nearest of its {len(codes)} are {', '.join(_nearest(codes, bare))}; "
        f"choose one with {option}"
    )


def _rank(code: str, lang: str) -> tuple[int, int] | None:
    """Smaller is the better spelling of `lang`; None is another language, or another script of it."""
    iso3, script = _LANGUAGES.get(lang, ((), ""))
    head, _, tail = code.replace("-", "_").partition("_")
    heads = (*iso3, lang)
    if head not in heads or (len(tail) == 4 and tail != script):
        return None
    return heads.index(head), 0 if tail == script else 1


def _nearest(codes: Collection[str], wanted: str) -> list[str]:
    iso3 = _LANGUAGES.get(wanted, ((), ""))[0]
    heads = (*iso3, wanted.partition("_")[0])
    same = sorted(code for code in codes if code.startswith(heads))
    close = difflib.get_close_matches(wanted, sorted(codes), n=3, cutoff=0.0)
    return list(dict.fromkeys([*difflib.get_close_matches(wanted, same, n=3, cutoff=0.0), *close]))[:3]


def _check_pair(
    tokenizer: Any, model: str, languages: tuple[str, str], asked: tuple[str | None, str | None]
) -> None:
    """A model of one pair takes no codes, and must not be of another pair where it says which."""
    given = [code for code in asked if code is not None]
    if given:
        raise ConfigError(
            f"{model} translates one pair of languages and takes no codes; leave {', '.join(given)} out"
        )
    for lang, attribute in zip(languages, ("source_lang", "target_lang"), strict=True):
        own = getattr(tokenizer, attribute, None)
        if own in _LANGUAGES and lang in _LANGUAGES and own != lang:
            raise ConfigError(
                f"{model} has the {attribute.replace('_lang', ' language')} {own!r}, not {lang!r}; "
                "name another model, or other languages with --from and --to"
            )
