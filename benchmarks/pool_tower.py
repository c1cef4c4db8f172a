"""Trains a tower without a class token, which `semantic_sources.py` needs; it is not shipped.

    python benchmarks/pool_tower.py --out out/pool-scenes.pt      # 16 minutes on one core

A VisionTransformer of timm that starts from the blocks of the zoo's clip-scenes, without a class token, and ends in an
attention pool: a learned query that attends to all patches, as SigLIP's. All of it is trained against the captions as
clip-scenes' text side encodes them, which stays as it is.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import AutoProcessor

from turbo import zoo
from turbo.zoo.contrast import CaptionBank
from turbo.zoo.learning import Batch, Supervision, fit
from turbo.zoo.train_clip_scenes import DEPTH, HEADS, WIDTH, words

SIZE = {"img_size": 112, "patch_size": 8, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
LIKE_CLIP = {"pre_norm": True, "act_layer": "quick_gelu", "norm_layer": partial(nn.LayerNorm, eps=1e-5)}


class PoolScenes(nn.Module):
    """The tower with clip-scenes' text side, in transformers' words.

    Args:
        weights: of the tower; without them it starts from clip-scenes, its head from chance.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        clip: Any = zoo.load("clip-scenes").requires_grad_(False)
        self.text_model, self.text_projection = clip.text_model, clip.text_projection
        self.logit_scale, self.config = clip.logit_scale, clip.config
        self.tower = VisionTransformer(class_token=False, global_pool="map", num_classes=WIDTH, **SIZE, **LIKE_CLIP)
        if weights is None:
            _copy(clip, self.tower)
        else:
            self.tower.load_state_dict(torch.load(weights))

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Embeddings of images, ``b d``."""
        features: Tensor = self.tower(pixel_values)
        return features

    def get_text_features(self, **text: Tensor) -> Tensor:
        """Embeddings of texts, ``b d``."""
        features: Tensor = self.text_projection(self.text_model(**text).pooler_output)
        return features


@torch.no_grad()
def _copy(clip: Any, tower: Any) -> None:
    """clip-scenes' patches, positions, blocks and projection into the tower."""
    vision = clip.vision_model
    tower.patch_embed.proj.weight.copy_(vision.embeddings.patch_embedding.weight)
    tower.pos_embed.copy_(vision.embeddings.position_embedding.weight[None, 1:])
    tower.norm_pre.load_state_dict(vision.pre_layrnorm.state_dict())
    tower.norm.load_state_dict(vision.post_layernorm.state_dict())
    tower.head.weight.copy_(clip.visual_projection.weight)
    tower.head.bias.zero_()
    for block, layer in zip(tower.blocks, vision.encoder.layers, strict=True):
        attention = layer.self_attn
        three = (attention.q_proj, attention.k_proj, attention.v_proj)
        block.attn.qkv.weight.copy_(torch.cat([each.weight for each in three]))
        block.attn.qkv.bias.copy_(torch.cat([each.bias for each in three]))
        block.attn.proj.load_state_dict(attention.out_proj.state_dict())
        for own, other in (("norm1", "layer_norm1"), ("norm2", "layer_norm2")):
            getattr(block, own).load_state_dict(getattr(layer, other).state_dict())
        block.mlp.fc1.load_state_dict(layer.mlp.fc1.state_dict())
        block.mlp.fc2.load_state_dict(layer.mlp.fc2.state_dict())


def train(minutes: float, seed: int, rate: float) -> PoolScenes:
    """Trains for a stretch of wall time."""
    torch.manual_seed(0)
    model = PoolScenes().train()
    tower: Any = model.tower
    tokenizer = AutoProcessor.from_pretrained(zoo.folder("clip-scenes")).tokenizer
    supervision, bank, scale = Supervision(WIDTH), CaptionBank(), model.logit_scale.exp()

    def loss_of(batch: Batch, seen: int, weight: float) -> Tensor:
        states = tower.norm_pre(tower._pos_embed(tower.patch_embed(batch.pixels)))
        # `keep` and the supervision know a first token that is no patch: any at first, what is pooled at last.
        states = batch.keep(torch.cat([states[:, :1], states], 1), seen)[:, 1:]
        states = tower.norm(tower.blocks(states))
        pooled = tower.attn_pool(states)
        captions = batch.scenes.captions()
        named = model.get_text_features(**words(tokenizer, captions)).float()
        loss = bank.loss(tower.head(pooled), named, captions, scale)
        total: Tensor = loss + weight * supervision(torch.cat([pooled[:, None], states], 1), batch)
        return total

    fit([model.tower, supervision], loss_of, minutes=minutes, seed=seed, rate=rate, check=lambda: "", begin=0.3)
    return model


def main() -> None:
    """Trains and writes the tower's weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=16.0)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--out", type=Path, default=Path("out/pool-scenes.pt"))
    options = parser.parse_args()
    model = train(options.minutes, options.seed, options.rate)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.tower.state_dict(), options.out)


if __name__ == "__main__":
    main()
