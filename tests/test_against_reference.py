"""The whole pipeline with S1(alpha=0), and with "tome", is the published token merging, token for token."""

import contextlib
from functools import cache

import pytest
import torch
from reference_tome import merge_most_similar, tome_vit
from transformers import DeiTConfig, DeiTModel, ViTConfig, ViTModel

import turbo
from turbo.engine.trace import recording

SHAPE = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 12,
    "num_attention_heads": 3,
    "patch_size": 4,
}
IMAGES = {48: (24, 32), 49: (28, 28)}
"""Image sizes by number of patches."""


@cache
def example(distilled, patches):
    """A model with random weights, in double precision so that rounding breaks no tie, and two images."""
    torch.manual_seed(patches)
    config, model = (DeiTConfig, DeiTModel) if distilled else (ViTConfig, ViTModel)
    model = model(config(**SHAPE, image_size=IMAGES[patches])).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)  # initial weights would leave attention nearly uniform
    return model, torch.randn(2, 3, *IMAGES[patches], dtype=torch.float64)


@cache
def expected(distilled, patches, r):
    with torch.no_grad():
        return tome_vit(*example(distilled, patches), r)


RAMP = (0, 6, 1, 5, 0, 4, 2, 4, 3, 2, 1, 0)
CASES = [(distilled, patches, 3) for distilled in (False, True) for patches in (48, 49)]
CASES += [(False, 49, 7), (False, 48, RAMP), (True, 48, 7), (True, 49, RAMP)]


def case_id(case):
    distilled, patches, r = case
    n = patches + 1 + distilled
    return f"{'deit' if distilled else 'vit'}-{n}tokens-{'ramp' if r is RAMP else f'r{r}'}"


@pytest.mark.parametrize("strategy", ["tome", turbo.fusion.S1(alpha=0)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_equals_published_token_merging(case, strategy):
    distilled, patches, r = case
    model, images = example(distilled, patches)
    hidden, lengths, size = expected(*case)
    # 7 per block is more than these models have: from some block on half of the tokens merge, and turbo says so.
    capped = r == 7
    said = pytest.warns(turbo.TurboWarning, match="more than half of the tokens")
    with said if capped else contextlib.nullcontext():
        turbo.accelerate(model, strategy, drop=r)
    try:
        with torch.no_grad(), recording(model) as trace:
            found = model(images).last_hidden_state
        assert [block.tokens_out for block in turbo.report(model).blocks] == lengths
    finally:
        turbo.restore(model)
    torch.testing.assert_close(found, hidden, atol=1e-5, rtol=0)
    assert trace.blocks[-1].size[0].tolist() == size
    assert (lengths[-1] < 5) == capped


def test_the_reference_without_merging_is_the_model():
    model, images = example(True, 48)
    with torch.no_grad():
        hidden, lengths, size = tome_vit(model, images, 0)
        torch.testing.assert_close(hidden, model(images).last_hidden_state, atol=1e-10, rtol=0)
    assert lengths == [50] * 12
    assert size == [1] * 50


def test_the_comparison_can_fail():
    """Sizes left out of attention, or another strategy, are far beyond the tolerance."""
    model, images = example(False, 49)
    hidden, *_ = expected(False, 49, 3)
    with torch.no_grad():
        without_sizes, *_ = tome_vit(model, images, 3, proportional=False)
        with turbo.accelerated(model, turbo.fusion.S1(alpha=0.5), drop=3):
            by_attention_too = model(images).last_hidden_state
    assert (without_sizes - hidden).abs().max() > 1e-2
    assert (by_attention_too - hidden).abs().max() > 1e-2


def test_the_reference_by_hand():
    """Five tokens: class, then b, a, b, a. The last is nearest to token 1 and weighs twice as much."""
    metric = [torch.tensor(v, dtype=torch.float64) for v in ([1.0, 1], [1.0, 0], [1.0, 2], [0.0, 1], [5.0, 0])]
    tokens = [torch.tensor([float(i)], dtype=torch.float64) for i in range(5)]
    merged, size = merge_most_similar(tokens, metric, [1, 1, 1, 1, 2], 1, distilled=False)
    assert torch.cat(merged).tolist() == [0.0, 2.0, 3.0, 3.0]  # class; 2 unmerged; (1 + 2 * 4) / 3; 3
    assert size == [1, 1, 3, 1]
    merged, size = merge_most_similar(tokens, metric, [1, 1, 1, 1, 2], 9, distilled=True)
    assert torch.cat(merged).tolist() == [0.0, 1.0, 4.0, 2.5]  # only token 3 may receive; one merge at most
    assert size == [1, 1, 2, 2]
