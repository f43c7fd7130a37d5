"""What makes a run this very run: its config, and the content of all that the config names.

Every step follows from these, so a state is resumed under the same ones only; each is known by itself, so that the one
that was changed can be named.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lowclip_runtime.files import sha256_of
from lowclip_runtime.schema import dumps, to_dict
from lowclip_train.augment import identity
from lowclip_train.config import TrainConfig
from lowclip_train.dataset import Dataset
from lowclip_train.fitting_tokenizer import read_tokenizer
from lowclip_train.model_identity import folder_identity
from lowclip_train.towers_config import WEIGHTS_OF_NO_FILE

CONFIG = "config"
Fingerprint = Mapping[str, str]  # `config`, a path or a hub's name → hash of its content


def fingerprint(config: TrainConfig, datasets: Sequence[Dataset], dual_teacher: str = "") -> Fingerprint:
    """Of a run on these datasets, which are those that the config names.

    Args:
        dual_teacher: what the one that the config names is, by content; empty where it names none.
    """
    described = {**to_dict(config), "augment": identity(config.augment)}
    if config.dual_teacher is None:  # runs that were begun before there were any go on
        del described["dual_teacher"]
    found = {CONFIG: hashlib.sha256(dumps(described).encode()).hexdigest()}
    for dataset in datasets:
        found[str(dataset.folder / "pairs.tsv")] = dataset.manifest.pairs_sha256
        found[str(dataset.folder / "images.sha256")] = dataset.manifest.images_sha256
    for path in dict.fromkeys(map(Path, filter(None, _named(config)))):
        if path.is_dir():
            found[str(path)] = folder_identity(path)
        elif path.is_file():  # else a hub's name, or none
            found[str(path)] = sha256_of(path)
    if config.dual_teacher:
        found[config.dual_teacher.teacher] = dual_teacher  # of a hub's name, too
    return found


def changed(before: Any, now: Fingerprint) -> str | None:
    """What of `now` is not as it was, from a saved fingerprint; None where all is the same."""
    saved = before if isinstance(before, dict) else {}  # the first states held one hash of everything
    return next((what for what in {**now, **saved} if saved.get(what) != now.get(what)), None)


def vocabulary_sha256(tokenizer: Path) -> str:
    """Hex digest of the pieces of a `tokenizer.json` and their ids, which also follow from how texts are read."""
    pieces = sorted(read_tokenizer(tokenizer).get_vocab().items())
    return hashlib.sha256(json.dumps(pieces).encode()).hexdigest()


def _named(config: TrainConfig) -> Iterator[str]:
    yield config.towers.checkpoint and str(
        Path(config.towers.checkpoint) / "manifest.json"
    )  # it has the others' hashes
    weights = [config.towers.image_weights]
    if config.concepts:
        weights.append(config.concepts.image_weights)
    yield from (path for path in weights if path not in WEIGHTS_OF_NO_FILE)
    yield from (config.towers.text_encoder, *config.towers.vocabulary_corpora)
    if config.distillation:
        yield from (config.distillation.teacher, *config.distillation.parallel)
    if config.concepts:
        yield from (config.concepts.names, config.concepts.words, config.concepts.looks)
