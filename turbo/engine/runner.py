"""What takes the place of a module's method while its model is accelerated.

A runner's bound method is set on the module instance. It is an ordinary object that refers to the module, so
deepcopy and pickle carry both along together.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from turbo.errors import TurboError


class Runner:
    """Base of the runners: takes the place of a method on a module instance, and gives it back.

    Attributes:
        method: the name of the method.
    """

    method = "forward"

    def __init__(self, module: nn.Module, acceleration: Any) -> None:
        self.module = module
        self.acceleration = acceleration
        self.previous: Any = None
        # Looked up here and not when it runs: `torch.compile` cannot trace attributes of every class.
        self.upstream = getattr(type(module), self.method)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What runs instead of the method."""
        raise NotImplementedError

    def original(self, *args: Any, **kwargs: Any) -> Any:
        """The method that this runner stands in for."""
        if self.previous is not None:
            return self.previous(*args, **kwargs)
        return self.upstream(self.module, *args, **kwargs)

    def install(self) -> None:
        """Take the place of the method, on this instance only."""
        self.previous = self.module.__dict__.get(self.method)
        self.module.__dict__[self.method] = self.forward

    def require_free(self) -> None:
        """Raise TurboError where another library has put a method of its own on the instance."""
        if self.method in self.module.__dict__ and runner_of(self.module, self.method) is None:
            raise TurboError(
                f"a {type(self.module).__name__} of this model has a {self.method} of its own on the instance (a hook "
                "of another library, such as accelerate's device_map offloading): turbo would bypass it; remove it "
                "first"
            )

    def require_in_place(self) -> None:
        """Raise TurboError where another library replaced the method since. Runners of one method lie upon another."""
        found = runner_of(self.module, self.method)
        if found is None or found.acceleration is not self.acceleration:
            raise TurboError(
                f"the {self.method} of {type(self.module).__name__} was replaced after turbo.accelerate: undo that "
                "first, then restore"
            )

    def uninstall(self) -> None:
        """Leave the module's attributes as they were found."""
        if self.previous is None:
            del self.module.__dict__[self.method]
        else:
            self.module.__dict__[self.method] = self.previous


def runner_of(module: nn.Module, method: str) -> Runner | None:
    """The runner that stands in for a module's method, the topmost one; None where there is none."""
    owner = getattr(module.__dict__.get(method), "__self__", None)
    return owner if isinstance(owner, Runner) else None
