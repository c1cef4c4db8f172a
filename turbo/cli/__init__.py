"""The command line, ``turbo``. Needs typer and rich: ``pip install "turbo-vlm[cli]"``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; an error of turbo's is one line, not a traceback."""
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.exit('the command line needs typer and rich: pip install "turbo-vlm[cli]"')
    from turbo.cli.app import run

    run()
