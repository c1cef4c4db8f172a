"""Settings of a model measured on data, resumable: what is in the folder is not measured again."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import turbo
from turbo.bench.folder import claim, write_whole
from turbo.engine.install import find_acceleration
from turbo.errors import TurboError, TurboWarning
from turbo.evaluation.data import Captions, Data, Questions
from turbo.evaluation.data.sources import Task
from turbo.evaluation.settings import UNTOUCHED, UNTOUCHED_SETTING, Setting, as_settings, slug
from turbo.evaluation.tasks.choice import WRITING, default_decoding, make_job
from turbo.evaluation.tasks.inputs import Inputs, load_inputs
from turbo.evaluation.tasks.job import Decoding, Job
from turbo.evaluation.tasks.outcome import Outcome
from turbo.models import LoadedModel

Outcomes = dict[str, dict[str, Outcome]]
"""Name of the data -> name of the setting -> outcome; the untouched model is one of the settings."""


@dataclass(frozen=True)
class Preview:
    """What a setting does to the model's tokens, known without a run.

    Attributes:
        tokens: after the last block.
        factor: by which the FLOPs of the blocks fall.
        notes: what cannot be done as asked.
    """

    tokens: int
    factor: float
    notes: tuple[str, ...]


def evaluate(
    loaded: LoadedModel,
    data: Sequence[Data],
    settings: Mapping[str, Mapping[str, Any] | Setting],
    *,
    task: Task,
    batch: int = 32,
    decoding: Decoding | None = None,
    out: Path | None = None,
    inputs: Inputs | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> Outcomes:
    """Measure a model untouched and in several settings, on one or more sets of data.

    Args:
        loaded: the model; it is left untouched.
        data: of the task, as `load_data` gives them.
        settings: name -> keyword arguments of `turbo.accelerate`, or a `Setting`.
        task: see `find_task`.
        batch: examples at a time.
        decoding: how texts are written; the model's published protocol without it.
        out: folder in which each outcome is kept as it is finished, and from which it is taken if it is there.
        inputs: how the model's inputs are made; its own processor without it.
        on_batch: called for each batch of each setting, measured or found.

    Returns:
        The outcomes.

    Raises:
        TurboError: a setting does not work with the model, two names mean one file, the folder holds another run, or
            the data do not suit the model.

    Examples:
        >>> from turbo.evaluation import load_data
        >>> from turbo.models import load_model
        >>> data = load_data("digits:plain", "classification", limit=8)
        >>> found = evaluate(load_model("zoo:vit-digits"), data, {"ours": {"drop": 10}}, task="classification")
        >>> list(found["digits:plain test seed 0"])
        ['untouched', 'ours']
    """
    asked = as_settings(settings)
    decoding = decoding or default_decoding(loaded, task)
    preview(loaded, asked)
    if len({each.name for each in data}) < len(data) or not data:
        raise TurboError(f"data: {', '.join(each.name for each in data) or 'none'}; give one or more, each once")
    jobs = {}
    inputs = inputs or load_inputs(loaded)
    for each in data:
        jobs[each.name] = make_job(task, loaded, inputs, each, batch, decoding)
        if out is not None:
            claim(out, run_record(loaded, task, decoding), "outcomes of a run")
            claim(out / "outcomes" / slug(each.name), _data_record(each), "outcomes on data")
    found: Outcomes = {}
    for name in list(jobs):
        job = jobs.pop(name)  # the pixel values of one set of data at a time
        folder = None if out is None else out / "outcomes" / slug(name)
        found[name] = {
            setting.name: _measure(job, setting, folder, on_batch) for setting in (UNTOUCHED_SETTING, *asked)
        }
    return found


def count_batches(data: Sequence[Data], batch: int, settings: Sequence[Setting]) -> int:
    """How often `evaluate` calls `on_batch`."""
    examples = [len(each.questions) if isinstance(each, Questions) else len(each.images) for each in data]
    return (1 + len(settings)) * sum(-(-count // batch) for count in examples)


def preview(loaded: LoadedModel, settings: Sequence[Setting]) -> dict[str, Preview]:
    """Try settings on a model, without running it.

    Args:
        loaded: the model; it is left untouched.
        settings: what to try.

    Returns:
        Name -> what it does.

    Raises:
        TurboError: one does not work, or the model is accelerated already; the message names the setting.
    """
    if find_acceleration(loaded.model) is not None:
        raise TurboError(f"{loaded.name} is accelerated already: turbo.restore(model) first")
    found = {}
    for setting in settings:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", TurboWarning)
                with turbo.accelerated(loaded.model, **setting.options):
                    report = turbo.report(loaded.model)
        except TurboError as error:
            raise TurboError(f"the setting {setting.name!r}: {error}") from error
        notes = dict.fromkeys(str(each.message) for each in caught if issubclass(each.category, TurboWarning))
        found[setting.name] = Preview(report.blocks[-1].tokens_out, report.achieved, tuple(notes))
    return found


@contextmanager
def prepared(loaded: LoadedModel, setting: Setting) -> Iterator[None]:
    """The model in a setting. What cannot be done as asked is in the preview, and not warned about again."""
    if setting.name == UNTOUCHED:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TurboWarning)
        with turbo.accelerated(loaded.model, **setting.options):
            yield


def run_record(loaded: LoadedModel, task: Task, decoding: Decoding) -> dict[str, Any]:
    """Plain data that tell a run from others: the model and its weights, the task and how texts are written."""
    digest = hashlib.sha256()
    for name, tensor in sorted(loaded.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    record = {
        "model": loaded.name,
        "class": type(loaded.model).__name__,
        "weights": digest.hexdigest()[:16],
        "dtype": str(next(loaded.model.parameters()).dtype).removeprefix("torch."),
        "task": task,
    }
    return record | ({f"decoding_{name}": value for name, value in asdict(decoding).items()} if task in WRITING else {})


def _data_record(data: Data) -> dict[str, Any]:
    digest = hashlib.sha256()
    for image in (data.images[0], data.images[len(data.images) - 1]):
        digest.update(image.tobytes())
    texts: list[Any]
    if isinstance(data, Captions):
        texts = [data.references]
    elif isinstance(data, Questions):
        texts = [data.image_of, data.questions, data.answers]
    else:
        texts = [data.labels, data.classes, data.templates]
    digest.update(json.dumps(texts).encode())
    return {"data": data.name, "images": len(data.images), "digest": digest.hexdigest()[:16]}


def _measure(job: Job[Any], setting: Setting, folder: Path | None, on_batch: Callable[[], None]) -> Outcome:
    path = None if folder is None else folder / f"{setting.slug}.json"
    identity = {"name": setting.name, "setting": setting.record}
    if path is not None and path.exists():
        kept = json.loads(path.read_text())
        if {name: kept[name] for name in identity} != json.loads(json.dumps(identity)):
            raise TurboError(
                f"{path} holds {kept['name']!r} with {kept['setting']}, not {identity}: take another folder"
            )
        for _ in range(job.batches):
            on_batch()
        return Outcome.from_json(kept)
    with torch.inference_mode(), prepared(job.loaded, setting):
        outcome = job.outcome(on_batch)
    if path is not None:
        write_whole(path, json.dumps({**identity, **outcome.to_json()}) + "\n")
    return outcome
