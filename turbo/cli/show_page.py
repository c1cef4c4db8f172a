"""The page that ``turbo show`` writes beside its picture."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

import turbo

if TYPE_CHECKING:
    from turbo.viz import MergedImage


def write_page(console: Console, out: Path, merged: Sequence[MergedImage], about: Mapping[str, str]) -> None:
    """Write the page beside the picture, and say where both are."""
    from turbo.viz import save_page

    save_page(out / "merged.html", merged, about)
    console.print(
        f"drawn to {out / 'merged.png'}; the page with a slider is {out / 'merged.html'}", style="dim", soft_wrap=True
    )


def with_command(about: Mapping[str, str]) -> dict[str, str]:
    """What a page says it was made with, the command and the versions last."""
    import torch

    command = shlex.join(["turbo", *sys.argv[1:]])
    return {**about, "command": command, "versions": f"turbo {turbo.__version__}, torch {torch.__version__}"}
