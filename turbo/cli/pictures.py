"""Pictures of the command line, each with a file that says what it was made with."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from turbo.viz import Panel

_FEW = 256  # colours
console = Console()


def write_picture(
    path: Path,
    rows: Sequence[tuple[str, Sequence[Panel]]],
    about: Mapping[str, Any],
    *,
    columns: int | None = None,
    flat: bool = False,
) -> None:
    """Draw panels into a PNG, and write a JSON file beside it.

    Args:
        path: of the PNG.
        rows: titles and panels, as for `turbo.viz.draw_sheet`.
        about: what the picture was made with; its "device" tells the machine.
        columns: panels beside each other, at most.
        flat: the images have few colours, as the zoo's have, so few are kept.
    """
    import torch

    from turbo.bench.compare import machine
    from turbo.viz import draw_sheet, save_sheet

    save_sheet(path, draw_sheet(rows, columns=columns), colours=_FEW if flat else None)
    command = shlex.join(["turbo", *sys.argv[1:]])
    record = {"command": command, **about, "machine": machine(torch.device(about["device"]))}
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    console.print(f"written to {path}; what it was made with to {path.with_suffix('.json').name}", style="dim")
