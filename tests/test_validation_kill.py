"""A validation that is left in its midst goes on where it was, and gives what an uninterrupted one gives."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_training import tiny_config

from lowclip_train import validation
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.evaluate import embed_token_ids
from lowclip_train.trainer import train
from lowclip_train.training_state import save_state


def _metrics(run: Path) -> dict[str, object]:
    return load_checkpoint(run / "checkpoint").manifest.metrics


def test_a_validation_goes_on_where_it_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """States that the resumed run saves on its way there change nothing."""
    monkeypatch.setattr(validation, "_PART", 3)  # of eight images and eight texts a language
    config = tiny_config(tmp_path, epochs=1, batch_size=2, save_every_s=0.0)
    train(config, tmp_path / "whole")
    embedded: list[int] = []
    monkeypatch.setattr("lowclip_train.trainer.save_state", lambda *_: None)

    def killed_in(part: int) -> None:
        def embed(tower: object, token_ids: list[object], pad: int) -> NDArray[np.float32]:
            if len(embedded) == part:
                raise KeyboardInterrupt
            embedded.append(len(token_ids))
            return embed_token_ids(tower, token_ids, pad)  # type: ignore[arg-type]

        monkeypatch.setattr(validation, "embed_token_ids", embed)

    for part in (1, 4):
        killed_in(part)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "killed")
        kept = list((tmp_path / "killed/validation").glob("part-*.npy"))
        assert len(kept) == 3 + part  # of images and of texts
    killed_in(-1)
    monkeypatch.setattr("lowclip_train.trainer.save_state", save_state)
    train(config, tmp_path / "killed")
    assert embedded == [3, 3, 2, 3, 3, 2]  # none twice
    assert _metrics(tmp_path / "killed") == _metrics(tmp_path / "whole")
    assert not (tmp_path / "killed/validation").exists()


def test_parts_of_other_weights_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that saves no state between its epochs has the parts of all of them."""
    rates = {"learning_rate_image": 3e-3, "learning_rate_text": 3e-3, "learning_rate_projection": 3e-3}
    config = tiny_config(tmp_path, epochs=6, batch_size=8, save_every_s=1e9, **rates)
    train(config, tmp_path / "whole")
    monkeypatch.setattr(validation, "_PART", 3)
    train(config, tmp_path / "in-parts")
    scores = _scores(tmp_path / "in-parts")
    assert scores == pytest.approx(_scores(tmp_path / "whole")) and len(set(scores)) > 1


def _scores(run: Path) -> list[float]:
    lines = (run / "log.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["val"]["az"]["text_to_image"]["mAP"] for line in lines]
