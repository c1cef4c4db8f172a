"""Small trained models and their data, for tests, measurements and demonstrations without a network.

Importing this module imports neither transformers, diffusers nor scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from turbo.errors import TurboError
from turbo.zoo.captioned import SceneLabels, captioned_scenes
from turbo.zoo.digits import digit_scenes, preprocess
from turbo.zoo.scenes import Scenes, draw_scenes

if TYPE_CHECKING:
    from transformers import (
        BlipForConditionalGeneration,
        BlipForImageTextRetrieval,
        BlipForQuestionAnswering,
        CLIPModel,
        ViTForImageClassification,
    )

    from turbo.zoo.judge import SceneJudge
    from turbo.zoo.pixel_pipeline import PixelDiffusionPipeline

__all__ = [
    "NAMES",
    "SceneLabels",
    "Scenes",
    "captioned_scenes",
    "digit_scenes",
    "draw_scenes",
    "folder",
    "load",
    "preprocess",
]

_CLASSES = {
    "vit-digits": "ViTForImageClassification",
    "clip-scenes": "CLIPModel",
    "blip-scenes": "BlipForConditionalGeneration",
    "blip-vqa-scenes": "BlipForQuestionAnswering",
    "blip-itm-scenes": "BlipForImageTextRetrieval",
}
NAMES: tuple[str, ...] = (*_CLASSES, "t2i-scenes", "scene-judge")


def folder(name: str) -> Path:
    """Gives the folder of a packaged model: weights, configuration, card and, where it has one, the processor.

    Raises:
        TurboError: the name is unknown.

    Examples:
        >>> (folder("clip-scenes") / "config.json").exists()
        True
    """
    if name not in NAMES:
        raise TurboError(f"unknown model {name!r}: the zoo has {', '.join(NAMES)}")
    return Path(__file__).parent / "weights" / name


@overload
def load(name: Literal["vit-digits"] = ...) -> ViTForImageClassification: ...
@overload
def load(name: Literal["clip-scenes"]) -> CLIPModel: ...
@overload
def load(name: Literal["blip-scenes"]) -> BlipForConditionalGeneration: ...
@overload
def load(name: Literal["blip-vqa-scenes"]) -> BlipForQuestionAnswering: ...
@overload
def load(name: Literal["blip-itm-scenes"]) -> BlipForImageTextRetrieval: ...
@overload
def load(name: Literal["t2i-scenes"]) -> PixelDiffusionPipeline: ...
@overload
def load(name: Literal["scene-judge"]) -> SceneJudge: ...
@overload
def load(name: str) -> Any: ...
def load(name: str = "vit-digits") -> Any:
    """Loads a packaged model.

    Args:
        name: one of `NAMES`. "vit-digits" names the digit in scenes such as those of `digit_scenes`. "clip-scenes",
            "blip-scenes" and "blip-vqa-scenes" find, caption and answer questions about scenes such as those of
            `draw_scenes`; "blip-itm-scenes" tells whether a text matches one. "t2i-scenes" is a diffusers pipeline that
            draws captions such as those of `captioned_scenes`; "scene-judge" says what such an image shows.

    Returns:
        The model in evaluation mode and float32, on the CPU. `transformers.AutoProcessor.from_pretrained(folder(name))`
        gives the processor of one of transformers' models; `preprocess` does the same for images alone.

    Raises:
        TurboError: the name is unknown, or a library is not installed.

    Examples:
        >>> load("blip-scenes").config.vision_config.image_size
        112
    """
    path = folder(name)
    if name == "t2i-scenes":
        return _pipeline(path)
    if name == "scene-judge":
        from turbo.zoo.judge import SceneJudge

        return SceneJudge.from_pretrained(path)
    return _model(path, _CLASSES[name])


def _model(path: Path, class_name: str) -> Any:
    try:
        import torch
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise TurboError('turbo.zoo needs transformers for its models: pip install "turbo-vlm[zoo]"') from error
    with _quiet(logging):
        model_class = getattr(transformers, class_name)
        model = model_class.from_pretrained(path, dtype=torch.float32, local_files_only=True)
    return model.train(False)


def _pipeline(path: Path) -> Any:
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
        pipeline = PixelDiffusionPipeline.from_pretrained(path, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)  # a second of work needs none
    return pipeline


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
