"""FLOPs of a call, by torch's own counter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flops(call: Callable[[], object]) -> int:
    """Runs a call and counts its FLOPs.

    torch's counter does not see the fused call that `nn.MultiheadAttention` makes by default (open_clip's blocks), so
    that one is off while it counts.

    Examples:
        >>> a, b = torch.ones(2, 3), torch.ones(3, 5)
        >>> count_flops(lambda: a @ b)
        60
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())
