"""Folders of runs that can be stopped and go on: what made their files is written down, and kept to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from turbo.errors import TurboError

SETTINGS = "settings.json"


def claim(out: Path, record: Mapping[str, Any], what: str) -> None:
    """Write down what a folder's files are made with, or see that it is the same as before.

    Args:
        out: the folder; it is made where it is missing.
        record: plain data that tells this run from another.
        what: the folder holds, for errors: "images made".

    Raises:
        TurboError: other settings; the message names each that differs.
    """
    path = out / SETTINGS
    wanted = json.loads(json.dumps(dict(record)))
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(wanted, indent=1) + "\n")
        return
    found = json.loads(path.read_text())
    if found != wanted:
        names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
        held = ", ".join(f"{name}={found.get(name)!r}" for name in names)
        asked = ", ".join(f"{name}={wanted.get(name)!r}" for name in names)
        raise TurboError(f"{out} holds {what} with {held}; asked for: {asked}. Take the same, or another folder")


def write_json(path: Path, data: object) -> None:
    """Write plain data as the project's records are written: whole, a line for each value."""
    write_whole(path, json.dumps(data, indent=1) + "\n")


def write_rows(path: Path, record: Mapping[str, Any], parts: Mapping[str, Iterable[object]]) -> None:
    """Write a record with many rows, a line for each row, so that changes can be read.

    Args:
        path: of the file.
        record: plain data about all rows.
        parts: name -> its rows.
    """
    listed = [f'"{part}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for part, rows in parts.items()]
    write_whole(path, f"{json.dumps(dict(record))[:-1]}, {', '.join(listed)}}}\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all: one that is there counts as done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)
