"""All of `eval` on a bundle whose answers are known: languages, typing, intervals, examples, and what is refused."""

import json
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tiny_bundle import COLOURS

from lowclip_runtime.cli import main
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import ConfigError, DatasetError, InputError
from lowclip_runtime.evaluate import EmbeddedPairs, embed_pairs, evaluate
from lowclip_runtime.evaluation import EvaluationRequest, by_lang, run_evaluation
from lowclip_runtime.evaluation_sheet import RIGHT, WRONG_PLACE, draw_examples, examples, wrapped
from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_runtime.robustness import robustness
from lowclip_runtime.sheet import font

AZ = [Pair(f"{word}.png", f"{word} it", "az", "val") for word in COLOURS]
TR = [Pair("qara.png", "qara it", "tr", "val"), Pair("ağ.png", "qara it", "tr", "val")]


@pytest.fixture
def pairs(tmp_path: Path, photos: dict[str, Path]) -> Path:
    write_pairs(tmp_path / "pairs.tsv", [*AZ, *TR])
    return tmp_path / "pairs.tsv"


def eval_command(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["eval", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_each_language_alone_is_what_a_file_of_it_alone_gives(
    tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path
) -> None:
    embedded = embed_pairs(tiny_clip, [*TR, *AZ], tmp_path / "photos")
    found = by_lang(embedded)
    assert list(found) == ["az", "tr"]
    for lang, pairs in (("az", AZ), ("tr", TR)):
        alone = evaluate(tiny_clip, pairs, tmp_path / "photos")
        assert found[lang] == {name: alone[name] for name in found[lang]}
    assert (found["tr"]["gallery"], found["tr"]["queries"]) == (2, 2)
    assert found["tr"]["text_to_image"]["R@1"] == 0.5


def test_robustness_by_hand(tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path) -> None:
    """The tiny bundle reads capitals but neither Cyrillic nor plain letters: what it cannot read is unknown to it."""
    embedded = embed_pairs(tiny_clip, [*AZ, *TR], tmp_path / "photos")
    told = robustness(tiny_clip, embedded)
    assert (told["lang"], told["gallery"]) == ("az", 6)
    rows = {(row["lang"], row["texts"]): row for row in told["rows"]}
    assert list(rows) == [
        ("az", "clean"),
        ("az", "no diacritics"),
        ("az", "upper case"),
        ("az", "Cyrillic"),
        ("az", "typo"),
        ("tr", "clean"),
    ]
    first = {names: row["text_to_image"]["R@1"] for names, row in rows.items()}
    assert first["az", "clean"] == 1
    assert rows["tr", "clean"]["queries"] == 2 and first["tr", "clean"] == 0.5
    # "göy" → "goy" and the like are unknown, so five captions become one, which finds one picture at most; only "qara"
    # stays what it is
    assert 1 / 6 <= first["az", "no diacritics"] <= 2 / 6
    assert first["az", "Cyrillic"] <= 1 / 6
    assert first["az", "upper case"] == 1


def test_every_row_of_robustness_has_its_interval(
    tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path, pairs: Path
) -> None:
    request = EvaluationRequest(
        pairs=pairs, images=tmp_path / "photos", robustness=True, by_lang=True, bootstrap=50
    )
    report = run_evaluation(tiny_clip, request)
    assert report == run_evaluation(tiny_clip, request)
    assert report["bootstrap"] == {"resamples": 50, "seed": 0, "level": 0.95}
    parts = [report, *report["by_lang"].values(), *report["robustness"]["rows"]]
    assert len(parts) == 9
    for part in parts:
        for direction, intervals in part["intervals"].items():
            for metric, (low, high) in intervals.items():
                assert low <= part[direction][metric] <= high
    assert report["intervals"]["text_to_image"]["R@1"][0] < 1


def test_another_language_alone_is_typed_otherwise_too_but_not_in_cyrillic(
    tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path
) -> None:
    told = robustness(tiny_clip, embed_pairs(tiny_clip, TR, tmp_path / "photos"))
    assert [row["texts"] for row in told["rows"]] == ["clean", "no diacritics", "upper case", "typo"]
    english = [Pair("ağ.png", "white", "en")]
    with pytest.raises(DatasetError, match=r"lang 'az'.*\['en', 'tr'\].*--lang"):
        robustness(tiny_clip, embed_pairs(tiny_clip, [*TR, *english], tmp_path / "photos"))


def test_examples_are_drawn_by_lot_over_languages_and_images(
    tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path
) -> None:
    embedded = embed_pairs(tiny_clip, [*AZ, *TR], tmp_path / "photos")
    shown = examples(embedded, tmp_path / "photos", count=4, seed=1)
    assert len(shown) == 4 and {one.lang for one in shown} == {"az", "tr"}
    assert len({one.right for one in shown}) == 4
    assert shown == examples(embedded, tmp_path / "photos", count=4, seed=1)
    drawn = {
        tuple(one.query for one in examples(embedded, tmp_path, count=4, seed=seed)) for seed in range(8)
    }
    assert len(drawn) > 1
    assert len(examples(embedded, tmp_path, count=50)) == 6  # as many as there are images


def test_an_example_tells_ranks_as_the_metrics_do(
    tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path
) -> None:
    wrong = Pair("ağ.png", "qara it", "az")  # white is the opposite of black: last of six
    embedded = embed_pairs(tiny_clip, [wrong, *AZ[:4], AZ[5]], tmp_path / "photos")
    shown = examples(embedded, tmp_path / "photos", count=6)
    (last,) = [one for one in shown if one.right.name == "ağ.png"]
    assert last.right_rank == last.gallery == 6
    assert [rank for rank, _, _ in last.found] == [1, 2, 3, 4, 5]
    assert last.found[0][2].name == "qara.png"
    scores = [score for _, score, _ in last.found]
    assert scores == sorted(scores, reverse=True) and last.right_score < scores[-1]
    for one in shown:
        if one is not last:
            assert one.right_rank == 1 and one.found[0][2] == one.right


def test_of_photos_that_tie_but_for_rounding_the_right_one_is_shown_last() -> None:
    """Its rank counts those against it, and whichever photo stands at that rank is framed as the right one."""
    close = 0.6 + np.arange(7) * 7e-8
    images = np.stack([close, np.sqrt(1 - close**2)], axis=1).astype(np.float32)
    embedded = EmbeddedPairs(
        pairs=[Pair("6.png", "it")],
        gallery=[f"{i}.png" for i in range(7)],
        images=images,
        texts=np.array([[1, 0]], np.float32),
    )
    (shown,) = examples(embedded, "photos")
    assert shown.right_rank == 7
    assert [path.name for _, _, path in shown.found] == ["5.png", "4.png", "3.png", "2.png", "1.png"]


def count_of(image: Image.Image, colour: str) -> int:
    rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return int((np.asarray(image) == rgb).all(axis=2).sum())


def test_the_right_photo_is_framed_among_the_five_or_apart(
    tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path
) -> None:
    wrong = Pair("ağ.png", "qara it", "az")
    embedded = embed_pairs(tiny_clip, [wrong, *AZ[:4], AZ[5]], tmp_path / "photos")
    shown = examples(embedded, tmp_path / "photos", count=6)
    frame = 4 * 5 * 200 - 4 * 5 * 5  # four sides of 5 px of a square of 200 px
    right = draw_examples([one for one in shown if one.right_rank == 1][:1])
    assert count_of(right, RIGHT) >= frame and count_of(right, WRONG_PLACE) == 0
    apart = draw_examples([one for one in shown if one.right_rank == 6])
    assert count_of(apart, WRONG_PLACE) >= frame and count_of(apart, RIGHT) == 0
    assert count_of(apart.crop((5 * 212 + 12, 0, *apart.size)), WRONG_PLACE) >= frame


def test_long_captions_are_wrapped_and_endless_ones_end() -> None:
    caption = "qırmızı paltarlı qız dənizin sahilində qaçır və iki it onun arxasınca yüyürür"
    lines = wrapped(caption, font(20), 300)
    assert len(lines) > 2 and " ".join(lines) == caption
    assert all(font(20).getlength(line) <= 300 for line in lines)
    word = wrapped("ə" * 60, font(20), 300)
    assert len(word) > 2 and "".join(word).strip() == "ə" * 60
    endless = wrapped(f"{caption} " * 50, font(20), 300)
    assert len(endless) == 6 and endless[-1].endswith("…")
    assert all(font(20).getlength(line) <= 300 for line in endless)


def test_the_command_does_all_at_once(tiny_bundle: Path, pairs: Path, tmp_path: Path) -> None:
    for name, word in (("red", "qırmızı"), ("blue", "göy")):
        (tmp_path / "classes" / name).mkdir(parents=True)
        Image.open(tmp_path / "photos" / f"{word}.png").save(tmp_path / "classes" / name / "a.png")
    (tmp_path / "labels.tsv").write_text("class\taz\nred\tqırmızı\nblue\tgöy\n", "utf-8")
    options = (
        "--bundle", tiny_bundle, "--pairs", pairs, "--images", tmp_path / "photos", "--by-lang", "--robustness",
        "--bootstrap", 40, "--sheet", tmp_path / "out/sheet.png", "--sheet-queries", 3,
        "--classes", tmp_path / "classes", "--labels", tmp_path / "labels.tsv", "--template", "{} it",
    )  # fmt: skip
    result = eval_command(*options, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["classes"]["top-1"] == 1 and told["classes"]["templates"] == ["{} it"]
    assert set(told["by_lang"]) == {"az", "tr"} and len(told["robustness"]["rows"]) == 6
    with Image.open(tmp_path / "out/sheet.png") as image:
        assert image.format == "PNG"
    people = eval_command(*options).stdout
    for said in (
        "az text to image",
        "az no diacritics",
        "tr clean",
        "2 photos of 2 classes",
        "95% intervals by 40 bootstrap resamples of the queries, captions of one image together, and of the classes' "
        "photos (top-1, top-5) and labels (precision@10) (seed 0)",
    ):
        assert said in people, people


def test_classes_alone_need_no_pairs(tiny_bundle: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    write_pairs(tmp_path / "photos/labels.tsv", [Pair("göy.png", "göy"), Pair("sarı.png", "sarı")])
    result = eval_command("--bundle", tiny_bundle, "--classes", tmp_path / "photos/labels.tsv", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["classes"]["top-1"] == 1 and "gallery" not in told
    people = eval_command(
        "--bundle", tiny_bundle, "--classes", tmp_path / "photos/labels.tsv", "--bootstrap", 9
    ).stdout
    assert "resamples of the classes' photos (top-1, top-5) and labels (precision@10)" in people
    assert "queries" not in people


def test_what_does_not_go_together_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        EvaluationRequest(
            robustness=True,
            sheet=tmp_path / "a.jpg",
            templates=("x",),
            bootstrap=0,
            seed=-1,
            sheet_queries=99,
        )
    for said in (
        "--robustness wants --pairs",
        "--sheet wants --pairs",
        "give --pairs and --images, or --classes",
        "--template wants --classes",
        "'x' has no {}",
        "ends in .png, not a.jpg",
        "--sheet-queries must be 1 to 60, not 99",
        "--bootstrap must be 1 or more resamples, not 0",
        "--seed must be 0 or more, not -1",
    ):
        assert said in str(caught.value)
    assert eval_command("--pairs", tmp_path / "p.tsv").exit_code == 2
    assert eval_command("--by-lang", "--classes", tmp_path).exit_code == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"images": Path("x")}, "--images says nothing of class folders, leave it out"),
        ({"split": "test"}, "--split says nothing of class folders, leave it out"),
        ({"lang": "az"}, "--lang says nothing of class folders without --labels, leave it out"),
        ({"lang": "az", "labels": Path("l.tsv")}, None),
        ({"lang": "az", "split": "test", "images": Path("x"), "pairs": Path("p.tsv")}, None),
    ],
)
def test_what_class_folders_would_ignore_is_refused(
    tmp_path: Path, options: dict[str, Any], sentence: str | None
) -> None:
    if sentence is None:
        EvaluationRequest(classes=tmp_path, **options)
    else:
        with pytest.raises(ConfigError, match=f"^{sentence}$"):
            EvaluationRequest(classes=tmp_path, **options)


def test_labels_of_a_pairs_file_are_its_captions(tmp_path: Path, pairs: Path) -> None:
    EvaluationRequest(classes=pairs, lang="az", split="val", images=tmp_path)
    with pytest.raises(ConfigError, match=r"^--labels wants a folder of class folders, --classes is a file$"):
        EvaluationRequest(classes=pairs, labels=tmp_path / "labels.tsv")


def test_a_sheet_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, pairs: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for sheet, reason in ((tmp_path / "folder.png", "is a folder"), (pairs / "s.png", "is not a folder")):
        request = EvaluationRequest(pairs=pairs, images=tmp_path / "photos", sheet=sheet)
        with pytest.raises(InputError, match=reason):
            run_evaluation(NeverAsked(), request)


def test_a_sheet_is_not_written_over_a_photo(tmp_path: Path, pairs: Path, photos: dict[str, Path]) -> None:
    before = photos["göy"].read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    request = EvaluationRequest(pairs=pairs, images=tmp_path / "link", sheet=photos["göy"])
    with pytest.raises(InputError, match=r"over the photo .*göy\.png"):
        run_evaluation(NeverAsked(), request)
    assert photos["göy"].read_bytes() == before


class NeverAsked:
    """A model that must not be used."""

    def embed_images(self, *_: object) -> NoReturn:
        raise AssertionError("the work has begun")

    embed_texts = embed_images
