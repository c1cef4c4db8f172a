"""Fills the marked parts of README and docs with tables made from the records in benchmarks/results.

    python benchmarks/fill_pages.py             # writes the pages
    python benchmarks/fill_pages.py --check     # changes nothing; exits 1 and names the parts that are not up to date

A part is what stands between two lines of their own:

    <!-- table: question question="momentum of A" split=validation -->
    <!-- end -->

A name says which table (`page_tables.TABLES`), arguments are `key=value`, in quotes where there are spaces.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from page_tables import make_table

from turbo.errors import TurboError

ROOT = Path(__file__).parents[1]
END = "<!-- end -->"
_START = re.compile(r"<!-- table: (\S.*?) -->")
_MARK = re.compile(r"<!--\s*(table|end)", re.IGNORECASE)  # whatever was meant for one

Make = Callable[[str, dict[str, str]], str]
"""A table's name and its arguments -> Markdown."""


def fill(page: str, make: Make, title: str) -> tuple[str, list[str]]:
    """Replaces the marked parts of a page.

    Args:
        page: its text.
        make: makes a table.
        title: what errors call the page.

    Returns:
        The new text, and for each part that differs where it is: "docs/page.md:12: question ...".

    Raises:
        TurboError: a mark is not written as it should be, a part is not closed, or a table cannot be made. The message
            starts with page and line.
    """
    done: list[str] = []
    differ: list[str] = []
    body: list[str] = []
    asked, start = "", 0
    for number, line in enumerate(page.splitlines(), start=1):
        opening = _START.fullmatch(line)
        if opening is None and line != END and _MARK.match(line.lstrip()):
            raise TurboError(f"{title}:{number}: {line.strip()!r}: write <!-- table: NAME key=value --> or {END}")
        if opening is not None:
            if asked:
                raise TurboError(f"{title}:{start}: the part {asked!r} is not closed by {END} before line {number}")
            asked, start, body = opening[1], number, []
            done.append(line)
        elif line == END:
            if not asked:
                raise TurboError(f"{title}:{number}: {END} closes nothing")
            lines = ["", *_make(asked, make, f"{title}:{start}").strip("\n").splitlines(), ""]
            if lines != body:
                differ.append(f"{title}:{start}: {asked}")
            done += [*lines, line]
            asked = ""
        else:
            (body if asked else done).append(line)
    if asked:
        raise TurboError(f"{title}:{start}: the part {asked!r} is not closed by {END}")
    return "\n".join(done) + "\n", differ


def _make(asked: str, make: Make, where: str) -> str:
    try:
        name, *given = shlex.split(asked)
        pairs = [each.partition("=") for each in given]
        if wrong := [key for key, sign, _ in pairs if not sign]:
            raise TurboError(f"{wrong[0]!r} is no key=value")
        arguments = {key: value for key, _, value in pairs}
        if len(arguments) < len(pairs):
            raise TurboError("an argument is given twice")
        return make(name, arguments)
    except (TurboError, ValueError) as error:  # ValueError: a quote that is not closed
        raise TurboError(f"{where}: {asked}: {error}") from error


def fill_pages(root: Path, *, write: bool) -> list[str]:
    """Fills README.md and docs of a repository: all pages, or none where one has an error.

    Args:
        root: of the repository; records are in its benchmarks/results.
        write: False only compares.

    Returns:
        The parts that differed, as for `fill`.

    Raises:
        TurboError: as for `fill`.
    """
    filled, differ = {}, []
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        if not path.exists():
            continue
        text = path.read_text()
        new, parts = fill(
            text,
            lambda name, arguments: make_table(root / "benchmarks" / "results", name, arguments),
            path.relative_to(root).as_posix(),
        )
        if parts:
            filled[path] = new
            differ += parts
    if write:
        for path, text in filled.items():
            path.write_text(text)
    return differ


def main(arguments: list[str] | None = None) -> int:
    """Writes or compares; the exit status is 1 where `--check` finds a difference, 2 after an error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a part is not up to date")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository")
    options = parser.parse_args(arguments)
    try:
        differ = fill_pages(options.root, write=not options.check)
    except TurboError as error:
        print(error, file=sys.stderr)
        return 2
    end = "is not what the records say: run benchmarks/fill_pages.py" if options.check else "written"
    for part in differ:
        print(f"{part}: {end}")
    return int(options.check and bool(differ))


if __name__ == "__main__":
    sys.exit(main())
