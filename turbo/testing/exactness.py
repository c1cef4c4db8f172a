"""Checks that what should change nothing changes nothing."""

from __future__ import annotations

import io
import pickle
from typing import Any

import torch
from torch import nn

import turbo
from turbo.fusion import ToMe
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import differ, require, require_close, require_equal
from turbo.testing.probe import list_blocks, watch
from turbo.testing.weights import pickles

_NEXT_TO_NOTHING = 1e-9
"""A ratio above 0 that asks for less than one token."""


def check_noop_is_exact(case: AdapterCase) -> None:
    """With drop=0, or ratio=0 for a denoiser, the model computes what it computes untouched, bit for bit."""
    model = case.make_model()
    untouched = case.run(model)
    case.accelerate(model, **case.nothing)
    [option] = case.nothing
    require_equal(
        case.run(model),
        untouched,
        f"{option}=0 is not exact (sites() or shape() changes the model: an adapter describes and changes nothing)",
    )


def check_nothing_to_merge_is_exact(case: AdapterCase) -> None:
    """Where the engine runs every block and no token merges, the output is the untouched one up to rounding."""
    model = case.make_model()
    untouched = case.run(model)
    if case.round_trips:
        options = case.merging(_NEXT_TO_NOTHING)
    else:
        n = watch(case, model, list_blocks(case, model), case.make_inputs())[0].x.shape[1]
        options = {"drop": 1, "threshold": n + 1}
    case.accelerate(model, **options)
    require_close(
        case.run(model),
        untouched,
        "nothing merged, yet the output is another one (a map repeats upstream arithmetic or forgets a part of it; see "
        "check_maps_are_the_block)",
    )


def check_restore_leaves_no_trace(case: AdapterCase) -> None:
    """After restore classes, attributes, hooks, what pickle stores and the output are those of the untouched model."""
    model = case.make_model()
    untouched = case.run(model)
    before = _traces(model)
    stored = _pickled_names(model) if case.pickles and pickles(model) else None
    case.accelerate(model)
    require(differ(case.run(model), untouched), "accelerated, the output is the untouched one: no token merges")
    turbo.restore(model)
    after = _traces(model)
    changed = [place for place in before | after if before.get(place) != after.get(place)]
    require(
        not changed,
        f"after restore something else than before is in {', '.join(changed[:4])}: sites() must set nothing on the "
        "model, on its modules or on their classes",
    )
    require_equal(case.run(model), untouched, "after restore the output is another one")
    if stored is not None:
        new = sorted(".".join(name) for name in _pickled_names(model) - stored)
        require(not new, f"after restore a pickle of the model refers to {', '.join(new)}")


def check_state_dict_is_untouched(case: AdapterCase) -> None:
    """While accelerated, and after, parameters and buffers have the same names and the same storage."""
    model = case.make_model()
    before = _state(model)
    for when in ("accelerated", "restored"):
        case.accelerate(model) if when == "accelerated" else turbo.restore(model)
        after = _state(model)
        require(
            after.keys() == before.keys(),
            f"{when}, state_dict has other keys: {', '.join(sorted(after.keys() ^ before.keys()))} (sites() must "
            "register nothing on the model)",
        )
        moved = [key for key in before if after[key] != before[key]]
        require(
            not moved, f"{when}, {', '.join(moved[:4])} has another storage: sites() must copy or replace no weight"
        )


def check_accelerate_is_idempotent(case: AdapterCase) -> None:
    """Accelerating twice is accelerating once with the newer settings, and one restore undoes it."""
    model, other = case.make_model(), case.make_model()
    untouched = case.run(model)
    case.accelerate(model, **case.merging(0.2, seed=5) if case.round_trips else {"drop": 2})
    case.run(model)
    case.accelerate(model, ToMe())
    once = case.run(case.accelerate(other, ToMe()))
    require_equal(
        case.run(model),
        once,
        "accelerated twice, the output is not that of the newer settings alone (sites() depends on earlier calls)",
    )
    turbo.restore(model)
    require_equal(case.run(model), untouched, "one restore does not undo two calls of accelerate")


def check_keyword_calls(case: AdapterCase) -> None:
    """Inputs by position and by keyword give the same, for the model and for its first block."""
    model = case.make_model()
    inputs = case.make_inputs()
    untouched = case.run(model, inputs)
    case.accelerate(model)
    fast = case.run(model, inputs)
    require_equal(case.run(model, inputs), fast, "two equal calls by keyword give two outputs")
    turbo.restore(model)
    require_equal(_positional(case, model, inputs), untouched, _ORDER)
    case.accelerate(model)
    require_equal(_positional(case, model, inputs), fast, _ORDER)


_ORDER = (
    "calls by position and by keyword differ (inputs must be in the order of forward's signature; where a model has "
    "no such order, positional=False)"
)


def _positional(case: AdapterCase, model: Any, inputs: dict[str, Any]) -> Any:
    with torch.no_grad():
        return case.read(model(*inputs.values()))


def _state(model: nn.Module) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {key: (value.data_ptr(), value.stride()) for key, value in model.state_dict().items()}


def _traces(model: nn.Module) -> dict[str, object]:
    """Everything that can be seen of a model's modules and of their classes without running it."""
    found: dict[str, object] = {}
    for name, module in model.named_modules():
        label = f"{name or 'the model'} ({type(module).__name__})"
        found[label] = (type(module), module.training, set(module.__dict__))
        for kind, members in vars(module).items():
            if isinstance(members, dict) and kind.startswith("_"):  # parameters, buffers, modules, hooks
                found[f"{label}.{kind}"] = {key: id(value) for key, value in members.items()}
        for cls in type(module).__mro__[:-1]:
            found[f"class {cls.__name__}"] = {key: id(value) for key, value in vars(cls).items()}
    return found


class _Names(pickle.Unpickler):
    """Remembers the classes and functions that a pickle refers to."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.names: set[tuple[str, str]] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.names.add((module, name))
        return super().find_class(module, name)


def _pickled_names(model: nn.Module) -> set[tuple[str, str]]:
    reader = _Names(io.BytesIO(pickle.dumps(model)))
    reader.load()
    return reader.names


CHECKS = (
    check_noop_is_exact,
    check_nothing_to_merge_is_exact,
    check_restore_leaves_no_trace,
    check_state_dict_is_untouched,
    check_accelerate_is_idempotent,
    check_keyword_calls,
)
