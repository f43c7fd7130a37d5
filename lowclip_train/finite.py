"""What computes numbers that are not finite ends here, before it writes them anywhere, and says what can be done."""

import torch
from torch import Tensor

from lowclip_runtime.errors import LowClipError

_OF_A_RUN = "the same command would come to it again, so lower the learning rates and name a new folder"


def check_finite(what: str, values: Tensor, advice: str = _OF_A_RUN) -> None:
    """Go on only where all `values` are finite; `advice` says what to do where they are not.

    Raises:
        LowClipError: one is not; `what` says which values of which moment they are.
    """
    finite = torch.isfinite(values)
    if not finite.all():
        raise LowClipError(f"{what} is {values[~finite][0].item()}, not a finite number; {advice}")
