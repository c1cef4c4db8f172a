"""Where A comes from without a class token: the fallback is worth having."""

from __future__ import annotations

from statistics import mean

import pytest
import torch

import turbo
from turbo import defaults
from turbo.adapters.base import ResidualBlock
from turbo.evaluation import load_data
from turbo.evaluation.tasks.choice import make_job
from turbo.evaluation.tasks.inputs import load_inputs
from turbo.evaluation.tasks.job import Decoding
from turbo.models import load_model

SCENES = 100  # on each ground


@pytest.fixture(scope="module")
def captions():
    """Mean NLL that the zoo's captioner gives to the right captions, its class token hidden, at 2.5×."""
    loaded = load_model("zoo:blip-scenes")
    inputs, decoding = load_inputs(loaded), Decoding(generate=False)
    parts = load_data("scenes", "captioning", limit=SCENES)
    jobs = [make_job("captioning", loaded, inputs, part, SCENES, decoding) for part in parts]

    def measure(strategy=defaults.STRATEGY):
        with turbo.accelerated(loaded.model, strategy, speedup=2.5), torch.inference_mode():
            return mean(value for job in jobs for value in job.outcome().per_example["nll"])

    return measure


def hide(monkeypatch, query):
    """The class token stays protected, and no longer asks."""

    def asked(block, q):
        block.class_token = False
        return query(block, q[:, :, 1:])

    monkeypatch.setattr(ResidualBlock, "query", asked)


def test_without_a_class_token_the_default_beats_redundancy_alone(captions, monkeypatch):
    hide(monkeypatch, ResidualBlock.query)
    assert captions() < 0.8 * captions("tome")


def test_without_a_class_token_a_few_tokens_say_more_than_their_mean(captions, monkeypatch):
    with monkeypatch.context() as patch:
        hide(patch, ResidualBlock.query)
        fallback = captions("s1")
    hide(monkeypatch, lambda block, q: q.mean(dim=2, keepdim=True))
    assert fallback < 0.95 * captions("s1")
