"""A progress bar for anything that takes more than a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextmanager
def progress(label: str, steps: int | None = None) -> Iterator[Callable[[], None]]:
    """Show a spinner, or a bar where the number of steps is known; yields what advances it by one."""
    columns = [SpinnerColumn(), TextColumn("{task.description}"), *([BarColumn()] if steps else [])]
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=steps)
        yield lambda: bar.advance(task)
