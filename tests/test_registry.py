"""Plug-ins found through entry points: real metadata in scratch folders, nothing faked in the registry."""

import importlib
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from transformers import ViTConfig, ViTModel

import turbo
from turbo.errors import TurboError
from turbo.fusion import S1
from turbo.plugins import adapters, strategies
from turbo.registry import Registry, _distribution

GROUP = "turbo.test_registry"
HEAVY = ["transformers", "timm", "open_clip", "diffusers", "sklearn", "matplotlib", "typer"]


def publish(folder, distribution, entry_points, **modules):
    """Lay out a distribution as an installer would: metadata, entry points, modules."""
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on sys.path to publish in; afterwards its modules and names are forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("TURBO_NO_PLUGINS", raising=False)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    monkeypatch.undo()
    importlib.invalidate_caches()
    adapters.refresh()
    strategies.refresh()


def tiny_vit():
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return ViTModel(ViTConfig(**shape, image_size=16, patch_size=4)).eval()


def test_turbos_own_plugins_are_found():
    assert {"s1", "s2", "s3", "s4", "tome", "bound", "ward"} <= set(turbo.list_strategies())
    assert {"vit", "clip"} <= set(turbo.list_adapters())
    assert strategies["s1"] is S1
    assert strategies.origin("s1") == "turbo-vlm"


def test_a_registry_reads_like_a_mapping(site):
    entries = f"[{GROUP}]\npear = fruit_plugin:PEAR\napple = fruit_plugin:APPLE\n"
    publish(site, "fruit", entries, fruit_plugin="PEAR = 1\n")
    registry = Registry(GROUP, "fruit")
    assert registry.names() == list(registry) == ["apple", "pear"]
    assert len(registry) == 2
    assert "pear" in registry
    assert "plum" not in registry
    assert registry.origin("pear") == "fruit"
    assert repr(registry) == f"Registry('{GROUP}': apple, pear)"
    assert "fruit_plugin" not in sys.modules
    assert registry["pear"] == 1
    assert "fruit_plugin" in sys.modules


def test_an_unknown_name_lists_the_choices(site):
    publish(site, "fruit", f"[{GROUP}]\npear = nowhere:PEAR\napple = nowhere:APPLE\n")
    registry = Registry(GROUP, "fruit")
    for ask in (registry.__getitem__, registry.origin):
        with pytest.raises(TurboError, match="no fruit is called 'plum'; there are: apple, pear"):
            ask("plum")


def test_unknown_names_are_errors_of_the_one_call():
    with pytest.raises(TurboError, match=r"no strategy is called 's5'; there are: .*s1, s2, s3, s4"):
        turbo.accelerate(tiny_vit(), strategy="s5")
    with pytest.raises(TurboError, match=r"no adapter is called 'vgg'; there are: .*clip.*vit"):
        turbo.accelerate(tiny_vit(), adapter="vgg")


def test_an_empty_group_means_turbo_is_not_installed():
    registry = Registry("turbo.nobody", "thing")
    assert registry.names() == []
    assert repr(registry) == "Registry('turbo.nobody': empty)"
    with pytest.raises(TurboError) as caught:
        registry["x"]
    assert str(caught.value) == (
        "no thing is registered under 'turbo.nobody': turbo is not installed as a package (a bare checkout on "
        "sys.path has no entry points); run `pip install -e .`"
    )


def test_two_distributions_claiming_a_name(site):
    for n in (1, 2):
        entries = f"[{GROUP}]\npear = fruit{n}:PEAR\nonly{n} = fruit{n}:PEAR\n"
        publish(site, f"fruit-{n}", entries, **{f"fruit{n}": f"PEAR = {n}\n"})
    registry = Registry(GROUP, "fruit")
    assert registry.names() == ["only1", "only2", "pear"]
    assert {*registry.origin("pear").split(", ")} == {"fruit-1", "fruit-2"}
    with pytest.raises(TurboError, match="the fruit name 'pear' is claimed by") as caught:
        registry["pear"]
    owners, remedy = str(caught.value).removeprefix("the fruit name 'pear' is claimed by ").split(": ")
    assert {*owners.split(" and ")} == {"fruit-1 (fruit1:PEAR)", "fruit-2 (fruit2:PEAR)"}
    assert remedy == "uninstall one of them, or pass the object itself"
    assert not {"fruit1", "fruit2"} & set(sys.modules)
    assert [registry["only1"], registry["only2"]] == [1, 2]  # the rest still works


def test_one_distribution_listed_twice_is_one_claim(site):
    publish(site, "fruit", f"[{GROUP}]\npear = fruit_twice:PEAR\npear = fruit_twice:PEAR\n", fruit_twice="PEAR = 1\n")
    registry = Registry(GROUP, "fruit")
    assert registry.origin("pear") == "fruit"
    assert registry["pear"] == 1


