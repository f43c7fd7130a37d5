"""What an encoder gives for a whole batch, of which no more than a piece need be in memory or on this machine.

Contrastive losses need all embeddings of a batch, but the loss's gradient with respect to them is all that the encoders
need to go on. So a batch is encoded in pieces without keeping activations, the loss is taken, and each piece is then
encoded again, with the same dropout, to send its gradient through it (GradCache, Gao et al. 2021, arXiv 2101.06983).
Outputs that other processes computed are treated alike.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from lowclip_train.distributed import Processes

Piece = Callable[[], Tensor]  # runs an encoder on some rows: () → (n, C)


class Encoding:
    """The rows of all processes, encoded.

    Args:
        pieces: this process's share of the rows, in their order.
        total: rows of all processes.
        cached: keep no activations; each piece runs once more in `backward`.

    Attributes:
        output: (total, C) float32; take the loss from it.
    """

    def __init__(self, pieces: Sequence[Piece], total: int, processes: Processes, *, cached: bool) -> None:
        self._pieces, self._processes, self._cached = pieces, processes, cached
        self._random_states: list[_RandomState] = []
        own = torch.cat([self._first_run(piece) for piece in pieces]).float()
        self._own = own
        self._direct = processes.count == 1 and not cached  # autograd alone goes from the loss to the encoder
        self.output = own if self._direct else processes.gather(own.detach(), total).requires_grad_()

    def backward(self) -> None:
        """After the loss's own: send the gradient of `output` through the encoder."""
        if self._direct or self.output.grad is None:
            return
        gradient = self.output.grad[self._processes.share]
        if not self._cached:
            if self._own.requires_grad:
                self._own.backward(gradient)  # type: ignore[no-untyped-call]
            return
        start = 0
        for piece, state in zip(self._pieces, self._random_states, strict=True):
            with _as_in(state, self._processes.device):
                again = piece().float()
            if again.requires_grad:
                again.backward(gradient[start : start + len(again)])  # type: ignore[no-untyped-call]
            start += len(again)

    def _first_run(self, piece: Piece) -> Tensor:
        if not self._cached:
            return piece()
        self._random_states.append(_random_state(self._processes.device))
        with torch.no_grad():
            return piece()


_RandomState = tuple[Tensor, Tensor | None]


def _random_state(device: torch.device) -> _RandomState:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextmanager
def _as_in(state: _RandomState, device: torch.device) -> Iterator[None]:
    """Random numbers come as they did from `state` on, and afterwards as if nothing had been drawn."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], device)
        yield
