"""Checks of many calls: batches, exceptions, other models, threads, strategies."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

import turbo
from turbo.fusion import Attention, Candidates, ToMe
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import differ, require, require_close, require_equal
from turbo.testing.probe import list_modules


class Interruption(Exception):
    """What the kit raises in the middle of a forward pass."""


def check_batch_independence(case: AdapterCase) -> None:
    """A batch gives what its images give alone: outputs, and what R and A say of each token."""
    model, inputs = case.make_model(), case.make_inputs(batch=3)
    message = (
        "an image's {} depends on its batch (a map or query() mixes images; where the output is a mean over the "
        "batch by its nature, independent_batch=False)"
    )
    for strategy in (ToMe(), Attention()):  # whose priorities are R and -A
        case.accelerate(model, strategy)
        output, scores = _recorded(case, model, inputs)
        for index in range(3):
            one = slice(index, index + 1)
            alone, scores_alone = _recorded(
                case, model, {name: value[one] if value.ndim else value for name, value in inputs.items()}
            )
            for depth, (found, wanted) in enumerate(zip(scores, scores_alone, strict=True)):
                require_close(found[one], wanted, message.format(f"{type(strategy).__name__} score in block {depth}"))
            require(
                output.ndim == alone.ndim and output.shape[1:] == alone.shape[1:],
                f"the output has shape {tuple(output.shape)} for 3 images and {tuple(alone.shape)} for one: where "
                "another dimension is the batch too, as in image-text logits, give output=lambda r: r.image_embeds",
            )
            require_close(output[one], alone, message.format("output"))


def _recorded(case: AdapterCase, model: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The output, and the priorities in each block that merges."""
    with turbo.recording(model) as trace:
        output = case.run(model, inputs)
    return output, [block.priority for block in trace.blocks]


def check_other_batch_sizes_need_no_new_call(case: AdapterCase) -> None:
    """After one accelerate any batch size runs, in any order, as if it were the first."""
    model = case.accelerate(case.make_model())
    found = [case.run(model, case.make_inputs(batch)) for batch in (2, 1, 3, 2)]
    for batch, output in zip((2, 1, 3, 2), found, strict=True):
        fresh = case.accelerate(case.make_model())
        require_equal(
            case.run(fresh, case.make_inputs(batch)),
            output,
            f"a batch of {batch} after others gives something else than at first (a map remembers an earlier call)",
        )


def check_exception_poisons_nothing(case: AdapterCase) -> None:
    """After an exception in the middle of a forward pass the next one gives what it gave before."""
    model = case.make_model()
    modules = list_modules(case, model)
    depth = min(1, len(modules) - 1)
    armed = False

    def strategy(candidates: Candidates) -> Tensor:
        if armed and candidates.depth == depth:
            raise Interruption
        return candidates.redundancy

    case.accelerate(model, strategy)
    wanted = case.run(model)
    armed = True
    _interrupted(case, model)
    armed = False
    message = "after an exception in {} the next forward pass is another one (a map keeps state between calls)"
    require_equal(case.run(model), wanted, message.format("a strategy"))
    for part in _leaves(modules[depth]):
        with ExitStack() as stack:
            ran: list[bool] = []
            stack.callback(part.register_forward_pre_hook(_raise_once(ran)).remove)
            _interrupted(case, model, must=False)
        if ran:
            require_equal(case.run(model), wanted, message.format(f"a {type(part).__name__} of block {depth}"))


def _raise_once(ran: list[bool]) -> Any:
    def hook(*_: object) -> None:
        ran.append(True)
        raise Interruption

    return hook


def _dawdle(*_: object) -> None:
    """Let the other threads overtake: in step with each other they would always write in the same order."""
    time.sleep(random.SystemRandom().uniform(0, 1e-3))  # which leaves the caller's random state alone


def _leaves(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if not list(part.children())]


def _interrupted(case: AdapterCase, model: Any, *, must: bool = True) -> None:
    try:
        case.run(model)
    except Interruption:
        return
    require(not must, "an exception raised in a strategy does not come out of the model's forward")


def check_two_models_do_not_interfere(case: AdapterCase) -> None:
    """Two models of one class, accelerated or not, never see each other."""
    one, other = case.make_model(seed=0), case.make_model(seed=1)
    message = "{} one model changes another (the adapter keeps blocks or tensors outside of the model, in a cache say)"
    untouched_one, untouched_other = case.run(one), case.run(other)
    require(differ(untouched_one, untouched_other), "model() returns the same object twice: it must build a new one")
    case.accelerate(one)
    fast_one = case.run(one)
    require_equal(case.run(other), untouched_other, message.format("accelerating"))
    case.accelerate(other, ToMe())
    fast_other = case.run(other)
    require(
        differ(fast_other, untouched_other), "accelerating a second model does nothing to it: sites() gives the first's"
    )
    require_equal(case.run(one), fast_one, message.format("accelerating"))
    turbo.restore(one)
    require_equal(case.run(other), fast_other, message.format("restoring"))
    require_equal(case.run(one), untouched_one, message.format("restoring"))


def check_threads_share_a_model(case: AdapterCase) -> None:
    """Threads that call one model at once get what one thread gets."""
    model = case.accelerate(case.make_model())
    inputs = [case.make_inputs(batch=1 + seed, seed=seed) for seed in range(3)]
    wanted = [case.run(model, each) for each in inputs]
    problems: list[str] = []
    start = threading.Barrier(len(inputs))

    def work(each: Mapping[str, Tensor], output: Tensor) -> None:
        start.wait()
        try:
            for _ in range(6):
                require_close(case.run(model, each), output, "the output is another thread's or a mixture")
        except Exception as error:
            problems.append(str(error))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, wanted, strict=True)]
    with ExitStack() as hooks:
        for leaf in _leaves(model):
            hooks.enter_context(leaf.register_forward_hook(_dawdle))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    require(
        not problems,
        f"threads disturb each other (a map keeps tensors on the block between qkv, project and mlp): {problems[:1]}",
    )


def check_every_strategy_runs(case: AdapterCase) -> None:
    """Every registered strategy gives a finite output of the untouched output's shape and dtype."""
    model = case.make_model()
    untouched = case.run(model)
    for name in turbo.list_strategies():
        try:
            found = case.run(case.accelerate(model, name))
        except turbo.TurboError as error:
            hint = " (query() returns NaN or numbers far out of range)" if "returned NaN" in str(error) else ""
            raise AssertionError(f"with strategy={name!r} the model fails: {error}{hint}") from error
        require(found.isfinite().all(), f"with strategy={name!r} the output has NaN or infinite numbers")
        for what in ("shape", "dtype"):
            now, was = getattr(found, what), getattr(untouched, what)
            require(
                now == was,
                f"with strategy={name!r} the output has {what} {now}, untouched {was} (where the output is the tokens "
                "themselves, pick something else with output=)",
            )


CHECKS = (
    check_batch_independence,
    check_other_batch_sizes_need_no_new_call,
    check_exception_poisons_nothing,
    check_two_models_do_not_interfere,
    check_threads_share_a_model,
    check_every_strategy_runs,
)
