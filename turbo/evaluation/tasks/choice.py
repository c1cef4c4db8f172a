"""Which task a model and data make, and the job that measures it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from turbo.errors import TurboError
from turbo.evaluation.data import Data
from turbo.evaluation.data.sources import SOURCES, TASKS, Task
from turbo.evaluation.tasks.answering import Answering
from turbo.evaluation.tasks.captioning import Captioning
from turbo.evaluation.tasks.classifying import Classifying
from turbo.evaluation.tasks.embeddings import embeds_both
from turbo.evaluation.tasks.finding import Finding
from turbo.evaluation.tasks.inputs import Inputs
from turbo.evaluation.tasks.job import Decoding, Job
from turbo.evaluation.tasks.matching import Matching
from turbo.models import LoadedModel

JOBS: Mapping[Task, type[Job[Any]]] = {
    "captioning": Captioning,
    "vqa": Answering,
    "matching": Matching,
    "retrieval": Finding,
    "classification": Classifying,
}
WRITING: tuple[Task, ...] = ("captioning", "vqa")
"""Tasks in which a model writes texts, so that a `Decoding` means something."""

_MODELS = (
    "BlipForConditionalGeneration (captioning), BlipForQuestionAnswering (vqa), "
    "BlipForImageTextRetrieval (matching, retrieval, classification), CLIP of transformers or open_clip (retrieval, "
    "classification), ...ForImageClassification and timm's classifiers (classification)"
)


def tasks_of(model: Any) -> tuple[Task, ...]:
    """What a model can be measured on, first what it was made for.

    Examples:
        >>> from turbo import zoo
        >>> tasks_of(zoo.load("vit-digits"))
        ('classification',)
    """
    classes = {each.__name__ for each in type(model).__mro__}
    if "BlipForConditionalGeneration" in classes:
        return ("captioning",)
    if "BlipForQuestionAnswering" in classes:
        return ("vqa",)
    if "BlipForImageTextRetrieval" in classes:
        return "matching", "retrieval", "classification"
    if embeds_both(model):
        return "retrieval", "classification"
    library = type(model).__module__.partition(".")[0]
    has_head = library == "timm" and getattr(model, "num_classes", 0) > 0
    if has_head or any("ForImageClassification" in name for name in classes):
        return ("classification",)
    return ()


def find_task(loaded: LoadedModel, spec: str, asked: str | None = None) -> Task:
    """The task that a model and data make.

    Args:
        loaded: the model.
        spec: data, as for `load_data`.
        asked: the task that the user wants; None takes what fits. Where a CLIP and data with captions as well as
            classes leave a choice, it is retrieval.

    Returns:
        The task.

    Raises:
        TurboError: they do not fit, or the data or the task is unknown.

    Examples:
        >>> from turbo.models import load_model
        >>> find_task(load_model("zoo:vit-digits"), "digits")
        'classification'
    """
    name = spec.partition(":")[0]
    if name not in SOURCES:
        raise TurboError(f"unknown data {spec!r}: choose one of {', '.join(SOURCES)} (see turbo.evaluation.load_data)")
    if asked is not None and asked not in TASKS:
        raise TurboError(f"unknown task {asked!r}: choose one of {', '.join(TASKS)}")
    can, has = tasks_of(loaded.model), SOURCES[name].tasks
    kind = type(loaded.model).__name__
    if not can:
        raise TurboError(f"{loaded.name} is a {kind}, and there is no task for it; there is for: {_MODELS}")
    both = [task for task in can if task in has]
    if asked is None and both:
        return both[0]
    if asked is not None and asked in both:
        return next(task for task in both if task == asked)
    fitting = [other for other, source in SOURCES.items() if set(can) & set(source.tasks)]
    choice = f"choose --task {' or '.join(both)}" if both else f"data for it: {', '.join(fitting)}"
    wanted = "" if asked is None else f"{asked} was asked for; "
    raise TurboError(f"{wanted}{loaded.name} ({kind}) is for {_join(can)}, and {name} for {_join(has)}: {choice}")


def _join(tasks: Iterable[str]) -> str:
    return " and ".join(tasks)


def default_decoding(loaded: LoadedModel, task: Task) -> Decoding:
    """How a model writes unless told otherwise.

    BLIP's published protocols: captions begin with "a picture of" and have 5 to 20 tokens, answers 1 to 10, both with
    3 beams. The zoo's models know no prompt, and their captions have up to 32 tokens.
    """
    if task == "vqa":
        return Decoding(max_length=10, min_length=1)
    if loaded.name.startswith("zoo:"):
        return Decoding(max_length=32, min_length=0)
    return Decoding(prompt="a picture of")


def make_job(
    task: Task, loaded: LoadedModel, inputs: Inputs, data: Data, batch: int = 32, decoding: Decoding | None = None
) -> Job[Any]:
    """The job of a task on one set of data.

    Args:
        task: see `find_task`.
        loaded: the model.
        inputs: how its inputs are made.
        data: of the task, by `load_data`.
        batch: examples at a time.
        decoding: how texts are written; the model's published protocol without it.
    """
    return JOBS[task](loaded, inputs, data, batch, decoding or default_decoding(loaded, task))
