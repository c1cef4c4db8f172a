"""Adapters of BLIP that describe the layers in which a text reads the image's tokens wrongly."""

from __future__ import annotations

from dataclasses import replace

from families import family

from turbo.adapters import Handover, Reader
from turbo.adapters.bert_reader import BlipReader
from turbo.adapters.blip import Blip

N = 37


class WrongScale(BlipReader):
    scale = 1.0


class OtherArgument(BlipReader):
    argument = "attention_mask"


class CountsTokens(BlipReader):
    """Right on all tokens, wrong on fewer."""

    def keys_values(self, tokens, given):
        k, v = super().keys_values(tokens, given)
        return k, v * k.shape[2] / N


def readers(kind):
    class Broken(Blip):
        def sites(self, model):
            return [
                kind(site.module, merges=site.merges) if isinstance(site, Reader) else site
                for site in super().sites(model)
            ]

    return _case(Broken)


class HandsOverTooEarly(Blip):
    def sites(self, model):
        last = model.vision_model.encoder.layers[-1]
        return [Handover(last) if isinstance(site, Handover) else site for site in super().sites(model)]


class HandsOverNothing(Blip):
    def sites(self, model):
        return [site for site in super().sites(model) if not isinstance(site, Handover)]


def _case(kind):
    return lambda _: replace(family("blip-retrieval").case, adapter=kind, name=kind.__name__)


BROKEN = [
    ("check_readers_are_the_layers", readers(WrongScale), r"maps of reader 0 \(BlipTextSelfAttention\) compute"),
    ("check_readers_are_the_layers", readers(OtherArgument), "got no image tokens as 'attention_mask'"),
    ("check_sizes_are_handed_over", _case(HandsOverTooEarly), "got something else than the output of Handover"),
    ("check_sizes_are_handed_over", _case(HandsOverNothing), "lists 0 Handovers"),
    ("check_merged_image_tokens_change_nothing", readers(CountsTokens), "merging exact copies of image tokens"),
]
"""As in broken_adapters."""
