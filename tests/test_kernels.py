"""The candidates for CUDA against turbo's own functions; the Triton ones in its interpreter, in another process.

The interpreter is chosen by a variable that is read when triton is imported, which must not happen to other tests.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from turbo.attention import proportional_attention
from turbo.errors import TurboError
from turbo.information import mutual_redundancy
from turbo.matching import Matching, select
from turbo.merging import merge
from turbo.partition import parity

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="benchmarks are no part of a source distribution")
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

RUN = """
import doctest, runpy, sys, torch
from importlib.util import find_spec
_, benchmarks, cases, results, *arguments = sys.argv
sys.path.insert(0, benchmarks)
if find_spec("triton"):
    from gpu_kernels import merging, similarity
    from turbo.errors import TurboError
    from turbo.matching import Matching
    functions = {
        "similarity": similarity.mutual_redundancy,
        "merging": lambda x, size, *matching: merging.merge(x, Matching(*matching), size),
    }
    found = {}
    for name, (function, given) in torch.load(cases).items():
        try:
            found[name] = functions[function](*given)
        except TurboError as error:
            found[name] = str(error)
    found["examples"] = sum(doctest.testmod(module).failed for module in (merging, similarity))
    torch.save(found, results)
sys.argv = [benchmarks + "/gpu.py", *arguments]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

COMPILE = """
import sys
sys.path.insert(0, sys.argv[1])
import triton
from gpu_kernels import merging, similarity
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
tiles = {"ROWS": merging._ROWS, "POSITIONS": merging._POSITIONS, "WIDTH": 1024, "HAS_SIZE": True}
cosines = {"ROWS": similarity._ROWS, "COLUMNS": similarity._COLUMNS, "DEPTH": similarity._DEPTH}
integers = dict.fromkeys(("partner", "kept", "assignment"), "*i64")
for kernel, constants in ((merging._merge, tiles), (similarity._best, cosines)):
    data = dict.fromkeys(("x", "out", "log_size"), "*bf16")
    data |= dict.fromkeys(("source", "destination", "redundancy", "size", "new_size"), "*fp32")
    types = dict.fromkeys(constants, "constexpr") | integers | data
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature=signature, constexprs=places)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    print(kernel.__name__, len(made.asm["cubin"]) > 0)
"""


def python(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosines() -> dict[str, tuple[Tensor, Tensor]]:
    """Sources and destinations, by what is particular about them."""
    found = {}
    for shape in ((1, 1, 1, 1), (2, 3, 2, 5), (1, 33, 31, 64), (2, 70, 65, 33), (1, 5, 130, 80)):
        b, m, k, e = shape
        found[f"{shape}"] = F.normalize(draw(b, m, e), dim=-1), F.normalize(draw(b, k, e, seed=1), dim=-1)
    whole = F.normalize(draw(2, 41, 16), dim=-1)
    found["strided halves"] = whole[:, 2::2], whole[:, 1::2]
    axes = torch.eye(8)[torch.arange(100) % 8][None]  # every column 8 to 99 is one that came before, tiles apart, too
    found["ties"] = axes[:, :20], axes
    found["opposites"] = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[-1.0000001, 0.0], [-1.0000001, 0.0]]])
    found["zeros"] = torch.zeros(1, 3, 4), F.normalize(draw(1, 7, 4), dim=-1)
    found["longer than 1"] = torch.full((1, 1, 3), 0.58), torch.full((1, 2, 3), 0.58)
    for dtype in (torch.bfloat16, torch.float16):
        x, y = found["(2, 70, 65, 33)"]
        found[f"{dtype}"] = x.to(dtype), y.to(dtype)
    found["no source"] = torch.zeros(2, 0, 4), torch.ones(2, 3, 4)
    return found


