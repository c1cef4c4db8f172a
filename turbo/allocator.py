"""The C library's memory allocator, held steady for loops that make the same tensors again and again."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def hold_allocator() -> bool:
    """Keep glibc from giving memory back between forward passes, which slows CPU runs and distorts their timings.

    Returns:
        Whether the setting was made (Linux with glibc only).
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    held = 1 << 30
    settings = ((_M_TRIM_THRESHOLD, held), (_M_MMAP_THRESHOLD, held), (_M_TOP_PAD, 1 << 26))
    made = [libc.mallopt(option, value) for option, value in settings]
    return all(result == 1 for result in made)
