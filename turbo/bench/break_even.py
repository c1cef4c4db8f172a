"""From which sequence length, batch and drop merging tokens pays on a machine: from times of single blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from turbo.engine.times import Calibration, Measured
from turbo.schedule import Schedule

MARGIN = 0.01
"""By how much a speed-up must exceed 1 to count: less may be noise."""


@dataclass(frozen=True)
class Length:
    """One sequence length.

    Attributes:
        n: tokens that enter the first block.
        speedup: untouched time of all blocks / their time with the default amount.
    """

    n: int
    speedup: float


@dataclass(frozen=True)
class BatchBreakEven:
    """Where turbo starts to pay at one batch size.

    Attributes:
        batch: images per call.
        n: the model's own number of tokens.
        lengths: the lengths that were timed, the shortest first.
        pays_from: the shortest of these from which on the default amount pays; None where it does not at the longest.
        drop: the smallest constant drop that pays at the model's own length; None where none does.
        measured: the default amount at the model's own length: the whole stack, timed.
    """

    batch: int
    n: int
    lengths: tuple[Length, ...]
    pays_from: int | None
    drop: int | None
    measured: Measured

    @property
    def sentence(self) -> str:
        """The outcome in plain words."""
        shortest, longest = self.lengths[0].n, self.lengths[-1].n
        if self.pays_from is None:
            best = max(self.lengths, key=lambda length: length.speedup)
            text = f"does not pay up to N = {longest}: {best.speedup:.2f}x at most, at N = {best.n}"
            if best.speedup > 1 + MARGIN:
                last = self.lengths[-1].speedup
                text = f"pays at N = {best.n} ({best.speedup:.2f}x), but not at the longest, N = {longest}: {last:.2f}x"
        elif self.pays_from == shortest:
            text = f"pays from N = {shortest}, the shortest that was timed"
        else:
            *_, shorter = (length for length in self.lengths if length.n < self.pays_from)
            text = f"pays from N = {self.pays_from}; does not pay at N = {shorter.n}: {shorter.speedup:.2f}x"
        own = f"at the model's own N = {self.n} the default amount gives {self.measured.speedup:.2f}x (measured)"
        drop = "no constant drop pays" if self.drop is None else f"a constant drop pays from {self.drop}"
        return f"batch {self.batch}: {text}; {own}, and {drop}"


@dataclass(frozen=True)
class BreakEven:
    """Where turbo starts to pay for one model on one machine.

    Attributes:
        model: its name.
        strategy: that chose which tokens merge.
        n: the model's own number of tokens.
        dtype: of the weights and the tokens.
        margin: by how much a speed-up must exceed 1 to count.
        machine: what it was measured on.
        batches: one entry per batch size.
    """

    model: str
    strategy: str
    n: int
    dtype: str
    margin: float
    machine: dict[str, Any]
    batches: tuple[BatchBreakEven, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for `json.dumps`, with the sentences."""
        record = dataclasses.asdict(self)
        for entry, batch in zip(record["batches"], self.batches, strict=True):
            entry["sentence"] = batch.sentence
        return record


def judge(
    calibration: Calibration, n: int, protected: int, lengths: Sequence[int], margin: float = MARGIN
) -> BatchBreakEven:
    """Where merging pays, from the times of the blocks.

    Args:
        calibration: of one batch size, with what was measured at the model's own length.
        n: the model's own number of tokens.
        protected: leading tokens that never merge.
        lengths: sequence lengths at which the untouched blocks were timed, n among them.
        margin: by how much a speed-up must exceed 1 to count.

    Returns:
        The break-even of this batch size.

    Examples:
        >>> from turbo.engine.times import BlockTimes
        >>> from turbo.flops import BlockFlops
        >>> rates, slower = ((64, 1.0),), ((64, 4.0), (128, 1.1))
        >>> times = BlockTimes(BlockFlops(64, 128, 8, 4), untouched=rates, merging=slower, plain=rates)
        >>> measured = Measured.from_rounds(128, 1, [1.5], [1.0], "float32 on cpu")
        >>> found = judge(Calibration((times,) * 4, 1, measured=measured), 128, 1, [32, 64, 128, 256])
        >>> found.pays_from, found.drop
        (256, 34)
    """
    blocks = len(calibration.blocks)

    def speedup(schedule: Schedule, tokens: int) -> float:
        return calibration.predicted(schedule.plan(tokens, blocks, protected))

    found = tuple(Length(tokens, speedup(Schedule(), tokens)) for tokens in sorted(lengths))
    pays_from = None
    for length in reversed(found):
        if length.speedup <= 1 + margin:
            break
        pays_from = length.n
    pays = (drop for drop in range(1, n) if speedup(Schedule(drop=drop), n) > 1 + margin)
    assert calibration.measured is not None
    return BatchBreakEven(calibration.images, n, found, pays_from, next(pays, None), calibration.measured)