def merges() -> dict[str, tuple[Tensor, Tensor | None, Matching]]:
    """Tokens, sizes and a matching, by what is particular about them."""
    found = {}
    for n, drop, width in ((2, 1, 1), (7, 2, 5), (40, 19, 33), (262, 120, 20), (9, 3, 1030), (6, 0, 4)):
        matching = matched(n, drop, protected=0 if n == 2 else 1)
        found[f"{n}, {drop}, {width}"] = draw(2, n, width), sizes(n), matching
        if n < 100:  # the interpreter is slow
            found[f"{n}, {drop}, {width}, no sizes"] = draw(2, n, width), None, matching
    everything = select(torch.ones(1, 130), torch.zeros(1, 130, dtype=torch.int64), 130, parity(261, protected=1))
    found["all into one"] = draw(1, 261, 3), sizes(261)[:1], everything
    backwards = Matching(everything.kept, everything.merged.flip(1), everything.receiver.flip(1))
    found["all into one, backwards"] = draw(1, 261, 3), sizes(261)[:1], backwards
    found["duplicates"] = draw(2, 1, 6).expand(2, 40, 6) / 3, sizes(40), matched(40, 19)
    found["strided"] = draw(2, 12, 80).transpose(1, 2)[:, ::2], sizes(40), matched(40, 19)
    for dtype in (torch.bfloat16, torch.float16):
        found[f"{dtype}"] = draw(2, 40, 33).to(dtype), sizes(40), matched(40, 19)
    return found


def matched(n: int, drop: int, protected: int = 1) -> Matching:
    partition = parity(n, protected)
    partner = torch.randint(partition.destinations, (2, partition.sources), generator=torch.Generator().manual_seed(n))
    return select(draw(2, partition.sources), partner, drop, partition)


def sizes(n: int) -> Tensor:
    return torch.randint(1, 9, (2, n), generator=torch.Generator().manual_seed(n)).float()


def flat(matching: Matching) -> tuple[Tensor, ...]:
    return matching.kept, matching.merged, matching.receiver


COSINES, MERGES = cosines(), merges()
WRONG = {
    "double cosines": ("similarity", (torch.ones(1, 2, 3).double(), torch.ones(1, 2, 3).double())),
    "two dtypes": ("similarity", (torch.ones(1, 2, 3), torch.ones(1, 2, 3).half())),
    "two widths": ("similarity", (torch.ones(1, 2, 3), torch.ones(1, 2, 4))),
    "no destination": ("similarity", (torch.ones(1, 2, 3), torch.ones(1, 0, 3))),
    "double tokens": ("merging", (torch.ones(2, 7, 3).double(), None, *flat(matched(7, 2)))),
    "too many tokens": ("merging", (torch.ones(2, 8, 3), None, *flat(matched(7, 2)))),
    "too few sizes": ("merging", (torch.ones(2, 7, 3), torch.ones(2, 6), *flat(matched(7, 2)))),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """For all of this; it passes for a checkout of ToMe that cannot be imported."""
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "tome" / "patch").mkdir(parents=True)
    for file in ("__init__.py", "timm.py"):
        (folder / "tome" / "patch" / file).write_text("raise ImportError('written for another timm')")
    return folder


@pytest.fixture(scope="module")
def done(folder) -> subprocess.CompletedProcess[str]:
    """All cases through the Triton kernels, then `gpu.py` as a whole; one process, since imports take seconds."""
    cases = {f"similarity {name}": ("similarity", given) for name, given in COSINES.items()}
    cases |= {f"merging {name}": ("merging", (x, size, *flat(m))) for name, (x, size, m) in MERGES.items()}
    torch.save(cases | WRONG, folder / "cases.pt")
    options = ["--device", "cpu", "--quick", "--backend", "eager", "--rounds", "1", "--tome", folder]
    files = [folder / name for name in ("cases.pt", "found.pt")]
    return python("-c", RUN, BENCHMARKS, *files, *options, "--out", folder / "gpu.json", TRITON_INTERPRET="1")


@pytest.fixture(scope="module")
def interpreted(done, folder) -> dict[str, object]:
    """What the Triton kernels make of all cases."""
    assert (folder / "found.pt").exists(), done.stderr
    return torch.load(folder / "found.pt")


