"""The commands."""

from __future__ import annotations

import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import turbo
from turbo.cli.bench import bench
from turbo.cli.evaluate import evaluate
from turbo.cli.generate import generate
from turbo.cli.inspect import inspect
from turbo.cli.progress import progress
from turbo.cli.records import write_record
from turbo.cli.reproduce import app as reproduce
from turbo.cli.show import show
from turbo.denoisers import OFFICIAL_UNETS
from turbo.errors import TurboError, TurboWarning
from turbo.models import OFFICIAL
from turbo.plugins import adapters, strategies

app = typer.Typer(no_args_is_help=True, add_completion=False, help=turbo.__doc__, rich_markup_mode="markdown")
console = Console()


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        console.print(turbo.__version__)
        raise typer.Exit


@app.command("list")
def list_() -> None:
    """Adapters, strategies and official configurations; nothing is imported."""
    for registry in (adapters, strategies):
        table = Table("name", "from", title=registry.group, title_justify="left")
        for name in registry:
            table.add_row(name, registry.origin(name))
        console.print(table)
    console.print("random:NAME for NAME in", ", ".join([*OFFICIAL, *OFFICIAL_UNETS]), style="dim", highlight=False)


app.command()(inspect)


app.command()(bench)


app.command()(show)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures and the results.")] = Path("out/demo"),
    full_size: Annotated[bool, typer.Option(help="Also time a full-size CLIP ViT-L/14 at 336 px.")] = True,
) -> None:
    """Accelerate a digit reader with every strategy, show what it merged, then time a full-size CLIP."""
    from turbo.cli.demo import run_demo

    run_demo(console, out, full_size=full_size)


@app.command()
def check(
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SPEC...",
            help="package.module:Name of an adapter, a strategy, a case, a list of these or a function returning one; "
            "or the registered name of an adapter or a strategy.",
        ),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run this check alone; can be given several times.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results here as well.")] = None,
) -> None:
    """Run the conformance kit on adapters and strategies; exit status 1 where a check fails."""
    from turbo.cli.check import load_cases, show_results
    from turbo.testing import Result
    from turbo.testing.entrances import results_of

    if not specs:
        raise TurboError("nothing to check: name an adapter or a strategy (`turbo list`), or give package.module:Name")
    cases = [case for spec in specs for case in load_cases(spec)]
    results: list[Result] = []
    for case in cases:
        with progress(f"checking {case.name}"):
            results += results_of(case, only or ())
    show_results(console, results)
    if json_file is not None:
        write_record(console, json_file, [asdict(result) for result in results])
    if not all(result.ok for result in results):
        raise typer.Exit(1)


app.command()(generate)

app.command("eval")(evaluate)

app.add_typer(reproduce, name="reproduce")


def run() -> None:
    """Entry point: an error of turbo's is one line on stderr and exit status 1, a warning of its is one line too."""
    errors = Console(stderr=True)
    show = warnings.showwarning

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, TurboWarning):
            errors.print(Text.assemble(("warning: ", "bold yellow"), str(message)))
        else:
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = show_warning
    try:
        app()
    except TurboError as error:
        # As it is: brackets and colons in an error are no markup (turbo-vlm[cli], mine:x:).
        errors.print(Text.assemble(("error: ", "bold red"), str(error)))
        sys.exit(1)
