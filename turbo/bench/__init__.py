"""Paired benchmarks: the untouched model and accelerated ones, interleaved in one run."""

from turbo.bench.compare import Comparison, Side, compare
from turbo.bench.timing import hold_allocator, interleave

__all__ = ["Comparison", "Side", "compare", "hold_allocator", "interleave"]
