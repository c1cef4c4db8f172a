"""Candidates for CUDA: the same contracts as turbo's own functions, in Triton or by another road to a fused kernel.

None is part of turbo: `benchmarks/gpu.py` measures them beside turbo's functions, eager and compiled, and what it
records decides. The folder is not called `kernels`: scripts beside it would offer that to transformers and diffusers
as Hugging Face's package of that name.
"""
