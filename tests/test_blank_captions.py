"""What a caption of invisible characters is to every reader: none, named or left out like any other empty one. So is
one that no pairs.tsv can hold.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_images import jpeg, pairs_in, write_parquet, write_tar
from tiny_training import tiny_config

from lowclip_runtime.errors import DatasetError, TextError
from lowclip_runtime.pairs import is_blank
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import normalize_text
from lowclip_train.make_dataset import FORMATS, Wanted, make_dataset
from lowclip_train.run import prepare_run

_INVISIBLE = "\u200b\ufeff \u00ad"


@pytest.mark.parametrize(
    "text", [_INVISIBLE, "\u200d", " \t\u3000", "\x1f", "a", "\u200ba", "…", "😀", "\u0301"]
)
def test_what_is_blank_is_what_a_model_would_refuse(text: str) -> None:
    try:
        normalize_text(text, TextSpec())
    except TextError:
        assert is_blank(text)
    else:
        assert not is_blank(text)


def _source(format_name: str, folder: Path, caption: str) -> Path:
    """The photo `good` captioned "it", and another by `caption`."""
    folder.mkdir()
    for name in ("good.jpg", "other.jpg"):
        (folder / name).write_bytes(jpeg(len(name)))
    path = folder / "captions"
    both = [("good.jpg", "it"), ("other.jpg", caption)]
    if format_name == "webdataset":
        texts = {f"{image[:-4]}.txt": text for image, text in both}
        images = {image: jpeg(len(image)) for image, _ in both}
        return write_tar(folder / "s.tar", dict(sorted({**images, **texts}.items())))
    if format_name == "parquet":
        rows = [{"image": jpeg(len(image)), "caption": text} for image, text in both]
        return write_parquet(folder / "p.parquet", rows)
    if format_name == "folder":
        for image, text in both:
            (folder / "classes" / text).mkdir(parents=True)
            (folder / image).rename(folder / "classes" / text / image)
        return folder / "classes"
    written = {
        "tsv": "\n".join(["image\tcaption", *("\t".join(row) for row in both)]),
        "flickr8k": "\n".join(f"{image}#0\t{text}" for image, text in both),
        "flickr30k": "\n".join(["image_name| n| comment", *(f"{image}| 0| {text}" for image, text in both)]),
        "karpathy": json.dumps({"images": [{"filename": i, "sentences": [{"raw": t}]} for i, t in both]}),
        "coco": json.dumps({
            "images": [{"id": image, "file_name": image} for image, _ in both],
            "annotations": [{"image_id": image, "caption": text} for image, text in both],
        }),
    }  # fmt: skip
    path.write_text(written[format_name], "utf-8")
    return path


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_reader_names_or_leaves_out_such_a_caption(tmp_path: Path, format_name: str) -> None:
    source = _source(format_name, tmp_path / "in", _INVISIBLE)
    with pytest.raises(DatasetError, match="correct it or pass --skip-missing"):
        make_dataset(format_name, source, tmp_path / "out")
    made = make_dataset(format_name, source, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert [p.caption for p in pairs_in(tmp_path / "out")] == ["it"] and len(made.left_out) == 1


@pytest.mark.parametrize("caption", ["a \0 dog", "dog" * 50_000], ids=["NUL", "long"])
@pytest.mark.parametrize("format_name", [one for one in FORMATS if one != "folder"])  # no name can be such
def test_every_reader_names_or_leaves_out_what_no_pairs_file_can_hold(
    tmp_path: Path, format_name: str, caption: str
) -> None:
    """Else the dataset is written, and nothing opens it."""
    source = _source(format_name, tmp_path / "in", caption)
    with pytest.raises(DatasetError, match=f"{source}.*(NUL|field|characters).*pass --skip-missing"):
        make_dataset(format_name, source, tmp_path / "out")
    made = make_dataset(format_name, source, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert [p.caption for p in pairs_in(tmp_path / "out")] == ["it"] and len(made.left_out) == 1


def test_pairs_with_such_a_caption_are_refused_with_its_line(tmp_path: Path) -> None:
    source = _source("tsv", tmp_path / "in", _INVISIBLE)
    with pytest.raises(DatasetError, match="captions, line 3: the caption has only invisible characters"):
        make_dataset("tsv", source, tmp_path / "out")


def test_bad_rows_of_pairs_are_refused_or_left_out(tmp_path: Path) -> None:
    source = _source("tsv", tmp_path / "in", "a dog")
    source.write_text(source.read_text("utf-8") + "\na.jpg\t\nb.jpg\ttoo\tmany\n\n", "utf-8")
    with pytest.raises(DatasetError, match="line 4: image and caption must not be empty; correct it or pass"):
        make_dataset("tsv", source, tmp_path / "out")
    made = make_dataset("tsv", source, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert [p.caption for p in pairs_in(tmp_path / "out")] == ["it", "a dog"]
    assert [one.partition(", ")[2] for one in made.left_out] == [
        "line 4: image and caption must not be empty",
        "line 5: 2 columns expected, 3 found",
    ]
    source.write_text("image\tcaption\n", "utf-8")
    with pytest.raises(DatasetError, match=f"{source} holds no caption that can be used"):
        make_dataset("tsv", source, tmp_path / "empty")


def test_a_parallel_file_with_such_a_caption_is_refused_with_its_line(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    assert config.distillation
    path = tmp_path / "parallel.tsv"
    path.write_text(f"image\tcaption\tlang\nk\ta red\ten\nk\t{_INVISIBLE}\taz\n", "utf-8")
    config = replace(config, distillation=replace(config.distillation, parallel=(str(path),)))
    with pytest.raises(
        DatasetError, match=r"parallel\.tsv, line 3: the caption has only invisible characters"
    ):
        prepare_run(config, tmp_path / "run")
