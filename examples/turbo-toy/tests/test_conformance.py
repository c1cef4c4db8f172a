"""The adapter and the strategy keep every promise that turbo's own ones keep."""

import torch
from turbo_toy.model import ToyClassifier

from turbo.testing import AdapterCase, parametrize_with_checks

ADAPTER = AdapterCase("toy", ToyClassifier, lambda batch: {"patches": torch.randn(batch, 64, 32)})


@parametrize_with_checks([ADAPTER, "keep_big"])
def test_turbo_conformance(case, check):
    """One test per case and check, such as toy-ToyClassifier-check_noop_is_exact."""
    check(case)
