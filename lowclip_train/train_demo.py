"""Train → export → evaluate → search on a tiny slice, with the commands a user would type.

    python -m lowclip_train.train_demo OUT

The slice is the sample photos of the package, captioned by their file names; the towers are small and start from
random weights, so the figures show that the path works and nothing else.
"""

import json
import shutil
import subprocess
from pathlib import Path

import click
import torch

from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_runtime.shipped import shipped_bundle, shipped_photos
from lowclip_train.progress import say
from lowclip_train.torchvision_repair import import_torchvision

import_torchvision()  # before transformers, which imports it

from transformers import BertConfig, BertModel  # noqa: E402

_CONFIG = """\
name = "train-demo"
licence = "CC-BY-4.0 photos; for trying out only"

[towers]
image_encoder = "test_efficientnet"
image_weights = "random"
text_encoder = "text-encoder"
vocabulary_corpora = ["pairs.tsv"]
dims = 64

[[sources]]
dataset = "dataset"

[preprocess]
size_px = 64

[text]
lowercase = "azerbaijani"

[schedule]
epochs = 30
batch_size = 16
learning_rate_image = 2e-3
learning_rate_text = 1e-3
learning_rate_projection = 2e-3
"""


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def main(out: Path) -> None:
    """Run the whole path in OUT; an earlier demo in it is removed first."""
    if out.is_dir() and any(out.iterdir()) and not _is_demo(out):
        raise click.ClickException(f"{out} holds something else than an earlier demo; name another folder")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "config.toml").write_text(_CONFIG, "utf-8")  # by which the next one knows it
    photos, pairs = str(shipped_photos()), str(out / "pairs.tsv")
    write_pairs(pairs, captions_from_names(Path(photos)))
    write_small_text_encoder(out / "text-encoder")
    checkpoint, bundle = str(out / "run/checkpoint"), str(out / "bundle")
    _run("lowclip-train", "prepare", "tsv", pairs, str(out / "dataset"), "--images", photos)
    _run("lowclip-train", "run", str(out / "config.toml"), "--out", str(out / "run"))
    _run("lowclip-train", "eval", checkpoint, "--pairs", pairs, "--images", photos)
    _run(
        "lowclip-export", checkpoint, bundle, "--quantize", "int8", "--calibration", pairs, "--images", photos
    )
    _run("lowclip", "verify", bundle)
    _run("lowclip", "eval", "--bundle", bundle, "--pairs", pairs, "--images", photos)
    _run("lowclip", "index", photos, "--bundle", bundle, "--index", str(out / "photos.index"))
    _run("lowclip", "search", "panda", "--bundle", bundle, "--index", str(out / "photos.index"), "-k", "3")


def _is_demo(folder: Path) -> bool:
    config = folder / "config.toml"
    return config.is_file() and config.read_text("utf-8", "replace").startswith(_CONFIG.partition("\n")[0])


def captions_from_names(photos: Path) -> list[Pair]:
    """`sea_turtle_1.jpg` → `a photo of a sea turtle`."""
    names = sorted(path.name for path in photos.glob("*.jpg"))
    return [
        Pair(n, f"a photo of a {' '.join(Path(n).stem.split('_')[:-1])}", "en", "train", n) for n in names
    ]


def write_small_text_encoder(folder: Path) -> None:
    """A two-layer BERT with random weights over the shipped vocabulary, in Hugging Face's layout."""
    folder.mkdir(parents=True)
    tokenizer = shutil.copyfile(shipped_bundle() / "tokenizer.json", folder / "tokenizer.json")
    rows = len(json.loads(tokenizer.read_text("utf-8"))["model"]["vocab"])
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=rows, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=128, pad_token_id=1,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def _run(*command: str) -> None:
    say(f"$ {' '.join(command)}")
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
