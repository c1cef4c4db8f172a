"""Paired benchmarks: the untouched model and accelerated ones, interleaved in one run."""

from turbo.allocator import hold_allocator
from turbo.bench.compare import Comparison, Side, compare
from turbo.bench.timing import interleave

__all__ = ["Comparison", "Side", "compare", "hold_allocator", "interleave"]
