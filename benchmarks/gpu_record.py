"""What `gpu.py` found so far, on disk after every finding, with what failed and what there was no time for."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from turbo.bench.folder import write_json


class Record:
    """The findings of one run.

    Attributes:
        rows: findings, each with its part.
        failed: what raised an error, with its text.
        left_out: what was not tried, with the reason.
    """

    def __init__(self, out: Path, head: Mapping[str, Any]) -> None:
        self.out = out
        self.head = dict(head)
        self.rows: list[dict[str, Any]] = []
        self.failed: list[dict[str, str]] = []
        self.left_out: list[dict[str, str]] = []
        self.start = time.monotonic()
        self.deadline = float("inf")

    def add(self, part: str, **found: Any) -> None:
        """Keep a finding, show it, and write the file."""
        self.rows.append({"part": part, **found})
        print(part, *(f"{name}={_short(value)}" for name, value in found.items()), flush=True)
        self.save()

    def leave_out(self, part: str, what: str, reason: str) -> None:
        """Note what is not tried, and why."""
        self.left_out.append({"part": part, "what": what, "reason": reason})
        print(f"{part}: {what} left out: {reason}", flush=True)
        self.save()

    def has_time(self, part: str, what: str) -> bool:
        """Whether the part may begin something new; noted where it may not."""
        if time.monotonic() < self.deadline:
            return True
        self.leave_out(part, what, "the part's share of the time was over")
        return False

    @contextmanager
    def attempt(self, part: str, what: str) -> Iterator[None]:
        """Note an error of the `with` block and go on behind it."""
        try:
            yield
        except Exception as error:  # whatever a driver or a compiler makes of it is a finding
            text = f"{type(error).__name__}: {str(error).strip()[:600]}"
            last = traceback.extract_tb(error.__traceback__)[-1]
            self.failed.append(
                {"part": part, "what": what, "error": text, "in": f"{Path(last.filename).name}:{last.lineno}"}
            )
            print(f"{part}: {what} FAILED: {text}", flush=True)
            self.save()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # a full memory must not spoil what comes next

    def warms_up(self, part: str, what: str, call: Callable[[], object]) -> bool:
        """Whether a call runs, three times; compilers and tuners do their work then. Where not, the error is noted."""
        with self.attempt(part, what):
            for _ in range(3):
                call()
            return True
        return False

    def save(self) -> None:
        """Write everything known so far."""
        seconds = round(time.monotonic() - self.start, 1)
        found = {"seconds": seconds, "failed": self.failed, "left_out": self.left_out, "rows": self.rows}
        write_json(self.out, self.head | found)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:80]
