"""Results as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console


def write_record(console: Console, path: Path, results: list[dict[str, Any]]) -> None:
    """Write results and the command that gave them, and say where."""
    from turbo.bench.folder import write_json  # not before it is needed: turbo.bench takes its time to import

    write_json(path, {"command": "turbo " + " ".join(sys.argv[1:]), "results": results})
    console.print(f"written to {path}", style="dim")
