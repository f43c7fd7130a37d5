"""Eight coloured pictures with Azerbaijani and English captions, and a two-layer BERT: a training run in seconds."""

from pathlib import Path

from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from lowclip_runtime.pairs import Pair
from lowclip_runtime.spec import PreprocessSpec, TextSpec
from lowclip_train.config import Augment, Schedule, Source, TrainConfig
from lowclip_train.dataset import write_dataset
from lowclip_train.distillation_config import Distillation
from lowclip_train.towers_config import Towers

COLOURS = {
    "red": ("qırmızı", (220, 20, 30)),
    "green": ("yaşıl", (20, 160, 40)),
    "blue": ("mavi", (30, 40, 220)),
    "yellow": ("sarı", (240, 220, 20)),
    "black": ("qara", (5, 5, 5)),
    "white": ("ağ", (250, 250, 250)),
    "orange": ("narıncı", (250, 130, 10)),
    "grey": ("boz", (128, 128, 128)),
}


def write_pictures(folder: Path) -> list[Pair]:
    """Eight train pictures and, by the same captions, eight paler ones for val; returns their pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = []
    for english, (azerbaijani, rgb) in COLOURS.items():
        for split, shift in (("train", 0), ("val", 4)):
            name = f"{english}-{split}.png"
            Image.new("RGB", (40, 30), tuple(min(255, c + shift) for c in rgb)).save(folder / name)
            pairs += [
                Pair(name, f"a {english} picture", "en", split, name),
                Pair(name, f"{azerbaijani} şəkil", "az", split, name),
            ]
    return pairs


def write_text_encoder(
    folder: Path, *, layers: int = 2, hidden: int = 32, heads: int = 2, feed_forward: int | None = None
) -> Path:
    """A seeded BERT with a whole-word tokenizer, in Hugging Face's layout."""
    import torch

    from lowclip_train.torchvision_repair import import_torchvision

    import_torchvision()  # before transformers, which imports it
    from transformers import BertConfig, BertModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "picture", "şəkil", "unused"]
    words += [*COLOURS, *(azerbaijani for azerbaijani, _ in COLOURS.values())]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(words), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=feed_forward or 2 * hidden, max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def tiny_config(folder: Path, **schedule: float) -> TrainConfig:
    """A config over freshly written pictures and encoder in `folder`; keyword arguments go to `Schedule`."""
    pairs = write_pictures(folder / "pictures")
    write_dataset(folder / "data", "colours", folder / "pictures", pairs, overwrite=True)
    encoder = write_text_encoder(folder / "bert")
    defaults = {"epochs": 3, "batch_size": 4, "save_every_s": 0.0, "warmup": 0.1}
    return TrainConfig(
        name="tiny",
        licence="test",
        towers=Towers(
            image_encoder="test_efficientnet", image_weights="random", text_encoder=str(encoder), dims=16
        ),
        sources=(Source(dataset=str(folder / "data")),),
        preprocess=PreprocessSpec(size_px=32),
        text=TextSpec(lowercase="azerbaijani", max_tokens=16),
        augment=Augment(crop_min_area=0.8, color_jitter=0.05),
        schedule=Schedule(**{**defaults, **schedule}),  # type: ignore[arg-type]
        distillation=Distillation(teacher=str(encoder)),
    )
