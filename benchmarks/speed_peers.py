"""Other people's token merging, from a checkout on this machine: a rival to be timed beside turbo, no dependency."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from turbo.errors import TurboError


@dataclass(frozen=True)
class Library:
    """What is needed of another library.

    Attributes:
        name: as its authors call it.
        url: where it comes from.
        file: that a checkout has.
        module: to import.
        function: that the module has.
    """

    name: str
    url: str
    file: str
    module: str
    function: str


TOME = Library("ToMe", "https://github.com/facebookresearch/ToMe", "tome/patch/timm.py", "tome.patch", "timm")
TOMESD = Library("tomesd", "https://github.com/dbolya/tomesd", "tomesd/patch.py", "tomesd", "apply_patch")


@dataclass(frozen=True)
class Peer:
    """A library to compare with.

    Attributes:
        name: of its side.
        repository: where it comes from.
        commit: of the checkout; None where git does not say.
        patch: model and tokens merged per block -> the model patched, in place.
    """

    name: str
    repository: str
    commit: str | None
    patch: Callable[[nn.Module, int], None]


def load_tome(folder: Path) -> Peer:
    """Token merging by its authors, which patches timm's VisionTransformer.

    Args:
        folder: a checkout of `TOME`.

    Raises:
        TurboError: it is none, or cannot be imported here.
    """
    timm = import_function(TOME, folder)

    def patch(model: nn.Module, drop: int) -> None:
        timm(model)
        patched: Any = model
        patched.r = drop

    return Peer(TOME.name, TOME.url, commit_of(folder), patch)


def import_function(library: Library, folder: Path) -> Callable[..., Any]:
    """The function of another library, from a checkout and from nowhere else.

    Args:
        library: which one.
        folder: a checkout of it.

    Raises:
        TurboError: it is none, or cannot be imported here.
    """
    none, clone = f"{folder} is no checkout of {library.name}", f"git clone {library.url}"
    if not (folder / library.file).is_file():
        raise TurboError(f"{none}: it has no {library.file}; {clone}")
    with search_path(folder):
        try:
            module: Any = importlib.import_module(library.module)
        except Exception as error:  # written for the libraries of 2023: what it imports may be gone
            raise TurboError(
                f"{library.name} in {folder} cannot be imported: {type(error).__name__}: {error}"
            ) from error
    if not callable(getattr(module, library.function, None)) or module.__file__ is None:
        raise TurboError(f"{none}: its {library.module} has no function {library.function}; {clone}")
    found = Path(module.__file__).resolve()
    if not found.is_relative_to(folder.resolve()):
        raise TurboError(
            f"another package is called {library.module.partition('.')[0]} ({found}): uninstall it, or do without "
            f"the checkout of {library.name}"
        )
    function: Callable[..., Any] = getattr(module, library.function)
    return function


def commit_of(folder: Path) -> str | None:
    """The commit of a checkout, "+changes" added where its files differ from it; None where there is no git."""
    head = _git(folder, "rev-parse", "HEAD")
    if head is None or _git(folder, "rev-parse", "--show-prefix") != "":  # a folder in some other repository
        return None
    return head + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@contextmanager
def search_path(folder: Path) -> Iterator[None]:
    """Import from a folder for the length of a `with` block."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
