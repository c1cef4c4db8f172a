"""A carried along depth on whole models: `momentum=` against the definition, and what refuses it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from families import family
from toy_denoiser import denoiser_case
from typer.testing import CliRunner

import turbo
from turbo.cli.app import app
from turbo.engine.install import require_acceleration
from turbo.engine.trace import BlockTrace, recording
from turbo.fusion import Bound
from turbo.information import spread_queries

CLASSIFIER = family("vit-classifier")
DROPS = ([6, 5, 4, 3], [6, 0, 5, 4], [0, 6, 5, 0])
"""In every block; with one in between that merges nothing; with such blocks at both ends."""


def pixels(batch: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, 48, 48, generator=torch.Generator().manual_seed(seed))


def logits(model: Any, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return turbo.accelerate(model, Bound(), drop=6, **options)(pixels()).logits


def watched(model: Any) -> tuple[list[BlockTrace], dict[int, tuple[torch.Tensor, torch.Tensor]]]:
    """What merged in a forward pass, and each block's q and k."""
    projected = {}

    def watch(depth: int, site: Any) -> None:
        original = type(site).qkv

        def qkv(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            q, k, v = original(site, x)
            projected[depth] = q.double(), k.double()
            return q, k, v

        site.qkv = qkv

    for depth, site in enumerate(require_acceleration(model).blocks):
        watch(depth, site)
    with torch.no_grad(), recording(model) as trace:
        model(pixels())
    return trace.blocks, projected


def own_value(query: torch.Tensor, k: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """A of one block by its definition: ``b h m e``, ``b h n e``, ``b n`` -> ``b n``."""
    scores = torch.einsum("bhme,bhne->bhmn", query, k) / k.shape[3] ** 0.5
    weights = scores.exp() * size[:, None, None]
    return (weights / weights.sum(3, keepdim=True)).mean((1, 2))


def values(blocks: Sequence[BlockTrace], projected: Any, momentum: float, class_token: bool) -> list[torch.Tensor]:
    """What A should have been in each block that merged, by following every token that entered the first of them.

    Args:
        blocks: what merged.
        projected: depth -> q and k.
        momentum: what is left of a value from one block to the next.
        class_token: whether A is the attention of token 0, or that of a few tokens on average.
    """
    found: list[torch.Tensor] = []
    own: list[torch.Tensor] = []
    for index, block in enumerate(blocks):
        q, k = projected[block.depth]
        size = blocks[index - 1].size.double() if index else torch.ones(k.shape[0], k.shape[2], dtype=torch.float64)
        own.append(own_value(q[:, :, :1] if class_token else spread_queries(q), k, size))
        total = torch.zeros_like(own[-1])
        for earlier in range(index + 1):
            weight = momentum ** (index - earlier) * (1 if earlier == 0 else 1 - momentum)
            for b in range(len(total)):
                for token, share in enumerate(own[earlier][b].tolist()):
                    place = token
                    for between in blocks[earlier:index]:
                        place = int(between.assignment[b, place])
                    total[b, place] += weight * share
        found.append(total)
    return found


@pytest.mark.parametrize("drop", DROPS, ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", ["vit-classifier", "timm-no-class-avg"])
def test_candidates_have_the_value_by_definition(name: str, momentum: float, drop: list[int]):
    chosen = family(name)
    units = "probability" if momentum == 0.9 else "relative"
    model = chosen.model()
    turbo.accelerate(model, "s1", drop=drop, momentum=momentum, semantic_units=units)
    blocks, projected = watched(model)
    assert [block.depth for block in blocks] == [depth for depth, count in enumerate(drop) if count]
    wanted = values(blocks, projected, momentum, class_token=chosen.protected > 0)
    for block, value in zip(blocks, wanted, strict=True):
        n = value.shape[1]
        given = value * n if units == "relative" else value
        sources, destinations = (list(range(chosen.protected + first, n, 2)) for first in (0, 1))
        if chosen.protected % 2:  # even positions are the sources
            sources, destinations = destinations, sources
        _, k = projected[block.depth]
        metric = torch.nn.functional.normalize(k.mean(1), dim=2)
        partner = (metric[:, sources] @ metric[:, destinations].transpose(1, 2)).argmax(2)
        close = {"atol": 1e-6 * n, "rtol": 1e-5}
        torch.testing.assert_close(block.candidates.value.double(), given[:, sources], **close)
        torch.testing.assert_close(
            block.candidates.partner_value.double(), given[:, destinations].gather(1, partner), **close
        )


def test_a_half_is_the_default():
    model = CLASSIFIER.model()
    default = logits(model)
    assert torch.equal(logits(model, momentum=0.5), default)
    assert not torch.equal(logits(model, momentum=0), default)
    assert not torch.equal(logits(model, momentum=0.9), default)


def test_without_momentum_nothing_is_carried():
    model = turbo.accelerate(family("timm-no-class-avg").model(), drop=6, momentum=0)
    acceleration = require_acceleration(model)
    seen = []
    leave = acceleration.leave
    acceleration.leave = lambda flow: (seen.append(flow), leave(flow))[1]
    with torch.no_grad():
        model(pixels())
    assert [flow.value for flow in seen] == [None] * 4
    assert all(flow.size is not None for flow in seen)


def test_one_merging_block_has_nothing_to_carry():
    model = CLASSIFIER.model()
    with torch.no_grad():
        one, other = (
            turbo.accelerate(model, Bound(), drop=[0, 0, 9, 0], momentum=momentum)(pixels()).logits
            for momentum in (0, 0.9)
        )
    assert torch.equal(one, other)


def test_images_of_a_batch_do_not_see_each_other():
    model = turbo.accelerate(CLASSIFIER.model(), Bound(), drop=6)
    images = pixels(3)
    with torch.no_grad():
        together = model(images).logits
        for i in range(3):
            torch.testing.assert_close(model(images[i : i + 1]).logits[0], together[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("drop", DROPS, ids=str)
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_output_and_gradients(reentrant: bool, drop: list[int]):
    def outcome() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model.zero_grad()
        output = model(pixels()).logits
        output.square().sum().backward()
        return output.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model = turbo.accelerate(CLASSIFIER.model(), Bound(), drop=drop, momentum=0).train()
    unlike, _ = outcome()
    turbo.accelerate(model, Bound(), drop=drop, momentum=0.9)
    output, wanted = outcome()
    assert not torch.allclose(output, unlike, atol=1e-5, rtol=1e-5)  # else a lost value would not show
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    again, found = outcome()
    torch.testing.assert_close(again, output, atol=1e-6, rtol=1e-5)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=1e-4)


def test_gradients_do_not_flow_through_the_value():
    """A says which tokens merge, which is no smooth choice; what is carried keeps no graph alive."""
    model = turbo.accelerate(CLASSIFIER.model(), drop=6).train()
    acceleration = require_acceleration(model)
    seen = []
    leave = acceleration.leave
    acceleration.leave = lambda flow: (seen.append(flow), leave(flow))[1]
    model(pixels())
    assert [flow.value.requires_grad for flow in seen] == [False] * 4


def test_it_compiles_in_one_graph():
    model = turbo.accelerate(family("vit").model(), Bound(), drop=[6, 0, 5, 4], momentum=0.9)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        wanted = model(pixels()).pooler_output
        torch.testing.assert_close(compiled(pixels()).pooler_output, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("momentum", [0, 0.5])
def test_denoisers_carry_nothing(momentum: float):
    case = denoiser_case(restores=True)
    with pytest.raises(turbo.TurboError, match=f"momentum={momentum} cannot apply to a .*each block by itself"):
        turbo.accelerate(case.make_model(), adapter=case.adapter, momentum=momentum)


def evaluated(*arguments: object):
    common = ("eval", "--model", "zoo:vit-digits", "--data", "digits:plain", "--limit", 4, "--no-timing", "--no-plot")
    return CliRunner().invoke(app, [*map(str, common), *map(str, arguments)])


def test_eval_takes_a_list_and_names_it(tmp_path: Path):
    result = evaluated("--strategies", "bound", "--speedup", 2, "--momentum", "0,0.5", "--out", tmp_path)
    assert result.exit_code == 0, (result.output, result.exception)
    settings = json.loads((tmp_path / "results.json").read_text())["settings"]
    assert list(settings) == ["untouched", "bound speedup=2 momentum=0", "bound speedup=2 momentum=0.5"]
    assert [about["options"].get("momentum") for about in settings.values()] == [None, 0.0, 0.5]
    header = (tmp_path / "results.csv").read_text().splitlines()[0]
    assert "option_momentum" in header.split(",")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("a", "--momentum a: give numbers with commas between them"),
        ("1", "momentum=1.0: must be a number, at least 0 and below 1"),
        ("0.5,0.5", "--momentum 0.5,0.5: give each value once"),
    ],
)
def test_eval_says_what_is_wrong(tmp_path: Path, written: str, message: str):
    result = evaluated("--momentum", written, "--out", tmp_path)
    assert isinstance(result.exception, turbo.TurboError)
    assert message in str(result.exception)
