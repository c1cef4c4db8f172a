"""The conformance kit: what every adapter and every strategy must hold, as checks that anyone can run.

It uses nothing of turbo that an outsider cannot use, and turbo's own adapters and strategies go through it as well.
"""

from turbo.testing.cases import AdapterCase, StrategyCase
from turbo.testing.entrances import adapter_checks, as_case, check_adapter, check_strategy, strategy_checks
from turbo.testing.pytest_support import parametrize_with_checks
from turbo.testing.results import NotApplicable, Result

__all__ = [
    "AdapterCase",
    "NotApplicable",
    "Result",
    "StrategyCase",
    "adapter_checks",
    "as_case",
    "check_adapter",
    "check_strategy",
    "parametrize_with_checks",
    "strategy_checks",
]
