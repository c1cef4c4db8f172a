"""Page 7, inverse sampling: giving every patch its token back, and what merging first has cost."""

import reference_merging as reference
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo.attention import proportional_attention
from turbo.engine.round_trip.partition import make_partition
from turbo.merging import merge, unmerge
from turbo.partition import grid
from turbo.testing.generators import chains, grid_merges, grids, merges, normal, seeds

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
shapes = st.tuples(st.integers(1, 3), st.integers(1, 4))


def inner(x, y, size):
    """The size-weighted inner product of two sequences, per image."""
    return ((x * y).sum(2) * size.double()).sum(1)


def project(x, matching, size):
    """Merge and restore."""
    return unmerge(merge(x, matching, size)[0], matching.assignment)


def inner_slack(x, y, matching, size):
    """How far rounding of merged tokens may take an inner product with y, or with its projection."""
    error = reference.rounding(x, matching.merged.shape[1])
    return float(size.sum(1).max()) * x.shape[2] * float(y.abs().max()) * error


def heads(x, h):
    """``b n (h e)`` -> ``b h n e``."""
    return x.unflatten(2, (h, -1)).transpose(1, 2)


@given(merges(), st.sampled_from(DTYPES))
def test_every_position_gets_its_token(example, dtype):
    """Proposition 7.1: each original position holds its token bit for bit, in the same dtype and the full length."""
    x, _, matching = example
    tokens = x[:, : matching.kept.shape[1]].to(dtype)
    restored = unmerge(tokens, matching.assignment)
    assert restored.shape == x.shape
    assert restored.dtype == dtype
    for b in range(len(x)):
        for position, place in enumerate(matching.assignment[b].tolist()):
            assert torch.equal(restored[b, position], tokens[b, place])


@given(merges())
def test_restored_groups_are_constant(example):
    """Proposition 7.1: a source's position holds what its destination's position holds."""
    x, size, matching = example
    restored = project(x, matching, size)
    for b in range(len(x)):
        assert torch.equal(restored[b][matching.merged[b]], restored[b][matching.destination[b]])


@given(merges())
def test_restoring_depends_on_neither_layout_nor_batch(example):
    """Proposition 7.1: strides, shared rows and the other images of the batch change no bit."""
    x, _, matching = example
    tokens = x[:, : matching.kept.shape[1]]
    wanted = unmerge(tokens.contiguous(), matching.assignment)
    columns_first = tokens.transpose(1, 2).contiguous().transpose(1, 2)
    rows_apart = matching.assignment.t().contiguous().t()
    assert torch.equal(unmerge(columns_first, rows_apart), wanted)
    for b in range(len(x)):
        one = slice(b, b + 1)
        assert torch.equal(unmerge(tokens[one], matching.assignment[one])[0], wanted[b])
    shared = unmerge(tokens[:1].expand_as(tokens), matching.assignment[:1].expand_as(matching.assignment))
    assert torch.equal(shared, wanted[:1].expand_as(wanted))


@given(merges(), st.sampled_from(DTYPES))
def test_merge_after_unmerge_changes_nothing(example, dtype):
    """Proposition 7.2: tokens that are restored and merged again are the very same, bit for bit, in every dtype."""
    x, size, matching = example
    tokens = x[:, : matching.kept.shape[1]].to(dtype)
    assert torch.equal(merge(unmerge(tokens, matching.assignment), matching, size)[0], tokens)


@given(merges(), st.sampled_from(DTYPES))
def test_unmerge_after_merge_is_a_projection(example, dtype):
    """Proposition 7.3: merging and restoring twice is doing so once, bit for bit, in every dtype."""
    x, size, matching = example
    once = project(x.to(dtype), matching, size)
    assert torch.equal(project(once, matching, size), once)


@given(merges(), seeds)
def test_merging_and_restoring_are_adjoint(example, seed):
    """Proposition 7.4: <merge x, y> weighted by merged sizes = <x, unmerge y> weighted by sizes."""
    x, size, matching = example
    merged, merged_size = merge(x, matching, size)
    y = normal(seed, *merged.shape)
    found, wanted = inner(merged, y, merged_size), inner(x, unmerge(y, matching.assignment), size)
    torch.testing.assert_close(found, wanted, atol=2 * inner_slack(x, y, matching, size), rtol=0)


