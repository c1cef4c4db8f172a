"""What an accelerated model does, block by block or part by part."""

from __future__ import annotations

from dataclasses import dataclass

from turbo.engine.acceleration import Acceleration
from turbo.engine.round_trip.generation import Generation
from turbo.engine.round_trip.measure import count_flops
from turbo.engine.times import Measured


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
class PartReport:
    """One part of all blocks of one resolution of a denoiser, whose tokens are restored after it.

    Attributes:
        downsample: latent pixels that a token spans along each axis.
        blocks: how many blocks there are.
        part: name of the part.
        tokens_in: tokens that enter it, in one block.
        tokens_run: tokens on which it runs.
        flops_untouched: of all these parts, for one image.
        flops: the same, accelerated; scoring counts to the part in which it is done.
    """

    downsample: int
    blocks: int
    part: str
    tokens_in: int
    tokens_run: int
    flops_untouched: int
    flops: int


@dataclass(frozen=True)
class Report:
    """What happens to n tokens in an accelerated model.

    Attributes:
        model: class of the tower that is accelerated.
        adapter: its adapter's name.
        strategy: the fusion strategy.
        n: tokens that enter the first block that merges in the last forward pass, or at the model's own resolution
            before the first.
        promised: the speed-up that was asked for, if one was: of FLOPs, or where calibrated of time.
        blocks: one entry per block whose tokens stay merged; none for a denoiser.
        parts: one entry per resolution and part of a denoiser; none for other models.
        flops_untouched: for one image: of all blocks, or of a whole denoiser in one step.
        flops: the same, accelerated.
        latents: height and width of a denoiser's latents.
        notes: what could not be done as asked.
        measured: seconds of the blocks untouched and accelerated, and their speed-up, timed when the model was
            calibrated at its own number of tokens; None where it was not.
        read: image tokens that each layer of a text model attends to; none where no text model reads them, or turbo
            does not know it.
        layers: blocks in a row with these, themselves included: more than these where something reads an inner state
            patch by patch, so that tokens merge in the first blocks only. 0 for a denoiser.
    """

    model: str
    adapter: str
    strategy: str
    n: int
    promised: float | None
    blocks: tuple[BlockReport, ...]
    parts: tuple[PartReport, ...]
    flops_untouched: int
    flops: int
    latents: tuple[int, int] | None
    notes: tuple[str, ...]
    measured: Measured | None = None
    read: tuple[int, ...] = ()
    layers: int = 0

    @property
    def achieved(self) -> float:
        """By which factor FLOPs fall: what the plan promises if all FLOPs take the same time."""
        return self.flops_untouched / self.flops

    def __str__(self) -> str:
        rows, tokens, whole = _block_rows(self.blocks), f"{self.n} tokens", "the blocks"
        if self.layers > len(self.blocks):
            whole = f"{len(self.blocks)} of the {self.layers} blocks"
        if self.latents is not None:
            height, width = self.latents
            rows, tokens, whole = _part_rows(self.parts), f"latents {height} x {width}", "one step"
        promised = f", {self.promised:.2f}x asked for" if self.promised else ""
        flops = f"FLOPs of {whole} fall by {self.achieved:.2f}x"
        lines = [f"{self.model} ({self.adapter}), strategy {self.strategy}, {tokens}", *rows]
        if self.measured is None:
            lines.append(flops + promised)
        else:
            lines += [flops, f"time of {whole} falls by {self.measured.speedup:.2f}x{promised}", str(self.measured)]
        if self.read:
            lines.append(f"text layers attend to {', '.join(map(str, self.read))} image tokens")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _block_rows(blocks: tuple[BlockReport, ...]) -> list[str]:
    header = f"{'block':>5} {'in':>6} {'merged':>7} {'out':>6} {'GFLOPs':>9} {'before':>9}"
    return [header] + [
        f"{b.depth:>5} {b.tokens_in:>6} {b.merged:>7} {b.tokens_out:>6} {b.flops / 1e9:>9.3f} "
        f"{b.flops_untouched / 1e9:>9.3f}"
        for b in blocks
    ]


def _part_rows(parts: tuple[PartReport, ...]) -> list[str]:
    header = f"{'downsample':>10} {'blocks':>6} {'part':>16} {'in':>6} {'run on':>6} {'GFLOPs':>9} {'before':>9}"
    return [header] + [
        f"{p.downsample:>10} {p.blocks:>6} {p.part:>16} {p.tokens_in:>6} {p.tokens_run:>6} {p.flops / 1e9:>9.2f} "
        f"{p.flops_untouched / 1e9:>9.2f}"
        for p in parts
    ]


def make_report(acceleration: Acceleration | Generation) -> Report:
    """The report of an accelerated model, for the input size of its last call."""
    if isinstance(acceleration, Generation):
        return _generation_report(acceleration)
    settings, n = acceleration.settings, acceleration.last_n or acceleration.n
    plan = acceleration.plan(n)
    untouched = [flops(n, n) for flops in acceleration.flops]
    rows = zip(plan.tokens, plan.tokens[1:], untouched, plan.flops(acceleration.flops), strict=False)
    blocks = tuple(BlockReport(depth, *row) for depth, row in enumerate(rows))
    return Report(
        model=type(acceleration.tower).__name__,
        adapter=acceleration.adapter_name,
        strategy=settings.strategy_name,
        n=n,
        promised=settings.schedule.speedup,
        blocks=blocks,
        parts=(),
        flops_untouched=sum(block.flops_untouched for block in blocks),
        flops=sum(block.flops for block in blocks),
        latents=None,
        notes=plan.notes,
        measured=acceleration.calibration.measured if acceleration.calibration else None,
        read=acceleration.read(plan.tokens[-1]),
        layers=_count_layers(acceleration),
    )


def _count_layers(acceleration: Acceleration) -> int:
    """Siblings of a block that are of its class, the block included; at least those that the adapter lists."""
    block, listed = acceleration.blocks[0].module, len(acceleration.blocks)
    for module in acceleration.tower.modules():
        children = list(module.children())
        if any(child is block for child in children):
            return max(listed, sum(type(child) is type(block) for child in children))
    return listed


def _generation_report(generation: Generation) -> Report:
    height, width = generation.last_latents
    untouched = count_flops(generation, height, width, untouched=True)
    now = count_flops(generation, height, width, untouched=False)
    settings = generation.settings
    ratios = settings.ratios.at(generation.last_timestep)
    names = {module: path for path, module in generation.denoiser.module.named_modules()}
    parts = []
    for downsample in sorted({generation.blocks[index].downsample for index in generation.active}):
        blocks = [generation.blocks[i] for i in generation.active if generation.blocks[i].downsample == downsample]
        rows, columns = generation.grid(downsample, height, width)
        for part in blocks[0].parts:
            paths = [names[block.parts[part]] for block in blocks if part in block.parts]
            left = rows * columns - generation.count(ratios.get(part, 0.0), rows, columns)
            before, after = (sum(counts.get(path, 0) for path in paths) for counts in (untouched, now))
            parts.append(PartReport(downsample, len(paths), part, rows * columns, left, before, after))
    note = f"the ratio varies: these are the figures of timestep {generation.last_timestep:g}"
    return Report(
        model=type(generation.tower).__name__,
        adapter=generation.adapter_name,
        strategy=settings.strategy_name,
        n=parts[0].tokens_in,
        promised=None,
        blocks=(),
        parts=tuple(parts),
        flops_untouched=untouched[""],
        flops=now[""],
        latents=(height, width),
        notes=(note,) if settings.ratios.varies else (),
    )
