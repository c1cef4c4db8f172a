"""Options that several commands share."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, get_args

import typer

from turbo import defaults
from turbo.denoisers import is_denoiser
from turbo.drops import SHAPES
from turbo.engine.round_trip.partition import Destinations as GridDestinations
from turbo.errors import TurboError
from turbo.partition import Halves
from turbo.schedule import Schedule

MODEL_HELP = (
    "A folder or hub id (transformers), timm:NAME, open_clip:NAME:WEIGHTS, zoo:vit-digits, or random:NAME for an "
    "official configuration with random weights (see `turbo list`)."
)
Model = Annotated[str, typer.Argument(help=MODEL_HELP)]
STRATEGY_HELP = "Fusion strategy: a registered name (see `turbo list`), or package.module:Name."
Strategy = Annotated[str, typer.Option(help=STRATEGY_HELP)]
AnyStrategy = Annotated[
    str | None,
    typer.Option(
        help=f"{STRATEGY_HELP} By default {defaults.STRATEGY}, in a denoiser {defaults.DENOISER_STRATEGY}.",
        show_default=False,
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        help="Adapter: a registered name (see `turbo list`), or package.module:Name; by default the one that fits."
    ),
]
Drop = Annotated[str | None, typer.Option(help="Tokens merged per block: one count, or one per block: 20,18,16,…")]
Ratio = Annotated[
    float | None,
    typer.Option(
        help="Fraction of its tokens that a block merges, at most 0.5, or a part of a denoiser, at most 0.75."
    ),
]
Speedup = Annotated[float | None, typer.Option(help="Factor by which the blocks' FLOPs should fall.")]
Threshold = Annotated[int, typer.Option(help="Merge only while the sequence is at least this long.")]
MinTokens = Annotated[int, typer.Option(help="Never leave fewer tokens than this.")]
ScheduleName = Annotated[
    str | None,
    typer.Option(
        help=f"In which blocks the tokens of a --speedup merge: {', '.join(SHAPES)}; else {defaults.SCHEDULE}."
    ),
]
Destinations = Annotated[
    str | None,
    typer.Option(
        help=f"Which tokens may receive others: {', '.join(get_args(Halves))}; of a denoiser: "
        f"{', '.join(get_args(GridDestinations))}. The first is the default."
    ),
]

Momentum = Annotated[
    float | None,
    typer.Option(
        help=f"Share of the semantic value that comes from the blocks before; {defaults.MOMENTUM} by default, 0 is the "
        "paper's."
    ),
]

DTYPES = ("float32", "bfloat16", "float16")
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16.")]
Parts = Annotated[
    str | None,
    typer.Option(help="Of a denoiser, the parts that merge: self_attention,feed_forward=0.25,… (after = its ratio)."),
]
MaxDownsample = Annotated[
    int | None, typer.Option(help="Of a denoiser, the coarsest resolution that merges: 1, 2, 4, …")
]


def check_dtype(dtype: str) -> None:
    """Refuse a type of weights that there is not."""
    if dtype not in DTYPES:
        raise TurboError(f"--dtype {dtype}: must be {', '.join(DTYPES)}")


def schedule(
    drop: str | None, ratio: float | None, speedup: float | None, threshold: int, min_tokens: int, schedule: str | None
) -> dict[str, Any]:
    """The keyword arguments of `turbo.accelerate` that say how much to merge.

    Raises:
        TurboError: they make no sense, whatever the model.
    """
    counts = None if drop is None else _parse_drop(drop)
    return asdict(Schedule(counts, ratio, speedup, threshold, min_tokens, schedule))  # type: ignore[arg-type]


def check_destinations(destinations: str | None, model: str) -> None:
    """Refuse, before a model is loaded, what one of its kind does not have."""
    choices = get_args(GridDestinations if is_denoiser(model) else Halves)
    if destinations is not None and destinations not in choices:
        raise TurboError(f"--destinations {destinations} cannot apply to {model}: must be {' or '.join(choices)}")


def parse_parts(text: str, ratio: float) -> dict[str, float]:
    """Parts and their ratios: ``self_attention,feed_forward=0.25`` gives the first one `ratio`."""
    found: dict[str, float] = {}
    for item in text.split(","):
        name, _, own = item.strip().partition("=")
        if not name or name in found:
            raise TurboError(f"--parts {text}: {f'{name} stands there twice' if name else 'a name is missing'}")
        try:
            found[name] = float(own) if own else ratio
        except ValueError:
            raise TurboError(f"--parts {text}: {own!r} is no ratio; write {name}=0.25") from None
    return found


def parse_batches(text: str | None) -> tuple[int, ...]:
    """Images per call, with commas between; None takes the default."""
    from turbo.bench.finding import BATCHES

    if text is None:
        return BATCHES
    try:
        batches = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        batches = ()
    if not batches or min(batches) < 1:
        raise TurboError(f"--batches {text}: must be numbers of images, 1 or more, such as 1,4,16")
    return batches


def _parse_drop(text: str) -> int | tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise TurboError(f"--drop {text}: must be a count such as 20, or one per block such as 20,18,16") from None
    return counts[0] if len(counts) == 1 else counts
