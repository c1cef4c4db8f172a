"""Model classes that are known not to fit, and why: no adapter describes them, and the error can say more than that."""

from __future__ import annotations

from torch import nn

_BIAS = "a relative position bias for each pair of patches"
_GRIDS = "feature maps of several layers, each a grid of patches"
_IMAGES = "masks that keep the images of a batch apart"
_WINDOWS = "attention in windows of patches"

MISFITS = {
    "timm.models.beit:Beit": _BIAS,
    "timm.models.naflexvit:NaFlexVit": "masks and positions of its own for each image",
    "timm.models.swin_transformer:SwinTransformer": _WINDOWS,
    "transformers.models.beit.modeling_beit:BeitModel": _BIAS,
    "transformers.models.data2vec.modeling_data2vec_vision:Data2VecVisionModel": _BIAS,
    "transformers.models.dinov3_vit.modeling_dinov3_vit:DINOv3ViTBackbone": _GRIDS,
    "transformers.models.pixtral.modeling_pixtral:PixtralVisionModel": _IMAGES,
    "transformers.models.swin.modeling_swin:SwinModel": _WINDOWS,
    "transformers.models.swinv2.modeling_swinv2:Swinv2Model": _WINDOWS,
}
"""``"package.module:Class"`` -> what it has that merging takes away. Class names alone: no library is imported."""


def known_misfit(model: nn.Module) -> str | None:
    """What is known to be in the way of merging in a model, in words; None where nothing is.

    Examples:
        >>> known_misfit(nn.Linear(1, 1)) is None
        True
    """
    for module in model.modules():
        for cls in type(module).__mro__:
            if (found := MISFITS.get(f"{cls.__module__}:{cls.__qualname__}")) is not None:
                return f"{cls.__qualname__} has {found}, and patches merge"
    return None
