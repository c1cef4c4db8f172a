"""What is known of tensors, by their identity."""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary


class ByTensor:
    """Something for each of many tensors, forgotten with them. Never copied with the model; threads may share it."""

    def __init__(self) -> None:
        self._known: Any = WeakIdKeyDictionary()
        self._lock = threading.Lock()

    def get(self, tensor: Tensor) -> Any:
        """What is known of a tensor; None where nothing is."""
        with self._lock:
            return self._known.get(tensor)

    def note(self, tensor: Tensor, what: object) -> None:
        """Note something, in place of what is known."""
        with self._lock:
            self._known[tensor] = what

    def all(self) -> list[Any]:
        """All that is known, of tensors that are still there; what was noted last comes first."""
        with self._lock:
            return list(self._known.values())[::-1]

    def __deepcopy__(self, memo: dict[int, Any]) -> ByTensor:
        return ByTensor()

    def __reduce__(self) -> tuple[type[ByTensor], tuple[()]]:
        return ByTensor, ()
