"""For each property test a mutant that makes it fail: no test passes whatever the code does.

    make mutants      # first: it leaves the mutated core in mutants/
    python benchmarks/mutants_by_test.py      # about ten minutes on one core

Each test is called by itself with one mutant after the other, of those in functions it runs, until it fails. The tests
for which none is found are printed; docs/theory/verification.md names them with the reason.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections import defaultdict
from typing import Any

import pytest
from mutants import FOLDER, PAGE, exit_codes

MOST = 150
"""Mutants tried per test."""
SECONDS = 30
"""For a test with a mutant; some mutants never end."""


class Hunter:
    """Calls each test with mutants in place of passing it once."""

    def __init__(self) -> None:
        stats = json.loads((FOLDER / "mutmut-stats.json").read_text())
        self.functions: dict[str, list[str]] = defaultdict(list)
        for function, tests in stats["tests_by_mangled_function_name"].items():
            for test in tests:
                self.functions[test].append(function)
        self.mutants: dict[str, list[str]] = defaultdict(list)
        for codes in exit_codes().values():
            for mutant in codes:
                self.mutants[mutant.rpartition("__mutmut_")[0]].append(mutant)
        self.found: dict[str, str | None] = {}

    def candidates(self, test: str) -> list[str]:
        """Mutants to try, the functions in turn; a test that the statistics do not know tries all functions."""
        functions = self.functions.get(test) or list(self.mutants)
        pools = [random.Random(test).sample(self.mutants[f], len(self.mutants[f])) for f in sorted(functions)]
        longest = max(map(len, pools), default=0)
        return [pool[i] for i in range(longest) for pool in pools if i < len(pool)][:MOST]

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: Any) -> bool:
        """Run one test under mutants until it fails."""
        test = pyfuncitem.nodeid
        arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        self.found[test] = next((m for m in self.candidates(test) if fails(pyfuncitem.obj, arguments, m)), None)
        return True


def fails(function: Any, arguments: dict[str, Any], mutant: str) -> bool:
    """Whether a test fails under a mutant; one that takes too long counts as failing."""
    os.environ["MUTANT_UNDER_TEST"] = mutant
    signal.alarm(SECONDS)
    try:
        function(**arguments)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return True
    finally:
        signal.alarm(0)
        os.environ["MUTANT_UNDER_TEST"] = ""
    return False


def too_long(*_: Any) -> None:
    """What the alarm does."""
    raise TimeoutError


def main(arguments: list[str]) -> int:
    """Print how many property tests were seen to fail, and those that were not; 1 where the page names others."""
    os.chdir(FOLDER)
    sys.path.insert(0, str(FOLDER))
    os.environ |= {"HYPOTHESIS_PROFILE": "mutants", "MUTANT_UNDER_TEST": ""}
    signal.signal(signal.SIGALRM, too_long)
    hunter = Hunter()
    deselected = "--deselect=property_tests/test_generators.py"
    pytest.main(["-q", "-p", "no:cacheprovider", deselected, *(arguments or ["property_tests"])], plugins=[hunter])
    never = sorted({test.partition("[")[0] for test in hunter.found} - seen(hunter.found))
    page = PAGE.read_text(encoding="utf-8")
    print(f"{sum(map(bool, hunter.found.values()))} of {len(hunter.found)} seen to fail")
    print("Never seen to fail, in no parametrization:", *never, sep="\n")
    return int(any(f"`{test}`" not in page for test in never))


def seen(found: dict[str, str | None]) -> set[str]:
    """Test functions that failed under some mutant for some parameters."""
    return {test.partition("[")[0] for test, mutant in found.items() if mutant}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
