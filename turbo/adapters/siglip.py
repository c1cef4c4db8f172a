"""transformers' SigLIP and SigLIP 2: no class token, and a head in which a learned query attends to all patches.

SigLIP 2 at a fixed resolution is SigLIP's class; Siglip2VisionModel is the one for any aspect ratio. It pads images of
different shapes, and padding is refused: the blocks get a mask then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from turbo.adapters.base import Adapter, Example, Restore, Site
from turbo.adapters.clip_block import CLIPBlock


class SigLIP(Adapter):
    """transformers SiglipVisionModel and Siglip2VisionModel, alone or in a composite model.

    A is what tokens receive from sampled ones: the head has a query of its own, but it meets keys of its own, after the
    last norm, and asks nothing of the blocks before. The head, a mean over patches and language models read all
    patches, so the full sequence is restored after the last block: attending to a token once per patch adds log s to
    its score.
    """

    target = (
        "transformers.models.siglip.modeling_siglip:SiglipVisionModel",
        "transformers.models.siglip2.modeling_siglip2:Siglip2VisionModel",
    )

    def sites(self, model: Any) -> Sequence[Site]:
        layers = model.encoder.layers
        return [*(CLIPBlock(layer, protected=0, class_token=False) for layer in layers), Restore(layers[-1])]

    def shape(self, model: Any) -> tuple[int, int]:
        n, width = model.embeddings.position_embedding.weight.shape
        return n, width

    def example(self) -> Example:
        from transformers import SiglipVisionConfig, SiglipVisionModel

        size = {"image_size": 48, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3}
        config = SiglipVisionConfig(intermediate_size=96, **size)
        return Example(lambda: SiglipVisionModel(config), lambda batch: {"pixel_values": torch.randn(batch, 3, 48, 48)})
