"""A whole study: quality, speed, figures with intervals, and the files that keep them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from turbo.bench.compare import machine
from turbo.bench.folder import write_json
from turbo.errors import TurboError
from turbo.evaluation.data import Data
from turbo.evaluation.data.sources import Task
from turbo.evaluation.pareto import require_matplotlib, save_plot
from turbo.evaluation.results import summarise, write_csv
from turbo.evaluation.run import count_batches, evaluate, preview, run_record
from turbo.evaluation.settings import UNTOUCHED, Setting, as_settings
from turbo.evaluation.tasks.choice import JOBS, default_decoding, make_job
from turbo.evaluation.tasks.inputs import load_inputs
from turbo.evaluation.tasks.job import Decoding
from turbo.evaluation.timing import Speed, ideal_factors, keep_times, kept_times, speeds, time_settings
from turbo.models import LoadedModel

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[], None]]]
"""``(label, steps)`` -> a context that gives what is to be called after each step."""


@contextmanager
def _silent(label: str, steps: int | None = None) -> Iterator[Callable[[], None]]:
    yield lambda: None


def run_study(
    loaded: LoadedModel,
    data: Sequence[Data],
    settings: Mapping[str, Mapping[str, Any] | Setting],
    out: Path,
    *,
    task: Task,
    batch: int = 32,
    decoding: Decoding | None = None,
    rounds: int | None = 7,
    plot: bool = True,
    plot_metric: str | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Progress = _silent,
) -> dict[str, Any]:
    """Measure quality and speed of a model untouched and in several settings, and write down all of it.

    A study that was stopped goes on in its folder: quality is kept setting by setting, times once all are taken. So
    several processes may work on the quality of different settings in one folder, one after them on all.

    Args:
        loaded: the model; it is left untouched.
        data: of the task, as `load_data` gives them; the sets that differ in their seed are pooled.
        settings: name -> keyword arguments of `turbo.accelerate`, or a `Setting`.
        out: the folder.
        task: see `find_task`.
        batch: examples at a time, and in what is timed.
        decoding: how texts are written; the model's published protocol without it.
        rounds: how many times each setting is timed; None times nothing.
        plot: draw ``plot.png``, which needs matplotlib.
        plot_metric: what it shows; the task's main metric without it (see `find_metric`).
        about: more to write into ``results.json``, such as the command.
        progress: shows how far it is.

    Returns:
        What ``results.json`` holds: "run", "machine", "settings" and "parts" (see `summarise`). ``results.csv`` holds
        the figures as a table.

    Raises:
        TurboError: as for `evaluate`, or matplotlib is missing, or the plot's metric.

    Examples:
        >>> from turbo.evaluation import load_data
        >>> from turbo.models import load_model
        >>> data = load_data("digits:plain", "classification", limit=8)
        >>> model = load_model("zoo:vit-digits")
        >>> found = run_study(
        ...     model, data, {"ours": {"drop": 10}}, Path("out/digits"), task="classification"
        ... )  # doctest: +SKIP
        >>> found["parts"]["digits:plain test"]["settings"]["ours"]["top1"]["value"]  # doctest: +SKIP
        1.0
    """
    if plot:
        require_matplotlib()
    asked, inputs = as_settings(settings), load_inputs(loaded)
    decoding = decoding or default_decoding(loaded, task)
    previews = preview(loaded, asked)
    with progress(f"quality of {len(asked)} settings and untouched", count_batches(data, batch, asked)) as advance:
        options: dict[str, Any] = {"task": task, "batch": batch, "decoding": decoding, "inputs": inputs, "out": out}
        outcomes = evaluate(loaded, data, settings, on_batch=advance, **options)
    with progress("counting FLOPs", None):
        ideal = ideal_factors(loaded, asked)
    speed = None
    if rounds is not None:
        job = make_job(task, loaded, inputs, data[0], batch, decoding)
        speed = _speed(job, asked, rounds, out / "times.json", progress)
    with progress("intervals", None):
        summary = summarise(data, outcomes, asked, previews=previews, ideal=ideal, speed=speed)
    device = next(loaded.model.parameters()).device
    results = {
        **(about or {}),
        "run": {**run_record(loaded, task, decoding), "batch": batch, "rounds": rounds},
        "machine": machine(device),
        **summary,
    }
    write_json(out / "results.json", results)
    write_csv(out / "results.csv", results)
    shown = find_metric(results, task, plot_metric)
    if plot:
        count = sum(len(each.images) for each in data)
        save_plot(out / "plot.png", results, shown, f"{loaded.name}, {count:,} images")
    return results


def find_metric(results: Mapping[str, Any], task: Task, asked: str | None = None) -> str:
    """The metric that is drawn: what was asked for, else the task's own, or likelihood where no texts were written.

    Raises:
        TurboError: the results do not have what was asked for.
    """
    known = list(next(iter(results["parts"].values()))["settings"][UNTOUCHED])
    if asked is not None and asked not in known:
        raise TurboError(f"no metric is called {asked!r} here; there are: {', '.join(known)}")
    main = JOBS[task].main
    return asked or (main if main in known else "nll")


def _speed(
    job: Any, settings: Sequence[Setting], rounds: int, path: Path, progress: Progress
) -> dict[str, dict[str, Speed]]:
    seconds = kept_times(path, job, settings, rounds)
    if seconds is None:
        parts = 1 if job.call(1) is None else 2
        with progress("timing, all settings in turn", parts * (rounds + 1)) as advance:
            seconds = time_settings(job, settings, rounds=rounds, on_round=advance)
        keep_times(path, job, settings, rounds, seconds)
    return speeds(seconds, min(job.batch, job.examples))
