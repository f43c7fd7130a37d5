"""Tiny translation models of the real classes, taught in seconds to translate words one by one.

Four English colours and four things, and their Azerbaijani words: all captions of two and three of them are what a
model learns. Random weights would give garbage, which the guards rightly drop.
"""

import io
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch

from lowclip_train.torchvision_repair import import_torchvision

import_torchvision()  # before transformers, which imports it

from transformers import (  # noqa: E402
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

COLOURS = {"red": "qırmızı", "green": "yaşıl", "blue": "mavi", "white": "ağ"}
THINGS = {"dog": "it", "cat": "pişik", "girl": "qız", "sea": "dəniz"}
WORDS = {**COLOURS, **THINGS}
MISTAKEN = (
    "white",
    "blue",
)  # the first is translated back as the second, so that there is something to notice
CAPTIONS = [
    *(" ".join(words) for words in itertools.product(COLOURS, THINGS)),
    *(" ".join(words) for words in itertools.product(COLOURS, COLOURS, THINGS)),
]
_SIZE: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "dropout": 0.0,
    "attention_dropout": 0.0, "activation_dropout": 0.0, "max_position_embeddings": 512,
    "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0, "scale_embedding": True, "init_std": 0.15,
}  # fmt: skip


def translated(caption: str) -> str:
    """What a taught model must give."""
    return " ".join(WORDS[word] for word in caption.split())


def write_nllb(folder: Path) -> Path:
    """M2M100 with an NLLB tokenizer, taught both directions: it also translates back, with one word `MISTAKEN`."""
    pieces = _sentencepiece()
    vocabulary = {piece: i for i, piece in enumerate(("<s>", "<pad>", "</s>", "<unk>"))}
    for i in range(3, pieces.get_piece_size()):
        vocabulary.setdefault(pieces.id_to_piece(i), len(vocabulary))
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=_merges(vocabulary), src_lang="eng_Latn")
    model = _m2m100(len(tokenizer))
    pairs = []
    for caption in CAPTIONS:
        source, mistaken = (_ids(tokenizer, "eng_Latn", c) for c in (caption, caption.replace(*MISTAKEN)))
        target = _ids(tokenizer, "azj_Latn", translated(caption))
        pairs += [(source, target), (target, mistaken)]
    _teach(model, pairs)
    return _save(model, tokenizer, folder)


def write_m2m100(folder: Path) -> Path:
    """M2M100 with its own tokenizer, English to Azerbaijani."""
    tokenizer = untaught_m2m100_tokenizer(folder)
    model = _m2m100(len(tokenizer.encoder) + len(tokenizer.lang_code_to_id) + tokenizer.num_madeup_words)
    _teach(model, [(_ids(tokenizer, "en", c), _ids(tokenizer, "az", translated(c))) for c in CAPTIONS])
    return _save(model, tokenizer, folder)


def write_marian(folder: Path, codes: Sequence[str] = ()) -> Path:
    """Marian, English to Azerbaijani; `codes` make its target multilingual (`>>aze_Latn<<`)."""
    tokenizer = untaught_marian_tokenizer(folder, codes)
    pad = tokenizer.pad_token_id
    torch.manual_seed(0)
    config = MarianConfig(
        **_SIZE, vocab_size=pad + 1, pad_token_id=pad, eos_token_id=0, forced_eos_token_id=0,
        decoder_start_token_id=pad,
    )  # fmt: skip
    model = MarianMTModel(config)
    pairs = [(" ".join([*codes[:1], caption]), translated(caption)) for caption in CAPTIONS]
    _teach(model, [(tokenizer(a)["input_ids"], tokenizer(text_target=b)["input_ids"]) for a, b in pairs])
    model.generation_config.bad_words_ids = [[pad]]
    return _save(model, tokenizer, folder)


def write_madlad(folder: Path) -> Path:
    """T5 that is told its target only (`<2az>`), taught both directions, the way back with one word `MISTAKEN`."""
    tokenizer = untaught_madlad_tokenizer()
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(
        d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, dropout_rate=0.0, vocab_size=len(tokenizer),
        decoder_start_token_id=tokenizer.pad_token_id,
    ))  # fmt: skip
    pairs = []
    for caption in CAPTIONS:
        source, target, mistaken = (
            tokenizer(text)["input_ids"]
            for text in (caption, translated(caption), caption.replace(*MISTAKEN))
        )
        to_az, to_en = tokenizer.convert_tokens_to_ids(["<2az>", "<2en>"])
        pairs += [([to_az, *source], target), ([to_en, *target], mistaken)]
    _teach(model, pairs, rounds=3)  # after one, what it says of "red sea" depends on how the processor rounds
    return _save(model, tokenizer, folder)


