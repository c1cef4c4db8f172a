"""Other halves and named schedules on whole models: what `destinations=` and `schedule=` do, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from families import family
from toy_denoiser import denoiser_case
from typer.testing import CliRunner

import turbo
from turbo.adapters import Restore
from turbo.cli.app import app
from turbo.engine.acceleration import Settings
from turbo.engine.install import require_acceleration
from turbo.engine.score import match_tokens
from turbo.engine.trace import recording
from turbo.fusion import ToMe
from turbo.schedule import Schedule

CLASSIFIER = family("vit-classifier")
others = pytest.mark.parametrize("destinations", ["alternating", "ordered"])


def pixels(batch: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, 48, 48, generator=torch.Generator().manual_seed(seed))


def logits(model, **options) -> torch.Tensor:
    with torch.no_grad():
        return turbo.accelerate(model, **options)(pixels()).logits


def traced(model, **options):
    with torch.no_grad(), recording(turbo.accelerate(model, **options)) as trace:
        output = model(pixels())
    return output, trace.blocks, trace


def test_parity_is_the_default():
    model = CLASSIFIER.model()
    default = logits(model, drop=6)
    assert torch.equal(logits(model, drop=6, destinations="parity"), default)
    for other in ("alternating", "ordered"):
        assert not torch.equal(logits(model, drop=6, destinations=other), default)


def test_the_first_block_is_the_same_for_all():
    """Only later blocks tell the difference; order alone changes no token of the first one's output."""
    model, once = CLASSIFIER.model(), [6, 0, 0, 0]
    default = logits(model, drop=once)
    assert torch.equal(logits(model, drop=once, destinations="alternating"), default)
    torch.testing.assert_close(logits(model, drop=once, destinations="ordered"), default, atol=1e-5, rtol=1e-5)
    later = logits(model, drop=[0, 6, 0, 0])
    assert not torch.equal(logits(model, drop=[0, 6, 0, 0], destinations="alternating"), later)


@pytest.mark.parametrize("depth", range(3))
@pytest.mark.parametrize("destinations", ["parity", "alternating", "ordered"])
def test_which_tokens_merge_into_which(destinations: str, depth: int):
    generator = torch.Generator().manual_seed(depth)
    q, k = (torch.randn(2, 3, 20, 8, generator=generator) for _ in range(2))
    settings = Settings(ToMe(), "tome", Schedule(drop=7), "keys", "relative", destinations)  # type: ignore[arg-type]
    matching, candidates, priority, *_ = match_tokens(
        q, k, q[:, :, :1], None, drop=7, depth=depth, protected=1, scale=None, settings=settings
    )
    odd_merge = destinations == "alternating" and depth % 2 == 1
    assert (matching.merged % 2 == odd_merge).all()
    assert (matching.destination % 2 != odd_merge).all()
    # Positions 1 to 19 are unprotected: ten odd ones, nine even ones.
    assert candidates.redundancy.shape == priority.shape == (2, 10 if odd_merge else 9)
    in_order = (matching.kept.diff(dim=1) > 0).all()
    assert bool(in_order) == (destinations == "ordered")


def test_ordered_keeps_the_image_order_through_all_blocks():
    """The token that stays of a group is its receiver, at an odd position; those that stay never change order."""
    _, blocks, _ = traced(CLASSIFIER.model(), drop=6, destinations="ordered")
    for b in range(2):
        entered = list(range(37))  # of each present token, where it entered the first block
        for block in blocks:
            groups: dict[int, list[int]] = {}
            for token, place in enumerate(block.assignment[b].tolist()):
                groups.setdefault(place, []).append(token)
            stays = [next((t for t in groups[place] if t % 2), groups[place][0]) for place in range(len(groups))]
            entered = [entered[token] for token in stays]
            assert entered == sorted(entered)
            assert entered[0] == 0
        assert len(entered) == 37 - 24


@others
def test_traces_count_every_patch(destinations: str):
    _, blocks, trace = traced(CLASSIFIER.model(), drop=6, destinations=destinations)
    for block in blocks:
        groups = trace.groups(upto=block.depth)
        counted = torch.stack([row.bincount(minlength=block.size.shape[1]) for row in groups]).float()
        assert torch.equal(counted, block.size)


@others
@pytest.mark.parametrize("name", ["timm-no-class-avg", "vit-masked-image"])
def test_restored_sequences_give_each_patch_its_token(destinations: str, name: str):
    """Patches of one group get the same output, others do not: the assignments of all blocks compose rightly."""
    family_ = family(name)
    model = turbo.accelerate(family_.model(), drop=6, destinations=destinations)
    [site] = [site for site in require_acceleration(model).sites if isinstance(site, Restore)]
    seen = []
    site.module.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    with torch.no_grad(), recording(model) as trace:
        model(pixels())
    [(merged, restored)] = seen
    groups = trace.groups()
    assert restored.shape[1] == groups.shape[1] == family_.n
    with torch.no_grad():
        wanted = type(site.module).forward(site.module, merged)
    assert torch.equal(restored, wanted.gather(1, groups[..., None].expand(-1, -1, wanted.shape[2])))


