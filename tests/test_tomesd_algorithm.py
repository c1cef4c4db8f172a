"""The comparison with tomesd is only fair if its algorithm is the described one: token by token, on small grids."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from saved_pipelines import stable_diffusion
from torch import Tensor

FILE = Path(__file__).parents[1] / "benchmarks" / "tomesd_algorithm.py"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="benchmarks are no part of a source distribution")


@pytest.fixture(scope="module")
def algorithm() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tomesd_algorithm", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def described(x: Tensor, y: Tensor, destinations: list[int], count: int) -> Tensor:
    """What every token gets back where a part does nothing: one sample ``n d``, in words rather than in tensors."""
    sources = [i for i in range(len(x)) if i not in destinations]
    cosine = {i: {j: torch.cosine_similarity(x[i], x[j], dim=0).item() for j in destinations} for i in sources}
    best = {i: max(row, key=row.get) for i, row in cosine.items()}
    merged = sorted(sources, key=lambda i: cosine[i][best[i]], reverse=True)[:count]
    out = y.clone()
    for j in destinations:
        group = [j, *(i for i in merged if best[i] == j)]
        out[group] = y[group].mean(dim=0)
    return out


@pytest.mark.parametrize(("height", "width"), [(4, 4), (6, 8), (5, 7)])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_matching_is_as_described(algorithm, height: int, width: int, ratio: float):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, height * width, 6, generator=generator) for _ in range(2))
    destinations = algorithm.draw(height, width, generator)
    cells = [(int(d) // width // 2, int(d) % width // 2) for d in destinations]
    assert sorted(cells) == [(row, column) for row in range(height // 2) for column in range(width // 2)]
    count = min(int(ratio * height * width), height * width - len(destinations))
    merge, unmerge = algorithm.matched(x, destinations, int(ratio * height * width))
    assert merge(y).shape == (2, height * width - count, 6)
    wanted = torch.stack([described(a, b, destinations.tolist(), count) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(unmerge(merge(y)), wanted)


def test_destinations_move_with_the_seed_and_are_the_corners_of_an_odd_batch(algorithm):
    one, other = (algorithm.draw(8, 8, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert not torch.equal(one, other)
    fixed = algorithm.draw(4, 6, torch.Generator(), fixed=True)
    assert fixed.tolist() == [0, 2, 4, 12, 14, 16]


@pytest.mark.parametrize("parts", [("self_attention",), ("self_attention", "cross_attention", "feed_forward")])
def test_a_unet_runs_on_merged_tokens_and_is_left_as_it_was(algorithm, parts):
    unet = stable_diffusion().unet
    seen: dict[str, set[int]] = {}

    def watch(name: str):
        return lambda module, args: seen.setdefault(name, set()).add(args[0].shape[1])

    for name, module in unet.named_modules():
        if name.endswith(("attn1.to_q", "attn2.to_q", "ff.net.0.proj")):
            module.register_forward_pre_hook(watch(name.rpartition("transformer_blocks.0.")[2]))
    inputs = {"encoder_hidden_states": torch.randn(2, 7, 16)}
    sample = torch.randn(2, 4, 16, 16)
    with torch.no_grad():
        untouched = unet(sample, 500, **inputs).sample
        seen.clear()
        with algorithm.tomesd(unet, 0.5, parts):
            merged = unet(sample, 500, **inputs).sample
        left = {  # of 256 tokens; the middle block's 64 are too coarse
            "attn1.to_q": {128, 64},
            "attn2.to_q": {128 if "cross_attention" in parts else 256, 64},
            "ff.net.0.proj": {128 if "feed_forward" in parts else 256, 64},
        }
        assert seen == left
        assert not torch.equal(merged, untouched)
        with algorithm.tomesd(unet, 0.5, parts, max_downsample=0):  # no resolution is as fine
            assert torch.equal(unet(sample, 500, **inputs).sample, untouched)
        assert torch.equal(unet(sample, 500, **inputs).sample, untouched)
