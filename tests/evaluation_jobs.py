"""The zoo's models, their inputs and a few scenes, made once for all tests of evaluation."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch

from turbo.evaluation import load_data
from turbo.evaluation.tasks.choice import default_decoding, make_job
from turbo.evaluation.tasks.inputs import Inputs, load_inputs
from turbo.evaluation.tasks.outcome import Outcome
from turbo.models import LoadedModel, load_model

SPECS = {
    "captioning": "blip-scenes",
    "vqa": "blip-vqa-scenes",
    "matching": "blip-itm-scenes",
    "retrieval": "clip-scenes",
}


@cache
def model(name: str) -> LoadedModel:
    return load_model(f"zoo:{name}")


@cache
def inputs(name: str) -> Inputs:
    return load_inputs(model(name))


@cache
def scenes(task: str, limit: int = 8, seed: int = 0):
    (found,) = load_data("scenes:distractors", task, limit=limit, seed=seed)
    return found


def job(task: str, batch: int = 8, limit: int = 8, **decoding: object):
    name = SPECS[task]
    return make_job(
        task,
        model(name),
        inputs(name),
        scenes(task, limit),
        batch,
        replace(default_decoding(model(name), task), **decoding),
    )


def outcome(task: str, batch: int = 8, limit: int = 8, **decoding: object) -> Outcome:
    with torch.inference_mode():
        return job(task, batch, limit, **decoding).outcome()


def digits(limit: int = 16, seed: int = 0, ground: str = "plain"):
    (found,) = load_data(f"digits:{ground}", "classification", limit=limit, seed=seed)
    return found
