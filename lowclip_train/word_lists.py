"""The word lists that the runtime reads Azerbaijani without diacritics by, made from texts of both languages.

    python -m lowclip_train.word_lists DATA OUT

DATA holds what its README describes; OUT gets `azerbaijani.words` and `english.words`, which go to
`lowclip_runtime/words`. Texts of the val and test splits are left out. Words of the texts count as often as they occur,
those of the word list, which is noisy, a hundredth: they decide only where no text, English or not, says anything.
"""

import csv
import gzip
import lzma
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from importlib.resources import files
from pathlib import Path

import click

from lowclip_runtime.cli.options import refuse_in_one_sentence
from lowclip_runtime.diacritics import without_diacritics
from lowclip_runtime.files import whole_file
from lowclip_runtime.loose_marks import without_drawn_out_letters
from lowclip_runtime.packed_lines import pack
from lowclip_runtime.pairs import read_pairs
from lowclip_runtime.text import lower_azerbaijani
from lowclip_runtime.word_list import typed_as
from lowclip_train.shipped_recipe import CLASS_NAMES, emoji_concepts, is_unseen, tab_separated_rows, things

_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[a-zəğışçöü]+")
_NOISY = 0.01
# Words that none of the texts has and that would be read as others, fog as skewers and the morning's as the town's;
# told by a language model, read by no native speaker.
_ALSO_MEANT = """
    asmağa asıb beli biz camisi donmuşdur donsun donur duzu mars marsla marslar marsı marsını
    məsəl məsəlin plus samanlar samanların sarını sarının sirkdir sirkdən sis sisdir sisdə sisdən sisi sisin sisini
    sisinin sisinə sislə sislər sislərdə sislərdən sisləri sislərin sislərinə surə surət sübhə süsəni süsənin
    səhərdir səhərdən səhəri səhərimiz səhərin səhərində səhərindən səhərinin səhərinə səhərlə səhərlərdə
    səhərlərdən səhərlərə səhərə sərab sərabdan sərabla sərablar sərabı sərabın sərf telə vali yarasanı yarısına
    yarısının
"""


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@refuse_in_one_sentence
def main(data: Path, out: Path) -> None:
    """Write the two word lists into OUT."""
    counts = {lang: _counts(texts(data, lang)) for lang in ("az", "en")}
    noisy = gzip.decompress((data / "text/tesseract_aze_wordlist.txt.gz").read_bytes()).decode("utf-8")
    lowered = map(lower_azerbaijani, noisy.split())
    # bıkə is what somebody made of bike
    likely = (word for word in lowered if without_diacritics(word) not in counts["en"])
    azerbaijani = lines(counts["az"], likely, set(_ALSO_MEANT.split()))
    out.mkdir(parents=True, exist_ok=True)
    for name, words in (("azerbaijani", azerbaijani), ("english", counts["en"])):
        with whole_file(out / f"{name}.words") as aside:
            aside.write_bytes(pack(sorted(words, key=typed_as), typed_as))


def texts(data: Path, lang: str) -> Iterator[str]:
    """Training captions, captions without photos, nouns, and names of things, and of emoji but those kept unseen."""
    for pair in read_pairs(data / "flickr8k/captions.tsv"):
        if pair.lang == lang and pair.split == "train":
            yield pair.caption
    for name in ("xtd200_az_en_tr", "flickr30k-200_az_en_tr"):
        for _, az, en, _ in tab_separated_rows(data / f"text/{name}.tsv"):
            yield az if lang == "az" else en
    for _, en, az in tab_separated_rows(data / "text/gcompris_words_en_az.tsv"):
        yield az if lang == "az" else en
    unseen = set()
    for row in emoji_concepts(data / "az-emoji/labels.tsv"):
        if is_unseen(row["key"]):
            unseen.add(row["en"].lower())
        else:
            yield f"{row['az']} {row['az_keywords']}" if lang == "az" else row["en"]
    yield from _class_names(lang)
    for thing, azerbaijani, _ in things():
        if thing.lower() not in unseen:
            yield from azerbaijani if lang == "az" else [thing]


def _class_names(lang: str) -> Iterator[str]:
    packed = files("lowclip_train") / "labels" / f"{CLASS_NAMES}.xz"
    rows = lzma.decompress(packed.read_bytes()).decode("utf-8").splitlines()
    for row in csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE):
        if row["lang"] == lang:
            yield row["caption"]


def lines(counts: Counter[str], noisy: Iterable[str], also: Collection[str] = ()) -> list[str]:
    """One line for each way to type without diacritics: its most frequent word, or else the one with most diacritics.

    It gets a `?` where what is typed is a word of the texts as well, or where all its words are of `noisy`. Words with
    other diacritics follow on the same terms. Words of `noisy` without diacritics are left out: many of them are no
    Azerbaijani; and those with drawn out letters, which no query keeps. Words of `also` may always be meant.
    """
    usable = (word for word in noisy if _LATIN.fullmatch(word) and word == without_drawn_out_letters(word))
    words = sorted({*counts, *usable, *also})
    alike: dict[str, list[str]] = {}
    for word in words:
        alike.setdefault(without_diacritics(word), []).append(word)
    found = []
    for typed, group in alike.items():
        meant = max(group, key=lambda word: (counts[word] or _NOISY, _diacritics(word)))
        others = [w for w in group if w != meant and (counts[w] or w in also or not counts[meant])]
        if meant != typed or counts[meant]:
            first = f"{meant}?" if typed in others else meant
            found.append(" ".join([first, *(word for word in others if word != typed)]))
    return found


def _counts(found: Iterable[str]) -> Counter[str]:
    words = (word for text in found for word in _WORD.findall(lower_azerbaijani(text)))
    return Counter(word for word in words if _LATIN.fullmatch(word))


def _diacritics(word: str) -> int:
    return sum(letter != typed for letter, typed in zip(word, without_diacritics(word), strict=True))


if __name__ == "__main__":
    main()
