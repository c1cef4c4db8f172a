"""What is known of tensors, by their identity."""

from __future__ import annotations

from typing import Any

from torch.utils.weak import WeakIdKeyDictionary


class ByTensor:
    """Something for each of many tensors, forgotten with them. Never copied with the model.

    Attributes:
        known: tensor -> what is known of it.
    """

    def __init__(self) -> None:
        self.known: Any = WeakIdKeyDictionary()

    def __deepcopy__(self, memo: dict[int, Any]) -> ByTensor:
        return ByTensor()

    def __reduce__(self) -> tuple[type[ByTensor], tuple[()]]:
        return ByTensor, ()
