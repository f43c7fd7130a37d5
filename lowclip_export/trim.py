"""Trims the vocabulary of an opened checkpoint: tokenizer, embedding rows, config and padding id together.

Choosing the pieces is `lowclip_train.trim_vocab`.
"""

import copy
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lowclip_runtime.schema import to_dict
from lowclip_train.checkpoint import Checkpoint
from lowclip_train.starting_model import keep_embedding_rows
from lowclip_train.trim_vocab import trim_tokenizer


def trim_checkpoint(
    checkpoint: Checkpoint,
    corpora: Iterable[str],
    tokenizer_path: Path,
    *,
    keep_latin: bool = False,
    held_out: Iterable[str] = (),
) -> Checkpoint:
    """A checkpoint of the same embeddings for texts whose pieces stay; its lineage tells what was trimmed.

    Args:
        corpora: texts that choose the vocabulary.
        tokenizer_path: where the new `tokenizer.json` is written.
        keep_latin: keep all pieces in Latin letters, so that no text in them changes its pieces.
        held_out: texts to measure re-segmentation and unknown tokens on.

    Raises:
        ConfigError: not a Unigram or WordPiece tokenizer, or no text in the corpora.
    """
    manifest = checkpoint.manifest
    trimmed = trim_tokenizer(
        checkpoint.tokenizer_path, corpora, manifest.text, keep_latin=keep_latin, held_out=held_out
    )
    tokenizer_path.write_text(trimmed.tokenizer_json, "utf-8")
    model = copy.deepcopy(checkpoint.model)
    keep_embedding_rows(model.text_tower.encoder, trimmed.kept_rows.tolist())
    pad_token_id = trimmed.new_id(manifest.text.pad_token_id)
    encoder_config = {
        **manifest.model.text_encoder,
        "vocab_size": len(trimmed.kept_rows),
        "pad_token_id": pad_token_id,
    }
    trimmed_manifest = replace(
        manifest,
        model=replace(manifest.model, text_encoder=encoder_config),
        text=replace(manifest.text, pad_token_id=pad_token_id),
        lineage=_lineage(manifest.lineage, to_dict(trimmed.report)),
    )
    return Checkpoint(model, trimmed_manifest, tokenizer_path)


def _lineage(before: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """The new report; that of a trimming before training, which it follows, stays inside it."""
    earlier = before.get("trimmed_vocabulary")
    return {**before, "trimmed_vocabulary": {**report, "earlier": earlier} if earlier else report}
