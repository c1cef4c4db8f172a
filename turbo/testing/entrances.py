"""The ways into the kit that need no pytest."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import turbo
from turbo.adapters import Adapter
from turbo.fusion import Strategy
from turbo.testing import (
    behaviour,
    description,
    exactness,
    execution,
    positions,
    preflight,
    readers,
    round_trip,
    round_trip_description,
    strategy_contract,
    strategy_order,
    tokens,
    training,
)
from turbo.testing.cases import AdapterCase, StrategyCase
from turbo.testing.names import refuse_block
from turbo.testing.results import Result, run_check

Case = AdapterCase | StrategyCase
AdapterCheck = Callable[[AdapterCase], None]
StrategyCheck = Callable[[StrategyCase], None]

ADAPTER_CHECKS: tuple[AdapterCheck, ...] = (
    preflight.check_description_is_usable,
    *description.CHECKS,
    *positions.CHECKS,
    *round_trip_description.CHECKS,
    *exactness.CHECKS,
    *tokens.CHECKS,
    *readers.CHECKS,
    *round_trip.CHECKS,
    *behaviour.CHECKS,
    *training.CHECKS,
    *execution.CHECKS,
)
STRATEGY_CHECKS: tuple[StrategyCheck, ...] = (
    preflight.check_strategy_is_callable,
    *strategy_contract.CHECKS,
    *strategy_order.CHECKS,
)
FIRST = (ADAPTER_CHECKS[0].__name__, STRATEGY_CHECKS[0].__name__)
"""Where one of these fails, the checks after it are not run."""

FLAGS = {
    "check_keyword_calls": "positional",
    "check_merged_duplicates_change_nothing": "counts_patches",
    "check_batch_independence": "independent_batch",
    "check_gradients_flow": "trains",
    "check_checkpointed_blocks_give_the_same_gradients": "checkpointing",
    "check_own_checkpointing_gives_the_same_gradients": "checkpointing",
    "check_half_precision_keeps_its_type": "half_precision",
    "check_deepcopy_and_pickle": "pickles",
    "check_compiles": "compiles",
    "check_judges_each_token_by_itself": "per_token",
    "check_strategy_compiles": "compiles",
}
"""The flag of a case that a check asks about, for those that ask."""

MERGED_FOR_GOOD = frozenset(
    {
        "check_maps_are_the_block",
        "check_blocks_follow_each_other",
        "check_prefix_tokens_are_protected",
        "check_refused_methods_refuse",
        "check_checkpointed_blocks_give_the_same_gradients",
        "check_own_checkpointing_gives_the_same_gradients",
        *(check.__name__ for check in (*positions.CHECKS, *tokens.CHECKS, *readers.CHECKS)),
    }
)
RESTORED = frozenset(check.__name__ for check in (*round_trip_description.CHECKS, *round_trip.CHECKS))
"""Checks about one of the two kinds of blocks."""


def adapter_checks(case: AdapterCase | None = None) -> list[AdapterCheck]:
    """The checks for an adapter's case: those that its flags leave in. All of them without a case.

    Raises:
        TurboError: the case expects a failure of a check that there is not, or that its flags leave out.

    Examples:
        >>> [check.__name__ for check in adapter_checks()][:2]
        ['check_description_is_usable', 'check_supports_is_specific']
    """
    return list(ADAPTER_CHECKS) if case is None else _selected(ADAPTER_CHECKS, case)


def strategy_checks(case: StrategyCase | None = None) -> list[StrategyCheck]:
    """The checks for a strategy's case: those that its flags leave in. All of them without a case.

    Raises:
        TurboError: as for `adapter_checks`.

    Examples:
        >>> len(strategy_checks(StrategyCase("random", per_token=False))) - len(strategy_checks())
        -1
    """
    return list(STRATEGY_CHECKS) if case is None else _selected(STRATEGY_CHECKS, case)


def check_adapter(
    case: AdapterCase | Adapter | type[Adapter] | str, *, only: str | Collection[str] = ()
) -> list[Result]:
    """Run all checks of an adapter.

    Args:
        case: a case; or an adapter, its class or its registered name, which is run on its own `example`.
        only: names of checks, or one name; empty for all.

    Returns:
        One result per check, those that do not apply included.

    Examples:
        >>> [result] = check_adapter("vit", only=["check_noop_is_exact"])
        >>> result.outcome
        'passed'
    """
    return list(results_of(case if isinstance(case, AdapterCase) else AdapterCase.from_adapter(case), only))


def check_strategy(case: StrategyCase | Strategy | type | str, *, only: str | Collection[str] = ()) -> list[Result]:
    """Run all checks of a strategy.

    Args:
        case: a case; or a strategy, its class or its registered name.
        only: names of checks, or one name; empty for all.

    Returns:
        One result per check, those that do not apply included.

    Examples:
        >>> all(result.ok for result in check_strategy("s1"))
        True
    """
    return list(results_of(case if isinstance(case, StrategyCase) else StrategyCase(case), only))


def checks_of(case: Case) -> list[Callable[[Any], None]]:
    """The checks for a case, by its kind."""
    return [*(adapter_checks(case) if isinstance(case, AdapterCase) else strategy_checks(case))]


def results_of(case: Case, only: str | Collection[str] = ()) -> Iterator[Result]:
    """Run the checks of a case one by one; where the first of all fails the others are not run."""
    only = [only] if isinstance(only, str) and only else only
    known = ADAPTER_CHECKS if isinstance(case, AdapterCase) else STRATEGY_CHECKS
    _require_known(only, [check.__name__ for check in (*ADAPTER_CHECKS, *STRATEGY_CHECKS)], "only")
    selected = checks_of(case)
    blocked = False
    for check in known:
        name = check.__name__
        if only and name not in only:
            continue
        if check not in selected:
            yield Result(case.name, name, "not applicable", _why_left_out(name, case))
        elif blocked:
            yield Result(case.name, name, "not run", f"see {known[0].__name__}")
        else:
            result = run_check(check, case, case.name, case.expected_failures.get(name))  # type: ignore[arg-type]
            blocked = name in FIRST and result.outcome in ("failed", "expected failure")
            yield result


def as_case(thing: Any) -> Case:
    """A case from whatever can be checked: a case, an adapter or a strategy, their class or their registered name.

    Raises:
        TurboError: it is none of these, an unknown name, or the name of both an adapter and a strategy.

    Examples:
        >>> as_case("tome").name, as_case("vit").name
        ('tome', 'vit')
    """
    if isinstance(thing, AdapterCase | StrategyCase):
        return thing
    if isinstance(thing, str):
        return _named(thing)
    if isinstance(thing, Adapter) or (isinstance(thing, type) and issubclass(thing, Adapter)):
        return AdapterCase.from_adapter(thing)
    refuse_block(thing)
    if callable(thing):
        return StrategyCase(thing)
    raise turbo.TurboError(
        f"nothing to check in a {type(thing).__name__}: give an AdapterCase, a StrategyCase, an adapter, a strategy, "
        "or a registered name"
    )


def _named(name: str) -> Case:
    adapter, strategy = name in turbo.list_adapters(), name in turbo.list_strategies()
    if adapter and strategy:
        raise turbo.TurboError(
            f"{name!r} names an adapter and a strategy: give AdapterCase.from_adapter or StrategyCase"
        )
    if not adapter and not strategy:
        raise turbo.TurboError(
            f"no adapter and no strategy is called {name!r}; adapters: {', '.join(turbo.list_adapters())}; strategies: "
            f"{', '.join(turbo.list_strategies())}"
        )
    return AdapterCase.from_adapter(name) if adapter else StrategyCase(name)


def _selected(checks: tuple[Any, ...], case: Case) -> list[Any]:
    _require_known(
        case.expected_failures, [check.__name__ for check in checks], f"{case.name}: expected_failures names"
    )
    restores = getattr(case, "restores", None)
    other = frozenset() if restores is None else MERGED_FOR_GOOD if restores else RESTORED
    selected = [
        check for check in checks if getattr(case, FLAGS.get(check.__name__, "name")) and check.__name__ not in other
    ]
    off = set(case.expected_failures) - {check.__name__ for check in selected}
    if off:
        name = min(off)
        why = _why_left_out(name, case)
        raise turbo.TurboError(f"{case.name}: {why} leaves {name} out; do not expect it to fail as well")
    return selected


def _why_left_out(name: str, case: Case) -> str:
    flag = FLAGS.get(name)
    if flag is None or getattr(case, flag):  # its own flag asks for it, and the kind of model has no use for it
        flag = "restores"
    return f"{flag}={getattr(case, flag)}"


def _require_known(names: Collection[str], known: list[str], where: str) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise turbo.TurboError(
                f"{where} {name!r}: there is no such check; {'near to it' if near else 'there are'}: "
                f"{', '.join(near or known)}"
            )
