"""What an accelerated model does, block by block."""

from __future__ import annotations

from dataclasses import dataclass

from turbo.engine.acceleration import Acceleration


@dataclass(frozen=True)
class BlockReport:
    """One block: tokens in and out of its merge, and its FLOPs for one image before and after."""

    depth: int
    tokens_in: int
    tokens_out: int
    flops_untouched: int
    flops: int

    @property
    def merged(self) -> int:
        """Tokens merged here."""
        return self.tokens_in - self.tokens_out


@dataclass(frozen=True)
class Report:
    """What happens to n tokens in an accelerated model.

    Attributes:
        model: class of the tower that is accelerated.
        adapter: its adapter's name.
        strategy: the fusion strategy.
        n: tokens of the last forward pass, or at the model's own resolution before the first.
        promised: the speed-up that was asked for, if one was.
        blocks: one entry per block.
        notes: what could not be done as asked.
    """

    model: str
    adapter: str
    strategy: str
    n: int
    promised: float | None
    blocks: tuple[BlockReport, ...]
    notes: tuple[str, ...]

    @property
    def achieved(self) -> float:
        """By which factor the blocks' FLOPs fall."""
        return sum(b.flops_untouched for b in self.blocks) / sum(b.flops for b in self.blocks)

    def __str__(self) -> str:
        lines = [
            f"{self.model} ({self.adapter}), strategy {self.strategy}, {self.n} tokens",
            f"{'block':>5} {'in':>6} {'merged':>7} {'out':>6} {'GFLOPs':>9} {'before':>9}",
        ]
        lines += [
            f"{b.depth:>5} {b.tokens_in:>6} {b.merged:>7} {b.tokens_out:>6} {b.flops / 1e9:>9.3f} "
            f"{b.flops_untouched / 1e9:>9.3f}"
            for b in self.blocks
        ]
        promised = f", {self.promised:.2f}x asked for" if self.promised else ""
        lines.append(f"FLOPs of the blocks fall by {self.achieved:.2f}x{promised}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def make_report(acceleration: Acceleration) -> Report:
    """The report of an accelerated model, for the tokens of its last forward pass."""
    settings, n = acceleration.settings, acceleration.last_n or acceleration.n
    plan = acceleration.plan(n)
    untouched = [flops(n, n) for flops in acceleration.flops]
    rows = zip(plan.tokens, plan.tokens[1:], untouched, plan.flops(acceleration.flops), strict=False)
    return Report(
        model=type(acceleration.tower).__name__,
        adapter=acceleration.adapter_name,
        strategy=settings.strategy_name,
        n=n,
        promised=settings.schedule.speedup,
        blocks=tuple(BlockReport(depth, *row) for depth, row in enumerate(rows)),
        notes=plan.notes,
    )
