"""The two registries. Call ``refresh()`` on one after installing a plug-in in a running process."""

from __future__ import annotations

from typing import Any

from turbo.adapters.base import Adapter
from turbo.registry import Registry

adapters: Registry[type[Adapter]] = Registry("turbo.adapters", "adapter")
strategies: Registry[Any] = Registry("turbo.strategies", "strategy")
