"""The workflows of .github/ say what they may do, and run what is there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
if not WORKFLOWS:
    pytest.skip("workflows are no part of a source distribution", allow_module_level=True)
SCRIPTS = [path for path in (ROOT / ".ci").iterdir() if path.is_file()]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def read(name: str) -> dict[Any, Any]:
    """A workflow; the key `on` is read as True, as YAML has it."""
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


def steps_of(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    """All steps of all jobs."""
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", [*WORKFLOWS, *SCRIPTS], ids=lambda path: path.name)
def test_what_is_run_exists(path):
    text = path.read_text()
    shell = "\n".join(step.get("run", "") for step in steps_of(read(path.name))) if path.suffix == ".yml" else text
    made = re.findall(r"^\s*make ([a-z-]+)", shell, flags=re.MULTILINE)
    called = re.findall(r"^\s*\.ci/(\w+)", shell, flags=re.MULTILINE)
    assert set(made) <= TARGETS
    assert all(os.access(ROOT / ".ci" / name, os.X_OK) for name in called)


def test_something_is_run():
    shell = {path.stem: [step.get("run", "") for step in steps_of(read(path.name))] for path in WORKFLOWS}
    assert ".ci/run" in shell["ci"]
    assert "make docs" in shell["docs"]
    assert "make package" in shell["release"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_do_little_and_ends(path):
    workflow = read(path.name)
    assert workflow["permissions"] == {"contents": "read"}  # a job that needs more says so itself
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 150, name
        for needed in [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", []):
            assert needed in workflow["jobs"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"[\w-]+/[\w.-]+@[\w./-]+", step.get("uses", "a/b@v1"))


def test_only_the_job_that_publishes_can():
    jobs = {f"{path.stem}.{name}": job for path in WORKFLOWS for name, job in read(path.name)["jobs"].items()}
    powers = {name: set(job.get("permissions", {}).items()) - {("contents", "read")} for name, job in jobs.items()}
    assert {name: dict(power) for name, power in powers.items() if power} == {
        "docs.build": {"pages": "read"},
        "docs.publish": {"pages": "write", "id-token": "write"},
        "release.pypi": {"id-token": "write"},
        "release.github": {"contents": "write"},
    }
    assert jobs["release.pypi"]["environment"]["name"] == "pypi"


def test_a_tag_releases_and_main_publishes_the_site():
    assert read("release.yml")[True] == {"push": {"tags": ["v*"]}}
    assert read("docs.yml")[True]["push"] == {"branches": ["main"]}
    assert read("ci.yml")[True] == {"push": {"branches": ["main"]}, "pull_request": None}


def test_steps_that_are_referred_to_exist():
    for path in WORKFLOWS:
        for name, job in read(path.name)["jobs"].items():
            ids = {step["id"] for step in job["steps"] if "id" in step}
            assert set(re.findall(r"steps\.(\w+)\.", str(job))) <= ids, f"{path.name}: {name}"
