"""What works with which model: the conformance kit on every case of the tests, ``python benchmarks/support_matrix.py``.

The cases are those of tests/families*.py and tests/denoisers.py; unlike the tests, every one that can be compiled is.
The record is benchmarks/results/support.json, which fills the tables of docs/support.md. Names of cases run these only,
and keep what the record says of the others:

    python benchmarks/support_matrix.py vit deit
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from turbo.allocator import hold_allocator
from turbo.bench.compare import machine
from turbo.bench.folder import write_rows
from turbo.errors import TurboError
from turbo.testing import AdapterCase, Result, adapter_checks, check_adapter

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "results" / "support.json"
COMMAND = "python benchmarks/support_matrix.py"


def load_cases(tests: Path = ROOT / "tests") -> list[AdapterCase]:
    """The cases that the tests check.

    Raises:
        TurboError: they are not there.
    """
    for name in ("families.py", "denoisers.py"):
        if not (tests / name).exists():
            raise TurboError(f"there is no {tests / name}: the cases are part of the repository's tests")
    if str(tests) not in sys.path:
        sys.path.append(str(tests))  # as pytest does by `pythonpath`
    from denoisers import DENOISERS
    from families import FAMILIES

    return [*(family.case for family in FAMILIES), *DENOISERS]


def checks() -> list[str]:
    """The names of the kit's checks of today, in order."""
    return [check.__name__ for check in adapter_checks()]


def describe(case: AdapterCase) -> dict[str, Any]:
    """What stands beside a case's results: its adapter, the class that this describes, and whether tokens come back."""
    adapter = case.instance
    tower = next(each for each in case.make_model().modules() if adapter.distance(each) is not None)
    library = type(tower).__module__.partition(".")[0]
    known = {"case": case.name, "adapter": case.adapter, "library": library, "tower": type(tower).__name__}
    return known | {"restores": bool(case.restores)}


def row_of(case: AdapterCase, results: Iterable[Result]) -> dict[str, Any]:
    """A case's results: the checks that passed, and for every other outcome its checks with what was found."""
    row: dict[str, Any] = describe(case) | {"passed": []}
    for result in results:
        if result.outcome == "passed":
            row["passed"].append(result.check)
        else:
            row.setdefault(result.outcome, {})[result.check] = result.detail
    return row


def measured_on() -> dict[str, Any]:
    """The machine, and the versions of the libraries that the cases come from."""
    from diffusers import __version__ as diffusers

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    about = machine(torch.device("cpu")) | {"diffusers": diffusers}
    return about | {"accelerator": accelerator and accelerator.type}


def kept(path: Path, about: Mapping[str, Any], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The rows of a record that stay, by case.

    Args:
        path: of the record.
        about: what the new rows are made with.
        names: of the cases that are run anew.

    Raises:
        TurboError: the record was made with other versions, on another machine, or of other checks.
    """
    if not path.exists():
        return {}
    record = json.loads(path.read_text())
    for key, wanted in about.items():
        if record[key] != wanted:
            raise TurboError(f"{path.name} is of another {key}: make all of it anew, by {COMMAND} without names")
    anew = set(names)
    return {row["case"]: row for row in record["cases"] if row["case"] not in anew}


def main(arguments: list[str] | None = None) -> int:
    """Runs the kit and writes the record; the exit status is 1 where a check failed, 2 after an error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="CASE", help="run these only; the record keeps the others")
    parser.add_argument("--out", type=Path, default=OUT, help="the record")
    options = parser.parse_args(arguments)
    try:
        bad = make(options.names, options.out)
    except TurboError as error:
        print(error, file=sys.stderr)
        return 2
    for result in bad:
        print(f"{result.case}: {result.check}: {result.outcome}: {result.detail}", file=sys.stderr)
    return int(bool(bad))


def make(names: list[str], out: Path) -> list[Result]:
    """Runs cases, writes the record, and returns what went wrong.

    Raises:
        TurboError: an unknown case, or as for `load_cases` and `kept`.
    """
    hold_allocator()
    cases = {case.name: case for case in load_cases()}
    if unknown := [name for name in names if name not in cases]:
        raise TurboError(f"no case is called {unknown[0]!r}; there are: {', '.join(cases)}")
    about = {"machine": measured_on(), "checks": checks()}
    rows = kept(out, about, names) if names else {}
    bad = []
    for name in names or cases:
        results = check_adapter(cases[name])
        rows[name] = row_of(cases[name], results)
        bad += [result for result in results if not result.ok]
        print(f"{name}: {len(rows[name]['passed'])} of {len(results)} passed", flush=True)
    write_rows(out, {"command": COMMAND, **about}, {"cases": [rows[name] for name in cases if name in rows]})
    return bad


if __name__ == "__main__":
    sys.exit(main())
