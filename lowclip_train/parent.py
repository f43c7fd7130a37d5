"""A run that starts from the checkpoint of an earlier one: what its config may leave out, and what must agree."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.files import sha256_of
from lowclip_runtime.schema import to_dict
from lowclip_train.checkpoint import Checkpoint, CheckpointManifest, load_checkpoint, read_manifest
from lowclip_train.config import TrainConfig
from lowclip_train.model import DualEncoder

_DECIDED = ("image_encoder", "text_pooling", "dims", "projection", "projection_hidden", "dropout")
# where the first of all ancestors got its weights stays true for its descendants, and so does what it was trained on
_INHERITED = (
    "image_weights", "text_weights", "text_layers", "trimmed_vocabulary", "datasets", "pairs_sha256",
)  # fmt: skip


def fill_from_checkpoint(data: dict[str, Any], base: Path) -> dict[str, Any]:
    """Parsed config, with what it leaves unsaid of towers, preprocessing and text as in `towers.checkpoint`.

    Raises:
        CheckpointError: there is no checkpoint; relative names are beside the config, in `base`.
    """
    manifest = read_manifest(base / str(data["towers"]["checkpoint"]))
    held = {name: getattr(manifest.model, name) for name in _DECIDED}
    unsaid = {
        "towers": {**held, "text_encoder": ""},
        "preprocess": to_dict(manifest.preprocess),
        "text": to_dict(manifest.text),
    }
    said = {name: data.get(name, {}) for name in unsaid}
    return {**data, **{n: {**unsaid[n], **s} if isinstance(s, dict) else s for n, s in said.items()}}


def open_parent(config: TrainConfig) -> Checkpoint:
    """Open `towers.checkpoint`; the second branches of its projections get as wide as the config asks for.

    Raises:
        CheckpointError: not a checkpoint, or a damaged one.
        ConfigError: the config asks for another model than it holds.
    """
    parent = load_checkpoint(config.towers.checkpoint)
    differing = _differences(config, parent.manifest)
    if differing:
        raise ConfigError(
            f"the config asks for another model than its checkpoint {config.towers.checkpoint} holds: "
            f"{'; '.join(differing)}; leave these keys out or name another checkpoint"
        )
    return _with_branch(parent, config.towers.projection_hidden)


def _with_branch(parent: Checkpoint, hidden: int) -> Checkpoint:
    """The same model, as yet, with room to learn more: new hidden units come last, and nothing follows from them."""
    if hidden == parent.manifest.model.projection_hidden:
        return parent
    model = DualEncoder(replace(parent.manifest.model, projection_hidden=hidden))
    tensors = model.state_dict()
    for name, old in parent.model.state_dict().items():
        wider = tensors[name]
        wider[tuple(slice(size) for size in old.shape)] = old
    model.load_state_dict(tensors)
    return replace(parent, model=model.eval())


def parent_lineage(folder: str | Path, manifest: CheckpointManifest) -> dict[str, Any]:
    """What a child's lineage says of its start: which checkpoint it was, and what that one was made of."""
    inherited = {key: manifest.lineage[key] for key in _INHERITED if key in manifest.lineage}
    sha256 = sha256_of(Path(folder) / "manifest.json")
    return {**inherited, "parent": {"name": manifest.name, "manifest_sha256": sha256}}


def _differences(config: TrainConfig, manifest: CheckpointManifest) -> list[str]:
    pairs = {
        f"towers.{name}": (getattr(config.towers, name), getattr(manifest.model, name)) for name in _DECIDED
    }
    held_text = replace(manifest.text, pad_token_id=config.text.pad_token_id)  # the tokenizer's affair
    if config.towers.projection_hidden > manifest.model.projection_hidden:  # it may get wider
        del pairs["towers.projection_hidden"]
    pairs |= {f"text.{name}": (value, getattr(held_text, name)) for name, value in vars(config.text).items()}
    if config.towers.text_encoder:
        held = manifest.lineage.get("text_weights", manifest.model.text_encoder.get("model_type"))
        pairs["towers.text_encoder"] = (Path(config.towers.text_encoder).name, held)
    return [f"{place} is {asked!r}, not {held!r}" for place, (asked, held) in pairs.items() if asked != held]
