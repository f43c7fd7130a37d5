"""The two ways to run a translation model: transformers (any seq2seq model) and CTranslate2 (a converted folder).

Both search by beams without sampling, so the same batch gives the same translations.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from lowclip_runtime.cores import available_cores
from lowclip_runtime.errors import ConfigError, first_line
from lowclip_runtime.text import pad
from lowclip_train.model_identity import folder_identity, model_identity
from lowclip_train.pretrained import NO_CODE, told_in_one_sentence
from lowclip_train.torchvision_repair import import_torchvision
from lowclip_train.translation.cache import Translation
from lowclip_train.translation.coded_tokenizer import CodedTokenizer
from lowclip_train.translation.config import EngineName

import_torchvision()  # before transformers, which imports it

from transformers import AutoModelForSeq2SeqLM  # noqa: E402

UNFINISHED = "unfinished"  # the token limit was met before the end of the sentence
UNKNOWN = "unknown token"  # the model wrote a piece that its vocabulary has no letters for
_POSITIONS = 1024  # where neither model nor tokenizer says how much it reads
_MODEL_FILES = ("model.bin", "config.json")


class Engine(Protocol):
    """A loaded model.

    Attributes:
        identity: what the model is, wherever it lies: the cache's key holds it.
        positions: most tokens that source or translation may have.
    """

    identity: str
    positions: int
    tokenizer: CodedTokenizer

    def generate(
        self, token_ids: Sequence[Sequence[int]], beams: int, max_new_tokens: int
    ) -> list[Translation]:
        """Translate one batch of source ids."""
        ...


def open_engine(name: EngineName, model: str, tokenizer: CodedTokenizer, device: str) -> Engine:
    """Load `model`.

    Raises:
        ConfigError: it cannot be loaded, is no translation model, or the device or CTranslate2 is not there.
    """
    kinds: dict[EngineName, Any] = {"transformers": TransformersEngine, "ctranslate2": CTranslate2Engine}
    engine: Engine = kinds[name](model, tokenizer, device)
    return engine


class TransformersEngine:
    """Any `AutoModelForSeq2SeqLM`, in float32 on the CPU and in its own precision elsewhere."""

    def __init__(self, model: str, tokenizer: CodedTokenizer, device: str) -> None:
        self.tokenizer = tokenizer
        self._model = _seq2seq(model, device)
        self._pad = _pad_token_id(self._model.config, tokenizer)
        self._model.generation_config.max_length = None  # ours is max_new_tokens
        self.identity = model_identity(model, getattr(self._model.config, "_commit_hash", None))
        positions = getattr(self._model.config, "max_position_embeddings", None) or _POSITIONS
        self.positions = min(positions, tokenizer.own.model_max_length)

    @torch.inference_mode()
    def generate(
        self, token_ids: Sequence[Sequence[int]], beams: int, max_new_tokens: int
    ) -> list[Translation]:
        """Translate one batch of source ids."""
        input_ids, mask = map(torch.from_numpy, pad(token_ids, self._pad))  # both (N, L)
        first = self.tokenizer.first_token_id
        forced = {} if first is None else {"forced_bos_token_id": first}
        generated = self._model.generate(
            input_ids=input_ids.to(self._model.device), attention_mask=mask.to(self._model.device),
            num_beams=beams, do_sample=False, max_new_tokens=max_new_tokens, length_penalty=1.0, **forced,
        )  # fmt: skip
        return [self._translation(row[1:], max_new_tokens) for row in generated.tolist()]

    def _translation(self, ids: list[int], max_new_tokens: int) -> Translation:
        """`ids` without the decoder's start: up to the end token, which Marian is made to write at the limit."""
        end = ids.index(self._end) if self._end in ids else len(ids)
        unfinished = end >= max_new_tokens - 1
        unknown = self.tokenizer.own.unk_token_id in ids[:end]
        return Translation(self.tokenizer.text(ids[:end]), _problem(unfinished, unknown))

    @property
    def _end(self) -> int:
        return int(self.tokenizer.own.eos_token_id)


