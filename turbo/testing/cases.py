"""What a check is run on: an adapter with a small model, or a strategy."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

import turbo
from turbo.adapters import Adapter, Example, RoundTrip
from turbo.fusion import Strategy
from turbo.testing.names import load_adapter, load_strategy
from turbo.testing.outputs import pick_output
from turbo.testing.weights import make_loud, seeded

MERGED_SHARE = 0.12
"""Share of its tokens that each block merges for good, unless a check asks for something else."""
RESTORED_SHARE = 0.4
"""Share of its tokens that each part of a round-trip block merges, unless a check asks for something else."""


@dataclass(frozen=True, eq=False)
class AdapterCase:
    """An adapter, a small model that it describes, and inputs for it.

    Attributes:
        adapter: an instance, a class that is created without arguments, or a registered name.
        model: builds the model, the same at every call; the kit seeds torch before, and sets evaluation mode and
            random weights afterwards.
        inputs: batch size -> the model's inputs by keyword, in the order of its forward's signature, at the model's
            own resolution. The kit seeds torch before.
        output: what the model returns -> one tensor whose shape does not depend on how many tokens are left, batch
            first; None finds it (a tensor, logits, pooler_output and the like).
        name: in test ids and tables; by default made from the adapter and what builds the model.
        positional: whether the inputs can be given by position.
        independent_batch: False where an output is a mean over the batch, such as a loss.
        counts_patches: False where what follows the blocks reads merged tokens, each once however many patches it
            stands for, as the cross-attention of a text model does that sites() does not list.
        half_precision: whether the model runs in bfloat16 and float16 on the CPU.
        trains: whether gradients flow through the model.
        checkpointing: whether its blocks can be recomputed in the backward pass.
        pickles: whether the model can be deep-copied and pickled.
        compiles: whether ``torch.compile(fullgraph=True)`` takes the untouched model.
        restores: whether its blocks are `RoundTrip`, whose tokens are restored after each part. None leaves it to the
            checks to find out, and those about the other kind say then that they do not apply.
        options: further options of `turbo.accelerate`, in checks that leave it to the case how much merges.
        expected_failures: name of a check -> why it fails. Strict: one that passes is a failure.

    Examples:
        >>> case = AdapterCase.from_adapter("vit")
        >>> case.run(case.make_model(), case.make_inputs(batch=3)).shape
        torch.Size([3, 2])
    """

    adapter: Adapter | type[Adapter] | str
    model: Callable[[], nn.Module]
    inputs: Callable[[int], dict[str, Tensor]]
    output: Callable[[Any], Tensor] | None = None
    name: str = ""
    positional: bool = True
    independent_batch: bool = True
    counts_patches: bool = True
    half_precision: bool = True
    trains: bool = True
    checkpointing: bool = True
    pickles: bool = True
    compiles: bool = True
    restores: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    expected_failures: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.model) or isinstance(self.model, nn.Module):
            raise turbo.TurboError(
                f"AdapterCase model={_short(self.model)}: must be a function that builds the model (checks change it)"
            )
        if not callable(self.inputs):
            raise turbo.TurboError(
                f"AdapterCase inputs={_short(self.inputs)}: must be a function of the batch size, returning a dict"
            )
        _require_reasons(self.expected_failures)
        if not self.name:
            object.__setattr__(self, "name", self._default_name())
        _require_expectable(self)

    @classmethod
    def from_adapter(cls, adapter: Adapter | type[Adapter] | str, **options: Any) -> AdapterCase:
        """A case of the adapter's own `example`.

        Args:
            adapter: an instance, a class or a registered name.
            **options: further fields of the case.

        Raises:
            TurboError: the adapter has no example.
        """
        instance = load_adapter(adapter)
        example = instance.example()
        kind = type(instance).__name__
        if example is None:
            raise turbo.TurboError(
                f"the adapter {kind} has no example(): return turbo.adapters.Example(model, inputs) there, or write a "
                "turbo.testing.AdapterCase"
            )
        if not isinstance(example, Example):
            raise turbo.TurboError(f"{kind}.example() returned {_short(example)}: it must be a turbo.adapters.Example")
        found = {"output": example.output, "name": adapter if isinstance(adapter, str) else kind}
        return cls(adapter, example.model, example.inputs, **(found | options))

    @cached_property
    def instance(self) -> Adapter:
        """The adapter itself."""
        return load_adapter(self.adapter)

    @cached_property
    def round_trips(self) -> tuple[RoundTrip, ...]:
        """The round-trip blocks of a model of their own; none where sites() fails: the first check says so."""
        if self.restores is False:
            return ()
        model = self.make_model()
        try:
            tower = next(module for module in model.modules() if self.instance.distance(module) is not None)
            sites = list(self.instance.sites(tower))
        except Exception:
            return ()
        return tuple(site for site in sites if isinstance(site, RoundTrip))

    @property
    def nothing(self) -> dict[str, Any]:
        """Options under which the untouched forward runs."""
        return {"ratio": 0} if self.round_trips else {"drop": 0}

    @property
    def some(self) -> dict[str, Any]:
        """Options under which every block merges some tokens."""
        share = self.merging(RESTORED_SHARE) if self.round_trips else {"ratio": MERGED_SHARE}
        return {**share, **self.options}

    def merging(self, ratio: Any, **options: Any) -> dict[str, Any]:
        """Options under which every part of every round-trip block merges a share of its tokens."""
        parts = dict.fromkeys(part for block in self.round_trips for part in block.parts)
        coarsest = max(block.downsample for block in self.round_trips)
        return {"ratio": dict.fromkeys(parts, ratio), "max_downsample": coarsest} | options

    def make_model(self, seed: int = 0) -> Any:
        """A fresh model in evaluation mode, every parameter random; the same for the same seed."""
        with seeded(seed):
            model = self.model()
            if not isinstance(model, nn.Module):
                raise turbo.TurboError(f"{self.name}: model() returned {_short(model)}, not a torch.nn.Module")
            make_loud(model)
        return model.eval()

    def make_inputs(self, batch: int = 2, seed: int = 1) -> dict[str, Tensor]:
        """Inputs by keyword; the same for the same batch size and seed."""
        with seeded(seed):
            inputs = self.inputs(batch)
        if not isinstance(inputs, dict) or not all(isinstance(value, Tensor) for value in inputs.values()):
            raise turbo.TurboError(
                f"{self.name}: inputs({batch}) returned {_short(inputs)}; it must be a dict of keyword -> tensor"
            )
        return inputs

    def run(self, model: Any, inputs: Mapping[str, Tensor] | None = None, *, gradients: bool = False) -> Tensor:
        """One forward pass to the output tensor; without inputs, on those of `make_inputs`."""
        inputs = self.make_inputs() if inputs is None else inputs
        with torch.set_grad_enabled(gradients):
            return self.read(model(**inputs))

    def read(self, result: Any) -> Tensor:
        """The tensor in what the model returned."""
        return pick_output(result, self.output, self.name)

    def accelerate(self, model: Any, strategy: str | Strategy = "s1", **options: Any) -> Any:
        """`turbo.accelerate` with this adapter; every block merges some tokens unless options say otherwise."""
        wanted = options or self.some
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", turbo.TurboWarning)  # about small sequences, which is what samples have
            return turbo.accelerate(model, strategy, adapter=self.instance, **wanted)

    def _default_name(self) -> str:
        kind = self.adapter if isinstance(self.adapter, str) else type(self.instance).__name__
        built_by = getattr(self.model, "__name__", "")
        return f"{kind}-{built_by}" if built_by.isidentifier() else kind

    def __repr__(self) -> str:
        return f"AdapterCase({self.name!r})"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class StrategyCase:
    """A fusion strategy and what it may be asked for.

    Attributes:
        strategy: a callable of candidates, a class that is created without arguments, or a registered name.
        name: in test ids and tables; by default the strategy's own.
        per_token: False for a strategy that goes by a token's position, such as a random choice; by default what the
            strategy says by an attribute ``per_token``, else True.
        compiles: whether ``torch.compile(fullgraph=True)`` takes it.
        expected_failures: name of a check -> why it fails. Strict: one that passes is a failure.

    Examples:
        >>> StrategyCase("s1").function
        S1(alpha=0.25)
    """

    strategy: Strategy | type | str
    name: str = ""
    per_token: bool | None = None
    compiles: bool = True
    expected_failures: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_reasons(self.expected_failures)
        function = self.function
        if not self.name:
            own = getattr(function, "__name__", type(function).__name__)
            object.__setattr__(self, "name", self.strategy if isinstance(self.strategy, str) else own)
        if self.per_token is None:
            object.__setattr__(self, "per_token", bool(getattr(function, "per_token", True)))
        _require_expectable(self)

    @cached_property
    def function(self) -> Strategy:
        """The strategy itself."""
        return load_strategy(self.strategy)

    def __repr__(self) -> str:
        return f"StrategyCase({self.name!r})"

    def __str__(self) -> str:
        return self.name


def _require_reasons(expected_failures: Mapping[str, str]) -> None:
    for check, reason in expected_failures.items():
        if not isinstance(reason, str) or not reason.strip():
            raise turbo.TurboError(f"expected_failures[{check!r}]={reason!r}: say why it fails, in words")


def _require_expectable(case: AdapterCase | StrategyCase) -> None:
    from turbo.testing.entrances import checks_of  # it imports the checks, and these this module

    checks_of(case)


def _short(value: object) -> str:
    return f"a {type(value).__name__}"