@given(merges(), seeds)
def test_the_projection_is_self_adjoint(example, seed):
    """Proposition 7.4: <P x, y> = <x, P y> in the size-weighted inner product."""
    x, size, matching = example
    y = float(x.abs().max()) * normal(seed, *x.shape)
    found, wanted = (inner(project(x, matching, size), y, size), inner(x, project(y, matching, size), size))
    allowed = 2 * (inner_slack(x, y, matching, size) + inner_slack(y, x, matching, size))
    torch.testing.assert_close(found, wanted, atol=allowed, rtol=0)


@given(merges(), seeds)
def test_what_is_lost_is_orthogonal_to_what_is_left(example, seed):
    """Proposition 7.5: x - P x is orthogonal to every restored sequence, so the squared lengths add up."""
    x, size, matching = example
    restored = project(x, matching, size)
    lost = x - restored
    y = unmerge(normal(seed, *x.shape)[:, : matching.kept.shape[1]], matching.assignment)
    zero = torch.zeros(len(x), dtype=torch.float64)
    torch.testing.assert_close(inner(lost, y, size), zero, atol=2 * inner_slack(x, y, matching, size), rtol=0)
    total = inner(restored, restored, size) + inner(lost, lost, size)
    torch.testing.assert_close(total, inner(x, x, size), atol=10 * inner_slack(x, x, matching, size), rtol=0)


@given(merges(), seeds)
def test_the_error_of_restoring_is_the_scatter_within_groups(example, seed):
    """Proposition 7.6: it is the loss by pairs, and no other choice of tokens restores x with less error."""
    x, size, matching = example
    merged, _ = merge(x, matching, size)
    restored = unmerge(merged, matching.assignment)
    found = inner(x - restored, x - restored, size)
    weight, wanted = size.double(), torch.zeros(len(x), dtype=torch.float64)
    for b, places in enumerate(matching.assignment.tolist()):
        for i in range(len(places)):
            for j in range(i):
                if places[i] == places[j]:
                    total = weight[b][matching.assignment[b] == places[i]].sum()
                    wanted[b] += weight[b, i] * weight[b, j] * (x[b, i] - x[b, j]).square().sum() / total
    allowed = 10 * inner_slack(x, x, matching, size)
    torch.testing.assert_close(found, wanted, atol=allowed, rtol=0)
    for far in (0.01, 1.0):  # other tokens, near and not: what they add is far above the rounding of the merged ones
        step = far * float(x.abs().max()) * normal(seed, *merged.shape).sign()
        other = x - unmerge(merged + step, matching.assignment)
        assert (inner(other, other, size) > found).all()


@given(merges())
def test_a_pointwise_map_may_run_on_merged_tokens(example):
    """Proposition 7.7: unmerge(f(y)) = f(unmerge(y)) bit for bit, for maps of correctly rounded operations."""
    x, size, matching = example
    tokens, _ = merge(x, matching, size)

    def f(t):
        return 3 * t.clamp_min(0) + t * t - t / 7

    assert torch.equal(unmerge(f(tokens), matching.assignment), f(unmerge(tokens, matching.assignment)))


@given(merges(), seeds)
def test_a_feed_forward_may_run_on_merged_tokens(example, seed):
    """Proposition 7.7: with a residual feed-forward g, restoring g(merge(x)) gives g(x) for group-constant x."""
    x, size, matching = example
    x = project(x, matching, size)
    width, hidden = x.shape[2], 4
    first, second = normal(seed, width, hidden), normal(seed + 1, hidden, width)

    def g(t):
        return t + torch.nn.functional.gelu(t @ first) @ second

    found = unmerge(g(merge(x, matching, size)[0]), matching.assignment)
    # A matrix product may add in another order for another number of rows: 5 + 4 terms, each rounds twice.
    scale = (x.abs() + x.abs() @ first.abs() @ second.abs()).max()
    torch.testing.assert_close(found, g(x), atol=32 * torch.finfo(x.dtype).eps * float(scale), rtol=0)


