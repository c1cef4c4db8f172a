"""Small trained models and their data, for tests and demonstrations without a network.

Importing this module imports neither transformers, diffusers nor scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from turbo.errors import TurboError
from turbo.zoo.captioned import SceneLabels, captioned_scenes
from turbo.zoo.digits import preprocess, scenes

if TYPE_CHECKING:
    from transformers import ViTForImageClassification

    from turbo.zoo.judge import SceneJudge
    from turbo.zoo.pixel_pipeline import PixelDiffusionPipeline

__all__ = ["NAMES", "SceneLabels", "captioned_scenes", "load", "preprocess", "scenes"]

NAMES: tuple[str, ...] = ("vit-digits", "t2i-scenes", "scene-judge")


@overload
def load(name: Literal["vit-digits"] = ...) -> ViTForImageClassification: ...
@overload
def load(name: Literal["t2i-scenes"]) -> PixelDiffusionPipeline: ...
@overload
def load(name: Literal["scene-judge"]) -> SceneJudge: ...
@overload
def load(name: str) -> Any: ...
def load(name: str = "vit-digits") -> Any:
    """Loads a packaged model.

    Args:
        name: one of `NAMES`. "vit-digits" maps pixel values (`b 3 64 64`, from `preprocess`) to
            logits (`b 10`) and has 257 tokens. "t2i-scenes" is a diffusers pipeline that draws
            captions such as those of `captioned_scenes`, 32 x 32 pixels. "scene-judge" says what
            such an image shows.

    Returns:
        The model in evaluation mode and float32, on the CPU.

    Raises:
        TurboError: if the name is unknown or a library is not installed.
    """
    if name not in NAMES:
        raise TurboError(f"unknown model {name!r}: the zoo has {', '.join(NAMES)}")
    loaders: dict[str, Callable[[Path], Any]] = {
        "vit-digits": _classifier,
        "t2i-scenes": _pipeline,
        "scene-judge": _judge,
    }
    return loaders[name](Path(__file__).parent / "weights" / name)


def _classifier(folder: Path) -> Any:
    try:
        import torch
        from transformers import ViTForImageClassification
        from transformers.utils import logging
    except ImportError as error:
        raise TurboError('turbo.zoo needs transformers for its models: pip install "turbo-vlm[zoo]"') from error
    with _quiet(logging):
        model = ViTForImageClassification.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.train(False)


def _pipeline(folder: Path) -> Any:
    try:
        import torch
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging

        from turbo.zoo.pixel_pipeline import PixelDiffusionPipeline
    except ImportError as error:
        raise TurboError(
            'turbo.zoo needs diffusers and transformers for t2i-scenes: pip install "turbo-vlm[zoo,diffusers]"'
        ) from error
    with _quiet(logging), _quiet(diffusers_logging):
        pipeline = PixelDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)  # a second of work needs none
    return pipeline


def _judge(folder: Path) -> Any:
    from turbo.zoo.judge import SceneJudge

    return SceneJudge.from_pretrained(folder)


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Hides a library's progress bars while a file of a few megabytes is read."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