@others
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(destinations: str, reentrant: bool):
    def gradients():
        model.zero_grad()
        model(pixels()).logits.square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model = turbo.accelerate(CLASSIFIER.model(), drop=5, destinations=destinations).train()
    wanted = gradients()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=1e-4)


@others
def test_it_compiles_in_one_graph(destinations: str):
    model = turbo.accelerate(family("vit").model(), drop=5, destinations=destinations)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        wanted = model(pixels()).pooler_output
        torch.testing.assert_close(compiled(pixels()).pooler_output, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("destinations", ["grid", "random", "", 3, ["parity"]])
def test_towers_have_their_own_list(destinations: object):
    model = CLASSIFIER.model()
    with pytest.raises(turbo.TurboError) as caught:
        turbo.accelerate(model, destinations=destinations)
    choices = "'parity' or 'alternating' or 'ordered'"
    assert str(caught.value) == f"destinations={destinations!r} cannot apply to a ViTModel: must be {choices}"


@pytest.mark.parametrize("destinations", ["ordered", "alternating"])
def test_denoisers_have_another(destinations: str):
    case = denoiser_case(restores=True)
    with pytest.raises(turbo.TurboError, match=f"destinations='{destinations}': must be 'grid' or 'parity'"):
        turbo.accelerate(case.make_model(), adapter=case.adapter, destinations=destinations)


@pytest.mark.parametrize(
    ("schedule", "counts"),
    [
        ("constant", [6, 6, 7, 6]),
        ("decreasing", [8, 6, 3, 2]),
        ("increasing", [4, 7, 10, 7]),
        ("early", [14, 0, 0, 0]),
    ],
)
def test_a_named_schedule_reaches_the_speedup(schedule: str, counts: list[int]):
    model = turbo.accelerate(CLASSIFIER.model(), speedup=1.5, schedule=schedule)
    report = turbo.report(model)
    assert 1.5 <= report.achieved < 1.56
    assert [block.merged for block in report.blocks] == counts
    with torch.no_grad():
        states = model(pixels(), output_hidden_states=True).hidden_states
    assert [state.shape[1] for state in states[1:]] == [block.tokens_out for block in report.blocks]


def test_decreasing_is_what_a_speedup_uses():
    model = CLASSIFIER.model()
    assert torch.equal(logits(model, speedup=1.5), logits(model, speedup=1.5, schedule="decreasing"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "early"}, "in which blocks the tokens of a speedup merge: give a speedup$"),
        ({"schedule": "early", "drop": 3}, "drop=3 says how many merge in each already: give a speedup instead"),
        ({"schedule": "slow", "speedup": 1.5}, "schedule='slow': must be 'constant' or 'decreasing' or 'increasing'"),
        ({"schedule": "early", "speedup": 9}, "schedule='early', .*no other schedule reaches more"),
    ],
)
def test_schedules_are_checked(options: dict, message: str):
    with pytest.raises(turbo.TurboError, match=message):
        turbo.accelerate(CLASSIFIER.model(), **options)


def test_a_denoiser_has_no_schedule():
    case = denoiser_case(restores=True)
    with pytest.raises(turbo.TurboError, match="schedule='early' cannot apply to a"):
        turbo.accelerate(case.make_model(), adapter=case.adapter, schedule="early")


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})


def test_inspect_takes_both():
    result = run("inspect", "zoo:vit-digits", "--speedup", "2", "--schedule", "early", "--destinations", "ordered")
    assert result.exit_code == 0, result.output
    rows = [line.split("│")[1:-1] for line in result.output.splitlines() if line.startswith("│")]
    assert [int(row[2]) for row in rows] == [116, 0, 0, 0, 0, 0, 0, 0]


def test_bench_takes_both(tmp_path):
    target = tmp_path / "bench.json"
    options = ("--speedup", "1.6", "--schedule", "increasing", "--destinations", "alternating")
    result = run("bench", "zoo:vit-digits", *options, "--rounds", "1", "--json", str(target))
    assert result.exit_code == 0, result.output
    assert target.is_file()


def test_inspect_of_a_unet_takes_its_own_destinations():
    result = run("inspect", "random:sd15-unet", "--destinations", "parity")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "zoo:vit-digits", "--schedule", "early"], "a speedup merge: give a speedup"),
        (["inspect", "zoo:vit-digits", "--destinations", "grid"], "must be parity or alternating or ordered"),
        (["bench", "zoo:vit-digits", "--destinations", "x"], "--destinations x cannot apply to zoo:vit-digits"),
        (["bench", "zoo:vit-digits", "--drop", "4", "--schedule", "early"], "give a speedup instead"),
        (["inspect", "random:sd15-unet", "--destinations", "ordered"], "must be grid or parity"),
        (["inspect", "random:sd15-unet", "--schedule", "early"], "--schedule cannot apply to random:sd15-unet"),
    ],
)
def test_the_commands_refuse_what_does_not_fit(arguments: list[str], message: str):
    result = run(*arguments)
    assert isinstance(result.exception, turbo.TurboError)
    assert message in str(result.exception)
