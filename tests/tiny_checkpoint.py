"""Tiny seeded checkpoints that export in seconds: a timm test encoder, a two-layer BERT, a tokenizer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_runtime.spec import PreprocessSpec, TextSpec
from lowclip_train.checkpoint import CheckpointManifest, save_checkpoint
from lowclip_train.model import DualEncoder, ModelConfig

DIMS = 32
PREPROCESS = PreprocessSpec(size_px=64)
TEXT = TextSpec(max_tokens=24, lowercase="azerbaijani")
WORDS = (
    "qız",
    "it",
    "dəniz",
    "qırmızı",
    "paltarlı",
    "üzən",
    "dog",
    "sea",
    "girl",
    "red",
    "ağac",
    "ev",
    "yol",
)
TINY_GEMMA = {  # normalizes by RMSNorm, and its table scales the rows that it gives
    "model_type": "gemma3_text", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 64,
}  # fmt: skip
LETTERS = "abcçdeəfgğhxıijkqlmnoöprsştuüvyz"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
CAPTIONS = (
    "qırmızı paltarlı qız", "dənizdə üzən it", "red dog", "girl in the sea", "ağac", "evin yolu", "it və qız",
    "üzən qırmızı ev", "yol", "the red tree, 3 dogs!", "dəniz dəniz dəniz", "paltarlı it yolda", "girl", "ev",
)  # fmt: skip


def write_tiny_checkpoint(
    folder: str | Path,
    *,
    image_encoder: str = "test_efficientnet",
    seed: int = 0,
    tokenizer: str = "wordpiece",
    preprocess: PreprocessSpec = PREPROCESS,
) -> Path:
    """Write a checkpoint with random weights whose embeddings differ from image to image and text to text."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = tiny_wordpiece() if tokenizer == "wordpiece" else tiny_unigram()
    tokenizer_path = folder.parent / f"{folder.name}-tokenizer.json"
    made.save(str(tokenizer_path))
    config = ModelConfig(
        image_encoder=image_encoder,
        text_encoder={
            "model_type": "bert", "vocab_size": made.get_vocab_size(), "max_position_embeddings": 32,
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
            "pad_token_id": 0, "initializer_range": 0.2,
        },
        dims=DIMS,
    )  # fmt: skip
    manifest = CheckpointManifest(
        schema_version=1, name="tiny", created="2026-01-01", model=config, preprocess=preprocess, text=TEXT,
        licence="Apache-2.0", lineage={"made_by": "tests/tiny_checkpoint.py"}, metrics={}, files={},
    )  # fmt: skip
    save_checkpoint(folder, tiny_model(config, preprocess.size_px, seed), tokenizer_path, manifest)
    return folder


def tiny_model(config: ModelConfig, size_px: int, seed: int = 0) -> DualEncoder:
    """Random weights; batch normalization has seen noise, or all images would have one embedding."""
    torch.manual_seed(seed)
    model = DualEncoder(config)
    encoder = model.image_tower.encoder.train()
    with torch.no_grad():
        for _ in range(20):
            encoder(torch.randn(8, 3, size_px, size_px))
    return model.eval()


def tiny_wordpiece() -> Tokenizer:
    """Special tokens, letters at the start of a word and inside it, and whole words."""
    pieces = [
        *SPECIAL,
        *LETTERS,
        *(f"##{letter}" for letter in LETTERS),
        *".,!?-0123456789",
        *WORDS,
        "##ın",
        "##də",
    ]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _with_special(tokenizer)


def tiny_unigram(extra: Sequence[str] = ()) -> Tokenizer:
    """The same for Unigram, with `▁` for the start of a word; the unknown token is not the first one."""
    pieces: list[tuple[str, float]] = [(piece, 0.0) for piece in SPECIAL]
    pieces += [("▁", -2.0), *((letter, -6.0) for letter in (*LETTERS, *".,!?-0123456789"))]
    pieces += [(f"▁{word}", -3.0) for word in (*WORDS, *extra)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    return _with_special(tokenizer)


def write_noise_photos(folder: str | Path, count: int, size: tuple[int, int] = (96, 72)) -> list[Path]:
    """Photos of coloured noise at several scales, none square."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(5)
    paths = [folder / f"{i:03d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        coarse = generator.integers(0, 256, (2 + i % 7, 3 + i % 5, 3), np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return paths


def write_noise_pairs(folder: str | Path, count: int = 28) -> Path:
    """`pairs.tsv` beside its noise photos; returns the file."""
    folder = Path(folder)
    paths = write_noise_photos(folder, count)
    langs = ("az", "en")
    pairs = [
        Pair(path.name, f"{CAPTIONS[i % len(CAPTIONS)]} {i}", langs[i % 2], "train", str(i))
        for i, path in enumerate(paths)
    ]
    write_pairs(folder / "pairs.tsv", pairs)
    return folder / "pairs.tsv"


def _with_special(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer
