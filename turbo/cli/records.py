"""Results as a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console


def write_record(console: Console, path: Path, results: list[dict[str, Any]]) -> None:
    """Write results and the command that gave them, and say where."""
    record = {"command": "turbo " + " ".join(sys.argv[1:]), "results": results}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    console.print(f"written to {path}", style="dim")
