"""Micro batches and autocast: the gradients of the whole batch, less memory, and runs that resume."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import tiny_config
from torch import Tensor, nn

from lowclip_runtime.errors import ConfigError
from lowclip_train.distributed import Processes
from lowclip_train.encoding import Encoding
from lowclip_train.precision import grad_scaler
from lowclip_train.run import Run, prepare_run
from lowclip_train.trainer import train, train_step

_CPU = Processes(torch.device("cpu"))
_ROWS = [5, 2, 7, 0, 3]


def _without_dropout(run: Run) -> Run:
    for module in run.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return run


def _gradients(run: Run) -> dict[str, Tensor]:
    train_step(run, 0, _ROWS)
    return {name: p.grad for name, p in run.state.parameters.items() if p.grad is not None}


@pytest.mark.parametrize("micro_batch_size", [1, 2, 8])
def test_micro_batches_give_the_gradients_of_the_whole_batch(tmp_path: Path, micro_batch_size: int) -> None:
    """Sums in another order differ by some 1e-6 of a tensor's largest gradient; 1e-4 is allowed."""
    whole = tiny_config(tmp_path, captions_per_image=2)
    parts = tiny_config(tmp_path, captions_per_image=2, micro_batch_size=micro_batch_size)
    expected = _gradients(_without_dropout(prepare_run(whole, tmp_path / "whole")))
    got = _gradients(_without_dropout(prepare_run(parts, tmp_path / "parts")))
    assert expected.keys() == got.keys() and len(expected) > 20
    for name, gradient in expected.items():
        allowed = 1e-4 * max(1e-3, gradient.abs().max().item())
        assert (got[name] - gradient).abs().max().item() <= allowed, name


def test_a_piece_runs_twice_with_the_same_dropout() -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3), nn.Dropout(0.5))
    rows = torch.randn(6, 4)

    def gradients(cached: bool) -> list[Tensor]:
        encoder.zero_grad()
        torch.manual_seed(7)
        pieces = [lambda part=part: encoder(part) for part in rows.split(2)]
        encoding = Encoding(pieces, len(rows), _CPU, cached=cached)
        scores = encoding.output @ encoding.output.T
        torch.logsumexp(scores, dim=1).sum().backward()
        before = torch.get_rng_state()
        encoding.backward()
        assert torch.equal(torch.get_rng_state(), before)
        return [p.grad.clone() for p in encoder.parameters() if p.grad is not None]

    for one, other in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(one, other)


def test_activations_are_of_one_micro_batch(tmp_path: Path) -> None:
    run = prepare_run(tiny_config(tmp_path, micro_batch_size=2), tmp_path / "run")
    seen: list[tuple[int, bool]] = []
    run.split.tail.register_forward_hook(
        lambda _, given, __: seen.append((len(given[0]), torch.is_grad_enabled()))
    )
    train_step(run, 0, _ROWS)
    assert seen == [(2, False), (2, False), (1, False), (2, True), (2, True), (1, True)]


@pytest.mark.parametrize(
    "schedule",
    [
        {"micro_batch_size": 3},
        {"precision": "bf16"},
        {"micro_batch_size": 3, "precision": "bf16", "ema_decay": 0.9, "captions_per_image": 2},
    ],
)
def test_a_run_resumes(tmp_path: Path, schedule: dict[str, float]) -> None:
    config = tiny_config(tmp_path, epochs=2, **schedule)
    train(config, tmp_path / "whole")
    for leave_off_after in (1, 3, None):
        train(config, tmp_path / "resumed", max_steps=leave_off_after)
    whole, resumed = (_weights(tmp_path / name) for name in ("whole", "resumed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert all(tensor.dtype != torch.bfloat16 for tensor in whole.values())


def test_only_the_encoders_are_in_bf16(tmp_path: Path) -> None:
    """bf16 has 8 significant bits, about 0.4 % a step; the losses agree within 5 %."""
    losses = {}
    for precision in ("fp32", "bf16"):
        run = _without_dropout(prepare_run(tiny_config(tmp_path, precision=precision), tmp_path / precision))
        seen: dict[str, torch.dtype] = {}
        for name, module in (("query", _query(run)), ("projection", run.model.text_tower.projection)):
            module.register_forward_hook(
                lambda _, __, out, name=name, seen=seen: seen.update({name: out.dtype})
            )
        losses[precision] = train_step(run, 0, _ROWS)["contrastive"]
        encoder = torch.bfloat16 if precision == "bf16" else torch.float32
        assert seen == {"query": encoder, "projection": torch.float32}
        assert {p.dtype for p in run.state.parameters.values()} == {torch.float32}
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def _query(run: Run) -> nn.Module:
    return run.model.text_tower.encoder.get_submodule("encoder.layer.0.attention.self.query")


def test_what_this_machine_cannot_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'fp16', which needs a CUDA device, but this run is on cpu"):
        prepare_run(tiny_config(tmp_path, precision="fp16", device="cpu"), tmp_path / "run")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="finds no CUDA device"):
            prepare_run(tiny_config(tmp_path, device="cuda"), tmp_path / "run")
    assert not grad_scaler("bf16", torch.device("cpu")).is_enabled()


def _weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "checkpoint" / "model.safetensors")
