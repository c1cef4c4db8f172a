"""Sums up a mutation run: mutants per module, and each survivor as one line that changed.

    make mutants      # mutates, tests, and then runs this; about half an hour on 2 cores

docs/theory/verification.md lists survivors by their line, before and after, with a reason: the equivalent ones and,
below them, the others. A survivor that is not listed, or a listed line that no survivor has, fails the run.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/theory/verification.md"
FOLDER = ROOT / "mutants"
KILLED = {1, 3, 24, -24, 36, 152, 255}
"""Exit codes: a test failed, a test could not run, or it ran out of time (an endless loop)."""
UNTESTED = {33}


def exit_codes() -> dict[str, dict[str, int]]:
    """For each mutated module, each mutant's exit code."""
    found = {}
    for meta in sorted(FOLDER.rglob("*.py.meta")):
        if codes := json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]:
            found[meta.relative_to(FOLDER).as_posix().removesuffix(".meta")] = codes
    return found


def changed(mutant: str) -> str:
    """A mutant's line before and after, as the page writes it."""
    shown = subprocess.run(
        [sys.executable, "-m", "mutmut", "show", mutant], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    lines = [line for line in shown.splitlines() if re.match(r"[-+](?![-+]{2} )", line)]
    before, after = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return f"`{before}` → `{after}`"


def main() -> int:
    """Print the table and what the page does not say; 1 where there is any of it."""
    page = PAGE.read_text(encoding="utf-8")
    equivalents = page.partition("\n### Equivalent mutants\n")[2].partition("\n#")[0]
    unexplained, explained, rows = [], set(), []
    for module, codes in exit_codes().items():
        untested = [mutant for mutant, code in codes.items() if code in UNTESTED]
        equivalent = []
        for mutant in (mutant for mutant, code in codes.items() if code not in KILLED | UNTESTED):
            entry = f"{module}: {changed(mutant)}"
            if f"- {entry}" in equivalents:
                equivalent.append(mutant)
            if f"- {entry}" in page:
                explained.add(entry)
            else:
                unexplained.append(f"{mutant}\n  {entry}")
        killed = sum(code in KILLED for code in codes.values())
        survived = len(codes) - killed - len(equivalent) - len(untested)
        rows.append((module, len(codes), killed, len(equivalent), survived, len(untested)))
    rows.append(("all", *(sum(row[i] for row in rows) for i in range(1, 6))))
    print("| module | mutants | killed | equivalent | survived | not covered |\n|---|--:|--:|--:|--:|--:|")
    print("\n".join(f"| {' | '.join(map(str, row))} |" for row in rows))
    gone = [line for line in re.findall(r"^- (turbo/\S+: `.*` → `.*`)", page, re.MULTILINE) if line not in explained]
    for title, lines in (("Survived", unexplained), (f"Listed in {PAGE.name}, but killed or gone", gone)):
        if lines:
            print(f"\n{title}:", *lines, sep="\n")
    return 1 if unexplained or gone or rows[-1][5] else 0


if __name__ == "__main__":
    sys.exit(main())
