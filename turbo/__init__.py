"""Makes vision-language models faster by merging the tokens that say the least. One call, no training."""

from importlib.metadata import PackageNotFoundError, version

from turbo import adapters, fusion
from turbo.api import accelerate, accelerated, list_adapters, list_strategies, report, restore
from turbo.engine.trace import recording
from turbo.errors import TurboError, TurboWarning

try:
    __version__ = version("turbo-vlm")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0.0.0"

__all__ = [
    "TurboError",
    "TurboWarning",
    "__version__",
    "accelerate",
    "accelerated",
    "adapters",
    "fusion",
    "list_adapters",
    "list_strategies",
    "recording",
    "report",
    "restore",
]
