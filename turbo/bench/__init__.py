"""Paired benchmarks: the untouched model and accelerated ones, interleaved in one run."""

from turbo.allocator import hold_allocator
from turbo.bench.compare import Comparison, Side, compare
from turbo.bench.copies import copy_sharing
from turbo.bench.timing import interleave, quartiles

__all__ = ["Comparison", "Side", "compare", "copy_sharing", "hold_allocator", "interleave", "quartiles"]
