"""What importing an adapter's module imports, found out in a fresh interpreter."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from functools import cache

from turbo.adapters import Adapter
from turbo.adapters.base import targets_of
from turbo.testing.results import NotApplicable

_CODE = """
import importlib, json, sys
paths, module, name, targets = json.loads(sys.argv[1])
sys.path[:] = paths
found = importlib.import_module(module)
import torch
for thing in list(vars(found).values()):
    if isinstance(thing, type) and thing.__module__ == module and thing.__name__ == name:
        thing().distance(torch.nn.Linear(1, 1))
print("imported:" + json.dumps([name for name in targets if name in sys.modules]))
"""


def imports_of(adapter: Adapter) -> list[str]:
    """Model libraries, of those that an adapter's targets live in, that importing the adapter's module imports.

    Raises:
        NotApplicable: the adapter is not in a module of its own, so there is no telling what imports what.
    """
    module, name = type(adapter).__module__, type(adapter).__name__
    homes = [target.partition(":")[0] for target in targets_of(adapter)]
    if module in homes:
        raise NotApplicable("the adapter lives in the module of its model")
    if module == "__main__" or module.rpartition(".")[2].startswith(("test_", "conftest")) or not _importable(module):
        raise NotApplicable(f"the adapter lives in {module}, which is no module that others import")
    own = module.partition(".")[0]
    packages = [package for home in homes if (package := home.partition(".")[0]) != own]
    return _imported(module, name, tuple(dict.fromkeys([*packages, *homes])))


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


@cache
def _imported(module: str, name: str, names: tuple[str, ...]) -> list[str]:
    arguments = json.dumps([sys.path, module, name, names])
    done = subprocess.run([sys.executable, "-c", _CODE, arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise AssertionError(f"importing {module} in a fresh interpreter fails: {''.join(last)}")
    *_, line = done.stdout.splitlines()
    loaded: list[str] = json.loads(line.partition(":")[2])
    return loaded
