"""Random weights that make mistakes visible, without touching the caller's random state; and what can be stored."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_SPREAD = 0.3


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch for a `with` block; afterwards its random state is what it was."""
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if used else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def make_loud(model: nn.Module) -> None:
    """Give every parameter a random value that shows when it is left out.

    Matrices keep the scale of what passes through them, so scores and attention differ from token to token. Vectors
    (norms, biases, LayerScale, single tokens) move away from 0 and 1, where forgetting them would change nothing.
    """
    for parameter in model.parameters():
        if not parameter.is_floating_point():
            continue
        if parameter.ndim < 2 or parameter.shape[0] == 1:
            parameter.add_(torch.randn_like(parameter) * _SPREAD)
        else:
            parameter.normal_(0, parameter[0].numel() ** -0.5)


def pickles(model: nn.Module) -> bool:
    """Whether a model can be stored as it is: libraries hang functions on models while these run."""
    try:
        pickle.dumps(model)
    except (TypeError, AttributeError, pickle.PicklingError):
        return False
    return True
