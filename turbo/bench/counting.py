"""FLOPs of a call, by torch's own counter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flops(call: Callable[[], object]) -> int:
    """Runs a call and counts its FLOPs.

    Examples:
        >>> a, b = torch.ones(2, 3), torch.ones(3, 5)
        >>> count_flops(lambda: a @ b)
        60
    """
    return sum(flops_by_operation(call).values())


def flops_by_operation(call: Callable[[], object]) -> dict[str, int]:
    """Runs a call and counts the FLOPs of each operation that the counter knows, by its name in torch.

    torch's counter does not see the fused call that `nn.MultiheadAttention` makes by default (open_clip's blocks), so
    that one is off while it counts.

    Examples:
        >>> a, b = torch.ones(2, 3), torch.ones(3, 5)
        >>> flops_by_operation(lambda: a @ b)
        {'aten.mm': 60}
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return {str(name): int(flops) for name, flops in counter.get_flop_counts().get("Global", {}).items()}
