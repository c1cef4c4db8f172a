"""Published data in a user's folder: finding their files, and saying what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from turbo.errors import TurboError

_SHOWN = 8  # names that an error lists
_Example = TypeVar("_Example")


@dataclass(frozen=True)
class Published:
    """A data set in a folder.

    Attributes:
        name: as a user asks for it.
        folder: where it is.
        layout: the files that it should have, in words.
    """

    name: str
    folder: Path
    layout: str

    def refuse(self, problem: str, where: Path | None = None) -> TurboError:
        """An error that says what is wrong, what a folder has and what it should have."""
        where = where or self.folder
        return TurboError(f"{self.name}: {problem}; {_listing(where)}. Expected in {self.folder}: {self.layout}")

    def find(self, *names: str) -> Path:
        """The first of some files or folders that is there.

        Raises:
            TurboError: none is.
        """
        for name in names:
            if (self.folder / name).exists():
                return self.folder / name
        raise self.refuse(f"no {' and no '.join(names)} in {self.folder}")

    def find_images(self, paths: Sequence[Path]) -> None:
        """Sees that images are there, before hours are spent on the first of them.

        Raises:
            TurboError: one or more are missing.
        """
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise self.refuse(
                f"{len(missing)} of {len(paths)} images are missing, first {missing[0]}", missing[0].parent
            )

    def take(self, examples: Sequence[_Example], limit: int | None, what: str) -> Sequence[_Example]:
        """The first examples, all without a limit.

        Raises:
            TurboError: there are none, or fewer than the limit.
        """
        if not examples:
            raise self.refuse(f"no {what} in {self.folder}")
        if limit is not None and limit > len(examples):
            raise TurboError(f"{self.name}: limit={limit}, but there are {len(examples)} {what}; give no limit for all")
        return examples[:limit]


@contextmanager
def reading(path: Path, form: str) -> Iterator[None]:
    """Turns what goes wrong while a file is taken apart into an error that names the file.

    Raises:
        TurboError: the file cannot be read, or is not in the form.
    """
    try:
        yield
    except OSError as error:
        raise TurboError(f"{path} cannot be read: {error}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise TurboError(f"{path} is not {form}: {found}") from error


def read_json(path: Path, form: str) -> Any:
    """Reads a JSON file.

    Raises:
        TurboError: it cannot be read or is not JSON.
    """
    with reading(path, form):
        return json.loads(path.read_text(encoding="utf-8"))


def _listing(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    if not names:
        return f"{folder} is empty"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{folder} has {', '.join(names[:_SHOWN])}{more}"