def untaught_madlad_tokenizer() -> T5Tokenizer:
    """The tokenizer alone."""
    pieces = _sentencepiece()
    scored = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(3, pieces.get_piece_size())]
    special = [(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>", "<2az>", "<2en>")]
    return T5Tokenizer(vocab=[*special, *scored], extra_ids=0)


def untaught_m2m100_tokenizer(folder: Path) -> M2M100Tokenizer:
    """The tokenizer alone, its files in `folder`."""
    folder.mkdir(parents=True)
    pieces = _sentencepiece()
    _write_sentencepiece(pieces, folder / "sentencepiece.bpe.model")
    _write_vocabulary(folder / "vocab.json", ["<s>", "<pad>", "</s>", "<unk>", *_own_pieces(pieces)])
    return M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))


def untaught_marian_tokenizer(folder: Path, codes: Sequence[str] = ()) -> MarianTokenizer:
    """The tokenizer alone, its files in `folder`."""
    folder.mkdir(parents=True)
    pieces = _sentencepiece()
    for name in ("source.spm", "target.spm"):
        _write_sentencepiece(pieces, folder / name)
    _write_vocabulary(folder / "vocab.json", ["</s>", "<unk>", *_own_pieces(pieces), *codes, "<pad>"])
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    return MarianTokenizer(*files, source_lang="en", target_lang="az")


def convert_to_ctranslate2(source: Path, folder: Path) -> Path:
    """What `ct2-transformers-converter --model SOURCE --output_dir FOLDER --copy_files …` does."""
    from ctranslate2.converters import TransformersConverter

    tokenizer_files = ("tokenizer", "vocab", "source", "target", "sentencepiece")
    copied = [path.name for path in sorted(source.iterdir()) if path.name.startswith(tokenizer_files)]
    TransformersConverter(str(source), copy_files=copied).convert(str(folder))
    return folder


def _sentencepiece() -> sentencepiece.SentencePieceProcessor:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*CAPTIONS, *map(translated, CAPTIONS)]), model_writer=written, vocab_size=110,
        model_type="bpe", character_coverage=1.0, hard_vocab_limit=False, minloglevel=2, num_threads=1,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


def _merges(vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to join two pieces into a third, the first learned first."""
    ways = [
        (vocabulary[piece], piece[:i], piece[i:])
        for piece in vocabulary
        for i in range(1, len(piece))
        if piece[:i] in vocabulary and piece[i:] in vocabulary
    ]
    return [(left, right) for _, left, right in sorted(ways)]


def _own_pieces(pieces: sentencepiece.SentencePieceProcessor) -> list[str]:
    return [pieces.id_to_piece(i) for i in range(3, pieces.get_piece_size())]  # 0 to 2 are <unk>, <s>, </s>


def _write_sentencepiece(pieces: sentencepiece.SentencePieceProcessor, path: Path) -> None:
    path.write_bytes(pieces.serialized_model_proto())


def _write_vocabulary(path: Path, pieces: Sequence[str]) -> None:
    path.write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}, ensure_ascii=False), "utf-8")


def _m2m100(vocabulary_size: int) -> M2M100ForConditionalGeneration:
    torch.manual_seed(0)
    return M2M100ForConditionalGeneration(M2M100Config(
        **_SIZE, vocab_size=vocabulary_size, bos_token_id=0, pad_token_id=1, eos_token_id=2,
        decoder_start_token_id=2,
    ))  # fmt: skip


def _ids(tokenizer: Any, language: str, text: str) -> list[int]:
    tokenizer.src_lang = language
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def _teach(model: Any, pairs: list[tuple[list[int], list[int]]], steps: int = 250, rounds: int = 1) -> None:
    """Adam on random batches, its rate falling to zero in each round."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(rounds):
        _teach_once(model, pairs, steps, generator)
    model.eval()


def _teach_once(
    model: Any, pairs: list[tuple[list[int], list[int]]], steps: int, generator: torch.Generator
) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    pad = model.config.pad_token_id
    model.train()
    for _ in range(steps):
        chosen = [pairs[i] for i in torch.randint(len(pairs), (32,), generator=generator).tolist()]
        input_ids = _padded([source for source, _ in chosen], pad)
        labels = _padded([target for _, target in chosen], -100)
        loss = model(input_ids=input_ids, attention_mask=(input_ids != pad).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():  # as real Marian models have it, and CTranslate2 takes for granted
            model.get_input_embeddings().weight[pad] = 0


def _padded(rows: list[list[int]], fill: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, fill)


def _save(model: Any, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
