"""A clock that counts FLOPs, so that what is timed runs and no machine matters; and what timing must leave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from turbo.engine import clock


@contextmanager
def counting_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A million FLOPs take a second; yields the FLOPs of what was timed so far."""
    calls: list[int] = []

    def seconds_of(call, device):
        with FlopCounterMode(display=False) as counter:
            call()
        calls.append(counter.get_total_flops())
        return calls[-1] / 1e6

    monkeypatch.setattr(clock, "seconds_of", seconds_of)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # torch's counter does not see it
    try:
        yield calls
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def state_of(model: torch.nn.Module) -> dict[str, Any]:
    """All that calibrating could leave behind."""
    return {
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "gradients": {name: p.grad for name, p in model.named_parameters()},
        "asked for": [p.requires_grad for p in model.parameters()],
        "training": [module.training for module in model.modules()],
        "attributes": [sorted(module.__dict__) for module in model.modules()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        "random": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
    }


def require_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before.keys() == after.keys()
    for name in before.keys() - {"weights", "random"}:
        assert before[name] == after[name], name
    assert torch.equal(before["random"], after["random"])
    assert before["weights"].keys() == after["weights"].keys()
    for name, tensor in before["weights"].items():
        assert torch.equal(tensor, after["weights"][name]), name