@needs_triton
@pytest.mark.parametrize("name", COSINES)
def test_similarity_finds_the_highest_cosine_and_where_it_is(interpreted, name: str):
    source, destination = COSINES[name]
    value, partner = interpreted[f"similarity {name}"]
    wanted, _ = mutual_redundancy(source.double(), destination.double())
    assert value.dtype == source.dtype
    assert partner.dtype == torch.int64
    assert value.abs().le(1).all()
    atol = 1e-6 if source.dtype == torch.float32 else torch.finfo(source.dtype).eps
    torch.testing.assert_close(value.double(), wanted, atol=atol, rtol=0)
    chosen = destination.double().gather(1, partner[..., None].expand(-1, -1, destination.shape[2]))
    # Sums are in float32 in every dtype, so the choice is as good as that.
    torch.testing.assert_close((source.double() * chosen).sum(-1).clamp(-1, 1), wanted, atol=1e-6, rtol=0)


@needs_triton
@pytest.mark.parametrize("name", ["ties", "opposites", "zeros", "longer than 1"])
def test_of_equal_cosines_the_first_counts(interpreted, name: str):
    _, partner = interpreted[f"similarity {name}"]
    assert torch.equal(partner, mutual_redundancy(*COSINES[name])[1])
    assert partner.max() < 8  # where the copies begin


@needs_triton
@pytest.mark.parametrize("name", MERGES)
def test_merging_makes_the_same_means_sizes_and_logarithms(interpreted, name: str):
    x, size, matching = MERGES[name]
    out, new_size, log_size = interpreted[f"merging {name}"]
    wanted, wanted_size = merge(x.double(), matching, size)
    assert out.dtype == log_size.dtype == x.dtype
    assert new_size.dtype == torch.float32
    atol = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}[x.dtype]
    torch.testing.assert_close(out.double(), wanted, atol=atol, rtol=0)
    assert torch.equal(new_size, wanted_size)
    torch.testing.assert_close(log_size.double(), wanted_size.double().log(), atol=atol, rtol=0)
    assert log_size.stride(0) % 8 == 0  # a mask that fused attention takes as it is
    still = torch.ones_like(matching.kept).scatter(1, matching.receiver, 0) == 1
    kept = x.gather(1, matching.kept[..., None].expand_as(out))
    assert torch.equal(out[still], kept[still])


@needs_triton
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_merging_in_half_precision_rounds_once(interpreted, dtype: torch.dtype):
    x, size, matching = MERGES[f"{dtype}"]
    exact, _ = merge(x.double(), matching, size)
    off = (interpreted[f"merging {dtype}"][0].double() - exact).abs()
    assert (off <= exact.abs() * torch.finfo(dtype).eps + 1e-6).all()  # a whole unit: the interpreter cuts off


@needs_triton
def test_merging_does_not_depend_on_the_order_of_the_matching(interpreted):
    one, other = (interpreted[f"merging {name}"][0] for name in ("all into one", "all into one, backwards"))
    assert torch.equal(one, other)


@needs_triton
def test_merging_duplicates_is_exact(interpreted):
    out, _, _ = interpreted["merging duplicates"]
    assert torch.equal(out, MERGES["duplicates"][0][:, : out.shape[1]])


@needs_triton
def test_what_the_kernels_cannot_take_is_an_error(interpreted):
    for name, words in {
        "double cosines": "source is torch.float64",
        "two dtypes": "one dtype",
        "two widths": "destination has shape (1, 2, 4): it must be (1, 2, 3)",
        "no destination": "no destination",
        "double tokens": "x is torch.float64",
        "too many tokens": "assignment has shape (2, 7): it must be (2, 8)",
        "too few sizes": "size has shape (2, 6): it must be (2, 7)",
    }.items():
        assert words in interpreted[name]
    assert interpreted["examples"] == 0


