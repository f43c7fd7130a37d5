"""What is computed once is kept by all that it follows from: weights, inputs as the encoder sees them, pooling."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_training import tiny_config, write_text_encoder
from torch import Tensor, nn

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import Tokenizer
from lowclip_train import array_cache
from lowclip_train.array_cache import kept, kept_texts, weights_sha256
from lowclip_train.distillation_config import Distillation
from lowclip_train.encoders import pretrained_text_encoder
from lowclip_train.frozen_outputs import pool_texts
from lowclip_train.model import TextTower
from lowclip_train.run import prepare_run
from lowclip_train.teacher import Teacher
from lowclip_train.text_batches import encode_by_length


def test_an_array_is_computed_once_for_each_key(tmp_path: Path) -> None:
    computed = []

    def compute() -> NDArray[np.float32]:
        computed.append(1)
        return np.full((2, 3), len(computed), np.float32)

    first = kept(tmp_path, "a", ["weights", [1, 2]], compute)
    assert first.dtype == np.float16 and np.array_equal(
        first, kept(tmp_path, "a", ["weights", [1, 2]], compute)
    )
    assert kept(tmp_path, "a", ["weights", [1, 3]], compute)[0, 0] == 2
    assert kept(tmp_path, "b", ["weights", [1, 2]], compute)[0, 0] == 3


def test_a_damaged_array_is_computed_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = kept(tmp_path, "a", ["weights"], lambda: np.arange(99, dtype=np.float32))
    (path,) = tmp_path.glob("a-*.npy")
    for damaged in (path.read_bytes()[:150], path.read_bytes()[:20], b""):
        path.write_bytes(damaged)
        found = kept(tmp_path, "a", ["weights"], lambda: np.arange(99, dtype=np.float32))
        assert np.array_equal(found, whole) and f"{path} is damaged (" in capsys.readouterr().err


def test_a_kill_costs_one_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_cache, "_PART", 2)
    encoded: list[list[int]] = []

    def encode(rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        encoded.extend(map(list, rows))
        if [9] in map(list, rows):
            raise KeyboardInterrupt
        return np.array([[sum(row), len(row)] for row in rows], np.float32)

    with pytest.raises(KeyboardInterrupt):
        kept_texts(tmp_path, "texts", ["w"], [(1, 2), (3,), (4,), (9,), (5,)], encode)
    encoded.clear()
    found = kept_texts(tmp_path, "texts", ["w"], [(1, 2), (3,), (4,), (8,), (5,)], encode)
    assert found.tolist() == [[3, 2], [3, 1], [4, 1], [8, 1], [5, 1]]
    assert encoded == [[4], [8], [5]]


def test_weights_are_told_apart_by_name_type_shape_and_value() -> None:
    def digest(dtype: torch.dtype = torch.float32, **tensors: Tensor) -> str:
        module = nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor.to(dtype))
        return weights_sha256(module)

    values = torch.arange(6.0).reshape(2, 3)
    assert digest(a=values) == digest(a=values.clone())
    assert digest(a=values.T) == digest(a=values.T.contiguous())
    others = [
        digest(b=values),
        digest(a=values + 1),
        digest(a=values.reshape(3, 2)),
        digest(torch.bfloat16, a=values),
        digest(a=values, b=torch.tensor(0.0)),
    ]
    assert len({digest(a=values), *others}) == 6


def test_texts_come_back_in_their_order_with_little_padding() -> None:
    token_ids = [[7] * (1 + i % 5) for i in range(200)]
    seen: list[Tensor] = []

    def encode(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        seen.append(attention_mask)
        return (input_ids * attention_mask).sum(1, keepdim=True).float()

    found = encode_by_length(token_ids, 3, encode)
    assert found.dtype == np.float32 and found.tolist() == [[7.0 * len(row)] for row in token_ids]
    # in batches of 64, of lengths 1 and 2, 2 to 4, 4 and 5, 5; in the order they came in it would be 400
    assert [int((mask == 0).sum()) for mask in seen] == [40, 16 * 2 + 40, 32, 0]
    assert encode_by_length([], 3, encode).shape[0] == 0


def test_pooled_texts_are_kept_by_token_ids_and_pooling(tmp_path: Path) -> None:
    """Not by where the tokenizer lies, whose file a run may write anew."""
    folder = write_text_encoder(tmp_path / "bert")
    texts = ["a qırmızı şəkil", "mavi"]

    def pooled(pooling: str = "mean", **spec: int) -> NDArray[np.float16]:
        encoder = pretrained_text_encoder(str(folder))
        tower = TextTower(encoder, nn.Identity(), pooling)  # type: ignore[arg-type]
        return pool_texts(tower, Tokenizer(folder / "tokenizer.json", TextSpec(**spec)), texts, tmp_path)

    mean = pooled()
    assert np.array_equal(pooled(), mean) and len(list(tmp_path.glob("*.npy"))) == 1
    assert not np.allclose(pooled("cls"), mean, atol=0.01)
    assert not np.allclose(pooled(max_tokens=4)[0], mean[0], atol=0.01)
    write_text_encoder(folder, layers=1)
    assert not np.allclose(pooled(), mean, atol=0.01)
    assert len(list(tmp_path.glob("*.npy"))) == 4


def test_a_teacher_that_was_replaced_is_asked_again(tmp_path: Path) -> None:
    folder = write_text_encoder(tmp_path / "bert")
    config = Distillation(teacher=str(folder))
    texts = ["qırmızı şəkil", "mavi"]
    before = Teacher(config, 32, texts, tmp_path).vectors(texts)
    assert torch.equal(Teacher(config, 32, texts, tmp_path).vectors(texts), before)
    assert len(list(tmp_path.glob("*.npy"))) == 1
    write_text_encoder(folder, layers=1)
    assert not torch.allclose(Teacher(config, 32, texts, tmp_path).vectors(texts), before, atol=0.01)


def test_a_teacher_of_another_width_is_refused_before_images_are_read(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    wide = write_text_encoder(tmp_path / "wide", hidden=64)
    config = replace(
        config,
        schedule=replace(config.schedule, image_views=1),
        towers=replace(config.towers, image_frozen_stages=2),
        distillation=Distillation(teacher=str(wide)),
    )
    with pytest.raises(ConfigError, match=r"wide' gives vectors of 64 dims and .* of 32; name a teacher"):
        prepare_run(config, tmp_path / "run")
    assert not list((tmp_path / "run/cache").glob("image-*"))