@given(merges(), shapes, seeds)
def test_self_attention_may_run_on_merged_tokens(example, shape, seed):
    """Proposition 7.8: with sizes, attention of merged tokens restored is attention of the restored sequence."""
    x, size, matching = example
    (h, e), assignment = shape, matching.assignment
    _, merged_size = merge(x, matching, size)
    q, k, v = (normal(seed + i, len(x), matching.kept.shape[1], h * e) for i in range(3))
    output = proportional_attention(*(heads(t, h) for t in (q, k, v)), merged_size)
    restored = unmerge(output.transpose(1, 2).flatten(2), assignment)
    full = proportional_attention(*(heads(unmerge(t, assignment), h) for t in (q, k, v)), size)
    # The logarithm of a size is single precision: a score is off by eps·log s, a mean by twice as much times |v|.
    logarithm = max(1.0, float(merged_size.max().log()))
    allowed = 4 * torch.finfo(torch.float32).eps * logarithm * float(v.abs().max())
    torch.testing.assert_close(restored, full.transpose(1, 2).flatten(2), atol=allowed, rtol=0)


@given(merges(), shapes, st.integers(1, 5), seeds)
def test_cross_attention_may_run_on_merged_tokens(example, shape, words, seed):
    """Proposition 7.9: queries that read a text need no sizes: each merged query reads as its patches would."""
    x, _, matching = example
    (h, e), assignment = shape, matching.assignment
    q = normal(seed, len(x), matching.kept.shape[1], h * e)
    k, v = (normal(seed + i, len(x), h, words, e) for i in (1, 2))
    restored = unmerge(proportional_attention(heads(q, h), k, v).transpose(1, 2).flatten(2), assignment)
    full = proportional_attention(heads(unmerge(q, assignment), h), k, v).transpose(1, 2).flatten(2)
    # The same arithmetic for another number of rows: double precision's rounding of scores well below 1000.
    torch.testing.assert_close(restored, full, atol=1e-12 * float(v.abs().max()), rtol=0)


@given(chains())
def test_several_merges_are_restored_by_following_the_assignments(chain):
    """Proposition 7.10: restoring merge by merge, last first, is restoring once by the composed assignment."""
    x, _, matchings = chain
    tokens, size = x, torch.ones(x.shape[:2])
    places = torch.arange(x.shape[1]).expand(len(x), -1)
    for matching in matchings:
        tokens, size = merge(tokens, matching, size)
        places = matching.assignment.gather(1, places)
    step_by_step = tokens
    for matching in reversed(matchings):
        step_by_step = unmerge(step_by_step, matching.assignment)
    assert torch.equal(step_by_step, unmerge(tokens, places))
    # A token is repeated as often as its size says.
    for row, sizes in zip(places, size, strict=True):
        assert torch.equal(row.bincount(minlength=tokens.shape[1]).float(), sizes)


def cell_of(position, width, stride):
    """Which cell a position is in, row by row."""
    return (position // width) // stride * -(-width // stride) + position % width // stride


@given(grids())
def test_every_cell_has_one_destination(example):
    """Proposition 7.11: the destinations are one position of each cell, cell by cell, also of cells that are cut."""
    height, width, stride, partition = example
    cells = -(-height // stride) * -(-width // stride)
    assert partition.destinations == len(partition.destination) == cells
    assert cell_of(partition.destination, width, stride).tolist() == list(range(cells))


@given(grids())
def test_every_position_of_a_grid_has_one_role(example):
    """Proposition 7.11: each position is a source or a destination and not both, sources are in order."""
    height, width, _, partition = example
    source, destination = partition.source.tolist(), partition.destination.tolist()
    assert sorted(source + destination) == list(range(height * width))
    assert source == sorted(source)
    assert partition.protected == 0
    assert partition.sources == len(source)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4), seeds)
