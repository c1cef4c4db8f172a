"""The example package, installed for real in an environment of its own, works without turbo knowing of it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "examples" / "turbo-toy"


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a scratch environment: what this one has, and turbo-toy. Needs pip and hatchling only."""
    folder = tmp_path_factory.mktemp("third-party")
    windows = os.name == "nt"
    venv.create(folder / "env", symlinks=not windows)
    python = folder / "env" / ("Scripts/python.exe" if windows else "bin/python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # addsitedir rather than a bare path: editable installs of this environment are .pth files themselves.
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "ours.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in sorted(ours)))
    # A copy: building leaves nothing behind in the repository.
    source = shutil.copytree(SOURCE, folder / "turbo-toy")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install"]
    run(*pip, "--quiet", "--no-index", "--no-deps", "--no-build-isolation", source)
    return python


def test_it_is_listed_without_being_imported(python):
    code = """
import sys, turbo
assert "toy" in turbo.list_adapters() and "vit" in turbo.list_adapters(), turbo.list_adapters()
assert "keep_big" in turbo.list_strategies() and "s1" in turbo.list_strategies(), turbo.list_strategies()
assert not [name for name in sys.modules if name.startswith("turbo_toy")]
import turbo_toy
print(turbo_toy.__file__)
"""
    assert Path(run(python, "-c", code).strip()).is_relative_to(python.parents[1])
    here = run(sys.executable, "-c", "import importlib.util as u; print(u.find_spec('turbo_toy'))")
    assert here == "None\n"


def test_it_is_shut_out_on_request(python):
    code = """
import os
os.environ["TURBO_NO_PLUGINS"] = "1"
import turbo
print("toy" in turbo.list_adapters(), "keep_big" in turbo.list_strategies(), "vit" in turbo.list_adapters())
"""
    assert run(python, "-c", code) == "False False True\n"


def test_it_accelerates_its_model(python):
    code = """
import warnings
import torch, turbo
from turbo_toy.model import ToyClassifier

torch.manual_seed(0)
model, patches = ToyClassifier().eval(), torch.randn(3, 64, 32)
lengths = []
for block in model.blocks:
    block.register_forward_hook(lambda module, args, output: lengths.append(output.shape[1]))

def logits():
    lengths.clear()
    with torch.no_grad():
        return model(patches)

untouched = logits()
assert lengths == [65] * 4

turbo.accelerate(model, strategy="keep_big", drop=0)
assert torch.equal(logits(), untouched)

turbo.accelerate(model, strategy="keep_big", drop=8)
merged = logits()
assert lengths == [57, 49, 41, 33], lengths
report = turbo.report(model)
assert [block.tokens_out for block in report.blocks] == lengths
assert (report.adapter, report.strategy, report.n) == ("toy", "keep_big", 65), report
assert not torch.equal(merged, untouched)

turbo.accelerate(model, strategy="s1", drop=8)
assert not torch.equal(logits(), merged)

# With nothing to merge the adapter's parts still run: they compute what the model does.
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", turbo.TurboWarning)
    turbo.accelerate(model, drop=8, threshold=66)
assert "no block merges anything" in str(caught[0].message)
assert (logits() - untouched).abs().max() < 1e-5

turbo.restore(model)
assert torch.equal(logits(), untouched)
assert all("forward" not in module.__dict__ for module in model.modules())
print("done")
"""
    assert run(python, "-W", "error::UserWarning", "-c", code) == "done\n"


def test_it_passes_the_conformance_kit(python):
    """The installed package, by its own test file and by the command line."""
    folder = python.parents[2] / "turbo-toy"
    tests = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder / "tests")
    assert re.search(r"^\d\d passed, \d+ skipped", tests, re.MULTILINE), tests
    command = "from turbo.cli import main; main()"
    checked = run(python, "-c", command, "check", "toy", "keep_big")
    assert re.search(r"\d\d passed, 0 failed", checked), checked


def test_the_example_stays_small_and_its_adapter_keeps_to_the_contract():
    code = {path.stem: path.read_text() for path in (SOURCE / "turbo_toy").glob("*.py")}
    assert len(code["adapter"].splitlines()) <= 40
    assert len(code["strategy"].splitlines()) <= 15
    assert len((SOURCE / "README.md").read_text().splitlines()) <= 16
    imports = {name: [line for line in text.splitlines() if "import" in line.split()] for name, text in code.items()}
    assert not any("turbo" in line for name in ("model", "strategy", "__init__") for line in imports[name])
    ours = [line for line in imports["adapter"] if "turbo" in line]
    assert len(ours) == 1
    assert ours[0].startswith("from turbo.adapters import ")