@needs_triton
def test_the_kernels_compile_for_cuda_without_a_gpu(tmp_path):
    """The interpreter takes what the compiler does not: types that change in a loop, shapes that do not fit."""
    if importlib.util.find_spec("triton.backends.nvidia") is None:
        pytest.skip("this triton has no compiler for CUDA")
    done = python("-c", COMPILE, BENCHMARKS, TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["_merge True", "_best True"]


@pytest.fixture(scope="module")
def roads() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_kernels_attention", BENCHMARKS / "gpu_kernels" / "attention.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHANNELS = [(road, {"pad": pad}) for road in ("key_channel", "value_channel") for pad in (True, False)]
ROADS = [("flex", {}, 0.3), *((*channel, scale) for channel in CHANNELS for scale in (None, 0.3))]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("road", "options", "scale"), ROADS)  # 1/√24, the default here, is in no dtype
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_road_is_proportional_attention(roads, road: str, options, scale, dtype: torch.dtype):
    q, k, v = (draw(2, 3, 21, 24, seed=seed).to(dtype) for seed in range(3))
    size = torch.randint(1, 577, (2, 21), generator=torch.Generator().manual_seed(3)).float()
    wanted = proportional_attention(q.double(), k.double(), v.double(), size.double(), scale=scale)
    found = getattr(roads, road)(q, k, v, size, scale, **options)
    off = (found.double() - wanted).abs().max()
    eps = {torch.float64: 1e-6, torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
    assert found.dtype == dtype
    assert off < eps
    plain = proportional_attention(q, k, v, scale=scale)
    torch.testing.assert_close(getattr(roads, road)(q, k, v, None, scale, **options), plain, atol=eps, rtol=0)
    assert (plain.double() - wanted).abs().max() > 10 * eps  # so that sizes matter here


def test_two_channels_hold_log_s_better_than_a_mask_in_bfloat16(roads):
    q, k, v = (draw(2, 3, 50, 64, seed=seed).bfloat16() for seed in range(3))
    size = torch.randint(1, 577, (2, 50), generator=torch.Generator().manual_seed(3)).float()
    wanted = proportional_attention(q.double(), k.double(), v.double(), size.double())
    by_mask, by_channel = (
        (f(q, k, v, size).double() - wanted).square().mean() for f in (roads.mask, roads.key_channel)
    )
    assert by_channel < by_mask / 2


@pytest.mark.parametrize(("road", "pad", "widths"), [
    ("key_channel", True, (32, 32, 32)),
    ("key_channel", False, (32, 32, 24)),
    ("value_channel", True, (32, 32, 32)),
    ("value_channel", False, (24, 24, 32)),
])  # fmt: skip
def test_the_channels_need_no_mask_and_have_widths_of_multiples_of_8(roads, monkeypatch, road, pad, widths):
    seen = []
    fused = F.scaled_dot_product_attention

    def watch(query, key, value, **options):
        seen.append((query.shape[-1], key.shape[-1], value.shape[-1], options.get("attn_mask")))
        return fused(query, key, value, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watch)
    q = draw(1, 2, 5, 24)
    assert getattr(roads, road)(q, q, q, torch.full((1, 5), 2.0), pad=pad).shape == q.shape
    assert seen == [(*widths, None)]


def test_a_scale_that_cannot_carry_log_s_is_an_error(roads):
    q = draw(1, 1, 4, 8)
    with pytest.raises(TurboError, match=r"scale=0\.0: log s"):
        roads.key_channel(q, q, q, torch.ones(1, 4), 0.0)


def test_a_folder_that_is_no_checkout_is_an_error(tmp_path):
    done = python(BENCHMARKS / "gpu.py", "--tome", tmp_path)
    assert done.returncode == 2
    assert "give a checkout of ToMe" in done.stderr


def test_all_is_measured_on_a_cpu_and_an_error_does_not_stop_the_rest(done, folder):
    record = json.loads((folder / "gpu.json").read_text())
    assert done.returncode == 1, done.stdout + done.stderr
    assert {(failure["part"], failure["what"]) for failure in record["failed"]} == {
        ("execution", "ToMe"),
        ("models", "ToMe"),
    }
    assert all("written for another timm" in failure["error"] for failure in record["failed"])
    assert str(folder) not in record["command"]
    reasons = {left["what"]: left["reason"] for left in record["left_out"]}
    assert reasons["CUDA graphs"] == "needs CUDA"
    timed = {(row["part"], row["side"], row.get("mode")) for row in record["rows"] if row["finding"] == "time"}
    assert {("attention", "flex", "compiled"), ("models", "turbo s1", "eager")} <= timed
    assert {("models", "turbo s1", "compiled"), ("merging", "turbo, compiled", None)} <= timed
    if importlib.util.find_spec("triton") is None:
        assert "triton is not installed" in reasons.values()
    else:
        assert {("similarity", "triton", None), ("merging", "triton", None)} <= timed
        assert ("models", "turbo s1, triton", "eager") in timed