def test_the_draw_chooses_within_its_cell(height, width, stride, seed):
    """Proposition 7.11: draws 0 to s squared - 1 reach every position of each cell, and equal draws equal places."""
    cells = -(-height // stride) * -(-width // stride)
    reached = [grid(height, width, torch.full((cells,), number), stride).destination for number in range(stride**2)]
    assert set(torch.cat(reached).tolist()) == set(range(height * width))
    generator = torch.Generator().manual_seed(seed)
    numbers, cell = torch.randint(stride**2, (cells,), generator=generator), seed % cells
    found = grid(height, width, numbers, stride).destination
    for place in range(cells):  # by its own number alone
        assert found[place] == reached[int(numbers[place])][place]
    more = numbers.clone()
    members = sum(cell_of(torch.arange(height * width), width, stride) == cell)
    more[cell] += 5 * int(members)
    assert torch.equal(grid(height, width, more, stride).destination, found)


@given(grids())
def test_how_many_of_a_grid_can_merge(example):
    """Proposition 7.12: at most 1 - 1/s squared of the positions, and that many just where s divides both sides."""
    height, width, stride, partition = example
    n = height * width
    assert partition.sources * stride**2 <= (stride**2 - 1) * n
    whole = height % stride == 0 and width % stride == 0
    assert (partition.sources * stride**2 == (stride**2 - 1) * n) == whole


@given(grid_merges())
def test_what_is_left_of_a_grid(example):
    """Proposition 7.12: n - k tokens are left, all destinations among them, and exactly k positions moved."""
    x, matching, count = example
    merged, size = merge(x, matching)
    assert merged.shape[1] == matching.kept.shape[1] == x.shape[1] - count
    assert (size.sum(dim=1) == x.shape[1]).all()
    for b in range(len(x)):
        assert len(set(matching.kept[b].tolist()) | set(matching.merged[b].tolist())) == x.shape[1]
        assert set(matching.destination[b].tolist()) <= set(matching.kept[b].tolist())
        assert matching.merged[b].unique().numel() == count


@given(grid_merges())
def test_each_position_of_a_grid_gets_its_groups_mean(example):
    """Proposition 7.13: the mean of a destination and of all sources that chose it; other sources stay as they are."""
    x, matching, _ = example
    restored = project(x, matching, torch.ones(x.shape[:2]))
    error = reference.rounding(x, matching.merged.shape[1])
    for b in range(len(x)):
        chosen = dict(zip(matching.merged[b].tolist(), matching.destination[b].tolist(), strict=True))
        for position in range(x.shape[1]):
            head = chosen.get(position, position)
            members = [head, *(source for source, receiver in chosen.items() if receiver == head)]
            wanted = x[b, members].mean(dim=0)
            torch.testing.assert_close(restored[b, position], wanted, atol=error, rtol=0)
            if len(members) == 1:
                assert torch.equal(restored[b, position], x[b, position])


@given(grid_merges(), st.sampled_from(DTYPES))
def test_a_grid_is_projected(example, dtype):
    """Proposition 7.13: twice is once, and what is constant stays, bit for bit in every dtype."""
    x, matching, _ = example
    size = torch.ones(x.shape[:2])
    once = project(x.to(dtype), matching, size)
    assert torch.equal(project(once, matching, size), once)
    constant = x[:, :1].expand_as(x).to(dtype)
    assert torch.equal(project(constant, matching, size), constant)


@given(grid_merges())
def test_a_grid_keeps_its_mean(example):
    """Proposition 7.13: the sum over all positions is what it was, up to rounding."""
    x, matching, _ = example
    found = project(x, matching, torch.ones(x.shape[:2]))
    allowed = 2 * x.shape[1] * reference.rounding(x, matching.merged.shape[1])
    torch.testing.assert_close(found.sum(dim=1), x.sum(dim=1), atol=allowed, rtol=0)


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0, 1000),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from(["grid", "parity"]),
    st.integers(0, 2**32 - 1),
    seeds,
)
def test_roles_depend_on_what_is_given_alone(height, width, timestep, downsample, destinations, seed, other):
    """Proposition 7.14: the same roles whatever ran before, and no random state is read or moved."""
    options = {"downsample": downsample, "destinations": destinations, "seed": seed}

    def roles():
        partition = make_partition(height, width, torch.tensor(timestep), **options)
        positions = torch.arange(height * width)
        return positions[partition.source].tolist(), positions[partition.destination].tolist()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(other)
        before = torch.get_rng_state()
        first = roles()
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        make_partition(height + 1, width, torch.tensor(timestep / 2), **options)
        assert roles() == first
    assert sorted(first[0] + first[1]) == list(range(height * width))


@given(st.integers(0, 2**20), st.integers(0, 999), st.integers(0, 999))
def test_steps_and_seeds_draw_other_destinations(seed, timestep, other):
    """Proposition 7.14: on 64 x 64 positions, two steps, two resolutions and two seeds give different draws."""

    def destinations(seed, timestep, downsample=1):
        made = make_partition(
            64, 64, torch.tensor(timestep), downsample=downsample, destinations="grid", seed=seed
        ).destination
        return made.tolist()

    here = destinations(seed, timestep)
    assert here != destinations(seed + 1, timestep)
    assert here != destinations(seed, timestep, downsample=2)
    assert (here == destinations(seed, other)) == (timestep == other)