def test_the_same_distribution_in_two_folders_is_one_claim(site, monkeypatch):
    """An editable install beside a build."""
    for folder in (site / "editable", site / "build"):
        folder.mkdir()
        publish(folder, "fruit", f"[{GROUP}]\npear = fruit_built:PEAR\n", fruit_built="PEAR = 1\n")
        monkeypatch.syspath_prepend(folder)
    assert Registry(GROUP, "fruit")["pear"] == 1


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import surely_not_installed", "ModuleNotFoundError: No module named 'surely_not_installed'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("", "AttributeError"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_a_named_error(site, source, why):
    publish(site, "fruit", f"[{GROUP}]\npear = fruit_broken:PEAR\n", fruit_broken=source + "\n")
    registry = Registry(GROUP, "fruit")
    assert registry.names() == ["pear"]
    wanted = "the fruit 'pear' of fruit could not be imported from 'fruit_broken:PEAR': " + why
    with pytest.raises(TurboError) as caught:
        registry["pear"]
    assert str(caught.value).startswith(wanted)
    assert caught.value.__cause__ is not None


def test_a_broken_adapter_is_an_error_when_asked_for_and_a_warning_otherwise(site):
    publish(site, "fruit", "[turbo.adapters]\npear = fruit_pear:Pear\n", fruit_pear="import surely_not_installed\n")
    adapters.refresh()
    assert "pear" in turbo.list_adapters()
    model = tiny_vit()
    with pytest.raises(TurboError, match="the adapter 'pear' of fruit could not be imported"):
        turbo.accelerate(model, drop=2, adapter="pear")
    with pytest.warns(turbo.TurboWarning, match="skipped while looking for an adapter: the adapter 'pear' of fruit"):
        turbo.accelerate(model, drop=2)
    assert turbo.report(model).adapter == "vit"


def test_two_adapters_of_one_name_do_not_break_an_unrelated_call(site):
    for n in (1, 2):
        publish(site, f"fruit-{n}", "[turbo.adapters]\npear = nowhere:Pear\n")
    adapters.refresh()
    model = tiny_vit()
    with pytest.warns(turbo.TurboWarning, match="'pear' is claimed by fruit-. .* and fruit-. "):
        turbo.accelerate(model, drop=2)
    assert turbo.report(model).adapter == "vit"


def test_a_broken_strategy_is_an_error_and_leaves_the_model_alone(site):
    publish(site, "fruit", "[turbo.strategies]\npear = fruit_strategy:pear\n", fruit_strategy="1 / 0\n")
    strategies.refresh()
    model = tiny_vit()
    with pytest.raises(TurboError, match="the strategy 'pear' of fruit could not be imported"):
        turbo.accelerate(model, "pear", drop=2)
    with pytest.raises(TurboError, match="not accelerated"):
        turbo.report(model)


def test_a_strategy_published_as_a_function_or_a_class_runs(site):
    source = """\
def by_redundancy(candidates):
    return candidates.redundancy

class ByRedundancy:
    def __call__(self, candidates):
        return candidates.redundancy
"""
    entries = "[turbo.strategies]\npear = fruit_kinds:by_redundancy\nplum = fruit_kinds:ByRedundancy\n"
    publish(site, "fruit", entries, fruit_kinds=source)
    strategies.refresh()
    model, images = tiny_vit(), torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    outputs = []
    with torch.no_grad():
        for name in ("tome", "pear", "plum"):
            turbo.accelerate(model, name, drop=3)
            assert turbo.report(model).strategy == name
            outputs.append(model(images).last_hidden_state)
    assert outputs[0].shape[1] == 17 - 2 * 3
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_plugins_can_be_shut_out(site, monkeypatch):
    publish(site, "fruit", "[turbo.strategies]\npear = nowhere:pear\n")
    registry = Registry("turbo.strategies", "strategy")
    monkeypatch.setenv("TURBO_NO_PLUGINS", "")  # set to anything, even to nothing
    assert "pear" not in registry
    assert "s1" in registry
    monkeypatch.delenv("TURBO_NO_PLUGINS")
    registry.refresh()
    assert "pear" in registry


def test_refresh_looks_again(site):
    registry = Registry(GROUP, "fruit")
    assert registry.names() == []
    publish(site, "fruit", f"[{GROUP}]\npear = nowhere:PEAR\n")
    assert registry.names() == []
    registry.refresh()
    assert registry.names() == ["pear"]


def test_an_entry_without_a_distribution_has_an_unknown_one():
    assert _distribution(EntryPoint("pear", "nowhere:PEAR", GROUP)) == "an unknown distribution"


def imported_by(code, names):
    """Which of the names a fresh interpreter has imported after some code."""
    ask = f"{code}\nimport sys\nprint(*[name for name in {names!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


LISTING = "import turbo; assert turbo.list_adapters(); assert turbo.list_strategies()"


def test_listing_imports_no_model_library_and_no_adapter():
    built_in = [f"turbo.adapters.{path.stem}" for path in Path(turbo.adapters.__file__).parent.glob("[a-z]*.py")]
    contract = {f"turbo.adapters.{name}" for name in ("base", "reader", "rotary", "round_trip")}
    built_in = sorted({*built_in} - contract)
    assert len(built_in) > 2
    assert imported_by(LISTING, [*HEAVY, *built_in]) == []


def test_that_check_can_fail():
    code = f"{LISTING}; import transformers; from turbo.plugins import adapters; adapters['vit']"
    assert imported_by(code, [*HEAVY, "turbo.adapters.vit"]) == ["transformers", "turbo.adapters.vit"]
