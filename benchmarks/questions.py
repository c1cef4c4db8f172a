"""The settings that answer the questions behind turbo's defaults; `benchmarks/defaults.py` runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ablations import Blended, BothEnds, PerPatch, Tempered, no_sizes

from turbo.fusion import S1, S2, S3, S4, Attention, Bound, Distortion, Random, ToMe, Ward

TOKENS = 197  # of every model here
AMOUNTS = {"validation": (1.5, 2.0, 2.5), "test": (1.3, 1.6, 2.0, 2.5)}
FIXED = {"schedule": "decreasing", "destinations": "parity", "metric": "keys", "momentum": 0.5}
"""What every setting has unless its question is about it, so that results outlive a change of defaults."""

STRATEGIES: dict[str, Any] = {
    "tome": ToMe(),
    "attention": Attention(),
    "random": Random(),
    **{f"s1 alpha={alpha:g}": S1(alpha) for alpha in (0.05, 0.1, 0.25, 0.5, 1.0)},
    "s2": S2(),
    **{f"s3 alpha={alpha:g}": S3(alpha) for alpha in (0.1, 0.25)},
    "s4 alpha=0.1 beta=0.9": S4(alpha=0.1, beta=0.9, gamma=0),
    "s4 alpha=0.1 beta=1.1": S4(alpha=0.1, beta=1.1, gamma=0),
    "bound": Bound(),
    "ward": Ward(),
    "ward floor=0": Ward(0.0),
    "distortion": Distortion(),
}
VARIANTS: dict[str, Any] = {
    "bound, A^0.5": Tempered(Bound(), 0.5),
    "ward, A^0.5": Tempered(Ward(0.0), 0.5),
    "distortion, A^0.5": Tempered(Distortion(), 0.5),
    "bound, A + 0.3": Blended(Bound(), 0.3),
}
S1_NAME = "s1 alpha=0.1"
FEW = ("tome", S1_NAME, "ward floor=0")


@dataclass(frozen=True)
class Setting:
    """One way to accelerate a model.

    Attributes:
        question: what it helps to answer.
        name: says what differs from the others of the question.
        options: of `turbo.accelerate`.
        against: name of the setting of the same question that it is compared with.
        change: a context in which the accelerated model runs.
        whole: whether a text model that attends to the image is told what merged; if not, as in all questions about
            the vision tower, each token counts once there.
    """

    question: str
    name: str
    options: dict[str, Any] = field(hash=False)
    against: str
    change: Callable[[Any], Any] | None = None
    whole: bool = False

    @property
    def key(self) -> str:
        """What its file is called: equal settings of two questions share it."""
        change = [] if self.change is None else [self.change.__name__]
        change += ["sized text"] * self.whole
        chosen = [f"{name}={value}" for name, value in self.options.items() if FIXED.get(name) != value]
        return " ".join([*chosen, *change]).replace("/", "-")


def settings(model: str, split: str) -> Iterator[Setting]:
    """All settings of a model; on the test scenes those that report what validation chose."""
    further = (3.0,) if split == "test" and model == "clip-scenes" else ()  # where retrieval loses something at last
    for amount in (*AMOUNTS[split], *further):
        candidates = STRATEGIES if split == "test" else STRATEGIES | VARIANTS
        for name, strategy in candidates.items():
            yield _setting("strategy", name, "tome", amount, strategy)
        for rival in ("attention", "random", "s1 alpha=0.1", "s1 alpha=0.25"):
            for name in (rival, "ward"):
                yield _setting(f"strategy against {rival}", name, rival, amount, STRATEGIES[name])
    for amount in (2.0, 2.5):
        yield from _schedules(amount)
        for name in ("attention", S1_NAME, "ward" if split == "test" else "ward floor=0"):
            for momentum in (0.0, 0.25, 0.5, 0.75, 0.9) if split == "validation" else (0.0, 0.5):
                yield _setting(
                    f"momentum of A, {name}", f"{momentum:g}", "0", amount, STRATEGIES[name], momentum=momentum
                )
        if split == "validation":
            yield from _details(model, amount)
    if split == "validation":
        for name, strategy in STRATEGIES.items():
            yield _setting("strategy, constant", name, "tome", 2.0, strategy, schedule="constant")
        yield from _schedules(1.5)


def _schedules(amount: float) -> Iterator[Setting]:
    for name in FEW[:2]:
        question = f"schedule, {name}"
        for shape in ("constant", "decreasing", "increasing", "early"):
            yield _setting(question, shape, "constant", amount, STRATEGIES[name], schedule=shape)
        for share in (0.25, 0.45):
            held = {"schedule": "constant", "threshold": round(share * TOKENS)}
            yield _setting(question, f"constant, threshold {share:.0%}", "constant", amount, STRATEGIES[name], **held)


def _details(model: str, amount: float) -> Iterator[Setting]:
    s1 = STRATEGIES[S1_NAME]
    for name in FEW:
        strategy = STRATEGIES[name]
        for halves in ("parity", "ordered", "alternating"):
            yield _setting(f"partition, {name}", halves, "parity", amount, strategy, destinations=halves)
        for metric in ("keys", "queries"):
            yield _setting(f"metric, {name}", metric, "keys", amount, strategy, metric=metric)
    relative = "relative, alpha=0.1"
    yield _setting("units of A, s1", relative, relative, amount, s1)
    for alpha, why in ((6.0, "as printed"), (30.0, "as printed, times 5"), (180.0, "as printed, times 30")):
        name = f"probability, alpha={alpha:g} ({why})"
        yield _setting("units of A, s1", name, relative, amount, S1(alpha), semantic_units="probability")
    for name, strategy in ((S1_NAME, s1), ("bound", Bound()), ("ward floor=0", Ward(0.0))):
        question = f"A of a merged token, {name}"
        yield _setting(question, "of all its patches", "of all its patches", amount, strategy)
        yield _setting(question, "of one of them", "of all its patches", amount, PerPatch(strategy))
    question = "whom A protects, s1"
    yield _setting(question, "the source", "the source", amount, s1)
    yield _setting(question, "both, by the greater", "the source", amount, BothEnds(0.1))
    yield _setting(question, "both, by the sum", "the source", amount, BothEnds(0.1, sum=True))
    yield _setting("log s in the blocks, s1", "with", "with", amount, s1)
    yield _setting("log s in the blocks, s1", "without", "with", amount, s1, change=no_sizes)
    if model == "blip-scenes":
        question = "log s in the text's cross-attention, s1"
        yield _setting(question, "without", "without", amount, s1)
        yield replace(_setting(question, "with", "without", amount, s1), whole=True)


def _setting(
    question: str, name: str, against: str, amount: float, strategy: Any, change: Any = None, **options: Any
) -> Setting:
    given = {"strategy": strategy, "speedup": amount, **FIXED, **options}
    return Setting(f"{question}, {amount}x", name, given, against, change)
