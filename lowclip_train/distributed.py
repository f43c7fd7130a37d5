"""Several processes that train one model, each on its share of every batch; alone, all of this does nothing.

They are started by `python -m accelerate.commands.launch` or `torchrun`. Every process draws the same batch, runs the
encoders on its share, and takes the loss of the whole batch from the encoders' gathered outputs (`encoding.py`). So the
loss is that of one process, and so is the sum of the encoders' gradients.
"""

import contextlib
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lowclip_runtime.errors import LowClipError, first_line
from lowclip_train.precision import pick_device
from lowclip_train.schedule import Device

# the first process alone fills caches and validates, while the others wait in a collective
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Processes:
    """This process among `count`; the first one, of index 0, is the only one that writes and speaks."""

    device: torch.device
    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.index == 0

    @property
    def share(self) -> slice:
        """This process's part of anything that has rows: every `count`-th of them."""
        return slice(self.index, None, self.count)

    def gather(self, own: Tensor, total: int) -> Tensor:
        """Each process's share (n, C) → all rows (total, C) on every process; no gradient goes through."""
        if self.count == 1:
            return own
        longest = -(-total // self.count)
        padded = own.new_zeros(longest, *own.shape[1:])
        padded[: len(own)] = own
        pieces = [torch.empty_like(padded) for _ in range(self.count)]
        with _all_take_part():
            dist.all_gather(pieces, padded)
        return torch.stack(pieces, dim=1).flatten(0, 1)[:total]  # row i of process r is row i * count + r

    def sum_gradients(self, shared: Iterable[nn.Parameter], whole: Iterable[nn.Parameter]) -> None:
        """Make gradients alike everywhere.

        Args:
            shared: parameters whose gradients are of each process's share; these are summed.
            whole: those whose gradients are of the whole batch, and so the same but for rounding; the mean is taken,
                or the copies of the model would drift apart.
        """
        if self.count == 1:
            return
        gradients = [p.grad for p in shared if p.grad is not None]
        same = [p.grad for p in whole if p.grad is not None]
        for gradient in same:
            gradient.div_(self.count)
        gradients += same
        sums = [gradient.contiguous() for gradient in gradients]  # convolutions may have theirs channels last
        with _all_take_part():
            for work in [dist.all_reduce(total, async_op=True) for total in sums]:
                work.wait()
        for total, gradient in zip(sums, gradients, strict=True):
            if total is not gradient:
                gradient.copy_(total)

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process."""
        return self._reduced([float(flag)], dist.ReduceOp.MAX)[0] > 0

    def from_first(self, numbers: Sequence[float]) -> list[float]:
        """The numbers that the first process gives; the others give as many of any value."""
        return self._reduced([n if self.is_first else 0.0 for n in numbers], dist.ReduceOp.SUM)

    @contextlib.contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The others run the block after the first has, so that they find what it wrote."""
        if not self.is_first:
            self._barrier()
        yield
        if self.is_first:
            self._barrier()

    def _reduced(self, numbers: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.count == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        with _all_take_part():
            dist.all_reduce(tensor, op=how)
        return [float(n) for n in tensor.tolist()]

    def _barrier(self) -> None:
        if self.count > 1:
            with _all_take_part():
                dist.barrier()


@contextlib.contextmanager
def _all_take_part() -> Iterator[None]:
    """Around what all processes do together, which fails in the others where one has ended.

    Raises:
        LowClipError: it failed.
    """
    try:
        yield
    except RuntimeError as error:
        reason = textwrap.shorten(first_line(error), 150)
        raise LowClipError(
            f"this process lost the others of its run ({reason}); see what ended one of them, and launch all again"
        ) from error


@contextlib.contextmanager
def joined_processes(device: Device) -> Iterator[Processes]:
    """The processes that a launcher started, connected while the block runs; one process where there was none.

    Raises:
        ConfigError: the device is not there.
    """
    picked = pick_device(device)
    if not was_launched():
        yield Processes(picked)
        return
    from accelerate import PartialState  # takes a second to load, which one process needs not wait for

    state = PartialState(cpu=picked.type == "cpu", timeout=_PATIENCE)
    try:
        yield Processes(state.device, state.process_index, state.num_processes)
    finally:
        state.destroy_process_group()
        PartialState._reset_state()


def was_launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first_process() -> bool:
    """Whether this process is the one that speaks, known before the processes have joined."""
    return int(os.environ.get("RANK", "0")) == 0
