"""Models by name, for the command line and the benchmarks.

Real checkpoints, the zoo, and official configurations with random weights, which need no download and serve for
structure and speed.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from turbo.errors import TurboError

_CLIP_L_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
_CLIP_L_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
_VIT_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_DINOV2_B = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 14,
    "image_size": 518,
}
_DINOV2_G = {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True}
# Upstream's default, 1e-10, makes random vision weights all but zero, and every image alike.
_BLIP = {"vision_config": {"initializer_range": 0.02}}

OFFICIAL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit-b16-224": ("ViTForImageClassification", "ViTConfig", {}),
    "vit-b16-384": ("ViTForImageClassification", "ViTConfig", {"image_size": 384}),
    "vit-l16-224": ("ViTForImageClassification", "ViTConfig", _VIT_L),
    "deit-b16-224": ("DeiTForImageClassificationWithTeacher", "DeiTConfig", {}),
    "dinov2-b14-518": ("Dinov2Model", "Dinov2Config", _DINOV2_B),
    "dinov2-g14-518": ("Dinov2Model", "Dinov2Config", _DINOV2_B | _DINOV2_G),
    "dinov2-reg-b14-518": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", _DINOV2_B),
    "clip-b32-224": ("CLIPModel", "CLIPConfig", {}),
    "clip-l14-224": (
        "CLIPModel",
        "CLIPConfig",
        {"vision_config": _CLIP_L_VISION | {"image_size": 224}, "text_config": _CLIP_L_TEXT, "projection_dim": 768},
    ),
    "clip-l14-336": (
        "CLIPModel",
        "CLIPConfig",
        {"vision_config": _CLIP_L_VISION | {"image_size": 336}, "text_config": _CLIP_L_TEXT, "projection_dim": 768},
    ),
    "blip-base-384": ("BlipForConditionalGeneration", "BlipConfig", _BLIP),
    "blip-vqa-base-384": ("BlipForQuestionAnswering", "BlipConfig", _BLIP),
    "blip-itm-base-384": ("BlipForImageTextRetrieval", "BlipConfig", _BLIP),
}
"""Name -> class, configuration class and what differs from that configuration's defaults (all in transformers)."""


@dataclass(frozen=True)
class LoadedModel:
    """A model and the path of an image through it.

    Attributes:
        name: what it was asked for as.
        model: in evaluation mode.
        image_size: height and width of its images.
        images: images ``b 3 height width`` -> what the vision side returns. This is what gets timed.
    """

    name: str
    model: nn.Module
    image_size: tuple[int, int]
    images: Callable[[Tensor], Any]

    def example(self, batch: int, seed: int = 0) -> Tensor:
        """Random images ``b 3 height width`` in the model's type, on its device."""
        parameter = next(self.model.parameters())
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(batch, 3, *self.image_size, generator=generator)
        return images.to(parameter.device, parameter.dtype)


def load_model(name: str, options: Mapping[str, Any] | None = None) -> LoadedModel:
    """Load a model by name.

    Args:
        name: one of
            ``random:NAME`` (an official transformers configuration, see `OFFICIAL`; ``random:timm/NAME``;
            ``random:open_clip/NAME``) with random weights;
            ``zoo:NAME`` (shipped with turbo);
            ``timm:NAME`` or ``open_clip:NAME:PRETRAINED``, loaded by that library;
            otherwise a local folder or hub id, loaded by transformers.
        options: further keyword arguments of `timm.create_model` (``img_size=1024``, ``depth=20``); for timm only.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        TurboError: an unknown name, a library that is not installed, a checkpoint that cannot be loaded, or options
            that cannot apply.

    Examples:
        >>> load_model("zoo:vit-digits").image_size
        (64, 64)
    """
    kind, _, rest = name.partition(":")
    if options and not name.startswith(("timm:", "random:timm/")):
        raise TurboError(
            f"{', '.join(options)} cannot apply to {name}: only timm makes models with options; leave it out, or name "
            "timm:NAME or random:timm/NAME"
        )
    made = dict(options or {})
    loaders = {
        "random": lambda rest: _random(rest, made),
        "zoo": _zoo,
        "timm": lambda rest: _create("timm", rest, pretrained=True, **made),
        "open_clip": _open_clip,
    }
    try:
        model = loaders[kind](rest) if rest and kind in loaders else _transformers(name)
    except ImportError as error:
        raise TurboError(f"{name} needs a library that is not installed: {error}") from error
    model.train(False)
    return LoadedModel(name, model, _image_size(model), _image_path(model))


def _random(name: str, options: Mapping[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    library, _, rest = name.partition("/")
    if rest and library == "timm":
        return _create("timm", rest, pretrained=False, **options)
    if rest and library == "open_clip":
        return _create("open_clip", rest, pretrained=None)
    if name not in OFFICIAL:
        raise TurboError(
            f"no official configuration is called {name!r}; there are: {', '.join(OFFICIAL)}, timm/NAME and "
            "open_clip/NAME"
        )
    import transformers

    model_class, config_class, differs = OFFICIAL[name]
    config = getattr(transformers, config_class)(**differs)
    model: nn.Module = getattr(transformers, model_class)(config)
    return model


def _zoo(name: str) -> nn.Module:
    from turbo import zoo

    model: nn.Module = zoo.load(name)
    return model


def _create(library: str, name: str, *, pretrained: bool | str | None, **options: Any) -> nn.Module:
    """Timm and open_clip make a model by the same call."""
    make = importlib.import_module(library).create_model
    try:
        model: nn.Module = make(name, pretrained=pretrained, **options)
    except (RuntimeError, TypeError) as error:  # TypeError: an option that it does not know
        raise TurboError(f"{library} cannot make {name!r}: {error}") from error
    return model


def _open_clip(name: str) -> nn.Module:
    architecture, _, tag = name.partition(":")
    if not tag:
        import open_clip

        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none known"
        raise TurboError(f"open_clip:{name}: name the weights too, open_clip:{name}:TAG; tags: {tags}")
    return _create("open_clip", architecture, pretrained=tag)


def _transformers(name: str) -> nn.Module:
    import transformers

    folder = Path(name)
    if folder.exists() and not (folder / "config.json").exists():
        raise TurboError(f"{name} has no config.json: give a folder written by save_pretrained")
    try:
        if folder.exists():
            architectures = json.loads((folder / "config.json").read_text()).get("architectures")
        else:
            architectures = transformers.AutoConfig.from_pretrained(name).architectures
        model_class = getattr(transformers, (architectures or ["AutoModel"])[0], transformers.AutoModel)
        model: nn.Module = model_class.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise TurboError(
            f"{name!r} is neither a folder nor a hub id that can be loaded here ({str(error).splitlines()[0]}); for "
            "random weights use random:NAME"
        ) from error
    return model


def _image_size(model: Any) -> tuple[int, int]:
    config = getattr(model, "config", None)
    size = getattr(getattr(config, "vision_config", config), "image_size", None)
    if size is None:
        trunk = getattr(model, "visual", model)
        size = getattr(trunk, "image_size", None) or getattr(getattr(trunk, "patch_embed", None), "img_size", None)
    if size is None:
        raise TurboError(f"cannot tell the image size of {type(model).__name__}")
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _image_path(model: Any) -> Callable[[Tensor], Any]:
    for name in ("get_image_features", "encode_image", "vision_model"):
        if (path := getattr(model, name, None)) is not None:
            return path  # type: ignore[no-any-return]
    return model  # type: ignore[no-any-return]
