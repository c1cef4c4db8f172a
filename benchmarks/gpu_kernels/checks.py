"""What the Triton candidates take."""

from __future__ import annotations

import torch
from torch import Tensor

from turbo.errors import TurboError

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def require_dtype(name: str, x: Tensor) -> None:
    """Raise TurboError where the kernels, which count in float32, would lose precision or cannot load."""
    if x.dtype not in DTYPES:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise TurboError(f"{name} is {x.dtype}: the kernel takes {known}; use turbo's own function")


def require_shape(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise TurboError where a kernel would read beyond a tensor."""
    if tuple(x.shape) != shape:
        raise TurboError(f"{name} has shape {tuple(x.shape)}: it must be {shape}")