class CTranslate2Engine:
    """A folder made by `ct2-transformers-converter`, with the tokenizer's files in it."""

    def __init__(self, model: str, tokenizer: CodedTokenizer, device: str) -> None:
        self.tokenizer = tokenizer
        self._translator = _ctranslate2(model, device)
        self.identity = folder_identity(Path(model))
        self.positions = min(_POSITIONS, tokenizer.own.model_max_length)
        _check_vocabulary(Path(model), tokenizer)

    def generate(
        self, token_ids: Sequence[Sequence[int]], beams: int, max_new_tokens: int
    ) -> list[Translation]:
        """Translate one batch of source ids."""
        first = self.tokenizer.codes.first_token
        results = self._translator.translate_batch(
            [self.tokenizer.tokens(ids) for ids in token_ids],
            target_prefix=None if first is None else [[first]] * len(token_ids),
            beam_size=beams, max_decoding_length=max_new_tokens, max_input_length=0, return_end_token=True,
        )  # fmt: skip
        return [self._translation(result.hypotheses[0]) for result in results]

    def _translation(self, tokens: list[str]) -> Translation:
        unfinished = tokens[-1:] != [self.tokenizer.own.eos_token]
        unknown = self.tokenizer.own.unk_token in tokens
        return Translation(self.tokenizer.text_of_tokens(tokens), _problem(unfinished, unknown))


def _problem(unfinished: bool, unknown: bool) -> str:
    return UNKNOWN if unknown else UNFINISHED if unfinished else ""


def _seq2seq(model: str, device: str) -> Any:
    advice = "give the hub name or folder of a translation model such as facebook/nllb-200-distilled-600M"
    with told_in_one_sentence(f"no seq2seq model could be loaded from {model!r}", advice):
        loaded = AutoModelForSeq2SeqLM.from_pretrained(model, **NO_CODE)
    try:
        return (loaded.float() if device == "cpu" else loaded.to(device)).eval()
    except (RuntimeError, AssertionError) as error:
        raise _no_device(device, error) from error


def _pad_token_id(config: Any, tokenizer: CodedTokenizer) -> int:
    own = tokenizer.own.pad_token_id
    return int(own if own is not None else config.pad_token_id or 0)


def _ctranslate2(model: str, device: str) -> Any:
    try:
        import ctranslate2
    except ImportError as error:
        raise ConfigError(
            "the engine ctranslate2 is not installed; run: pip install 'lowclip[translate]'"
        ) from error
    if not all((Path(model) / name).is_file() for name in _MODEL_FILES):
        raise ConfigError(
            f"{model!r} is not a CTranslate2 folder (it lacks model.bin); make one with: ct2-transformers-converter "
            "--model HUB_OR_FOLDER --output_dir FOLDER --copy_files tokenizer.json tokenizer_config.json"
        )
    kind, _, index = device.partition(":")
    try:
        return ctranslate2.Translator(
            model, device=kind, device_index=int(index or 0), intra_threads=available_cores()
        )
    except (RuntimeError, ValueError) as error:
        if kind != "cpu":
            raise _no_device(device, error) from error
        raise ConfigError(
            f"{model!r} is not a model that CTranslate2 can translate with ({first_line(error)})"
        ) from error


def _no_device(device: str, error: Exception) -> ConfigError:
    return ConfigError(f"the device {device!r} cannot be used ({first_line(error)}); pass --device cpu")


def _check_vocabulary(folder: Path, tokenizer: CodedTokenizer) -> None:
    """CTranslate2 reads a token that it lacks as unknown, and would translate into any language then."""
    wanted = {tokenizer.codes.source_prefix, tokenizer.codes.first_token} - {None}
    known = {
        token
        for path in sorted(folder.glob("*vocabulary.json"))
        for token in json.loads(path.read_text("utf-8"))
    }
    lacking = sorted(str(token) for token in wanted - known)
    if known and lacking:
        raise ConfigError(
            f"{folder} was converted without the language token {', '.join(lacking)}; convert the model again"
        )
