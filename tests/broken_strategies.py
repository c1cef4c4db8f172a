"""For every check of a strategy a strategy that breaks this promise."""

from __future__ import annotations

import random

import numpy as np
import torch


def one_for_all(c):
    return c.redundancy[:, :1]


def single_precision(c):
    return c.redundancy.float()


def a_list(c):
    return c.redundancy.tolist()


def makes_a_cpu_tensor(c):
    return c.redundancy + torch.ones(c.redundancy.shape[1], dtype=c.redundancy.dtype)


def standardises(c):
    """The unbiased deviation of one number is NaN."""
    return (c.redundancy - c.redundancy.mean(dim=1, keepdim=True)) / c.redundancy.std(dim=1, keepdim=True)


def divides_by_value(c):
    return c.redundancy / c.value


def logarithm(c):
    return c.redundancy - c.value.log()


WEIGHTS = [0.1] * 12


def for_twelve_blocks(c):
    return c.redundancy - WEIGHTS[c.depth] * c.value


def grows_with_depth(c):
    return c.redundancy * 10.0**c.depth


def clamps_in_place(c):
    return c.redundancy - c.value.clamp_(min=1e-3)


def adds_nothing_in_place(c):
    return c.redundancy.add_(0)


def torch_noise(c):
    return c.redundancy + 0 * torch.rand(1, dtype=c.redundancy.dtype)


def python_noise(c):
    return c.redundancy + 0 * random.random()


def numpy_noise(c):
    return c.redundancy + 0 * np.random.rand()


class Counts:
    """Its weight falls from call to call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, c):
        self.calls += 1
        return c.redundancy - c.value / self.calls


def looks_at_gradient_mode(c):
    return c.redundancy - (0.1 if torch.is_grad_enabled() else 0.2) * c.value


def branches_on_numbers(c):
    return c.redundancy if c.value.max().item() > 0 else -c.value


def prefers_distinct_tokens(c):
    return -c.redundancy


def multiplies(c):
    """Where R < 0, more attention lets merge earlier."""
    return c.redundancy / (1 + c.value)


def goes_by_position(c):
    return c.redundancy + torch.arange(c.redundancy.shape[1], device=c.redundancy.device)


def looks_at_neighbours(c):
    return c.redundancy - c.value.cumsum(dim=1)


def couples_images(c):
    return c.redundancy - c.redundancy.mean(dim=0, keepdim=True)


def scales_by_the_batch(c):
    return c.redundancy - c.value / c.value.max().clamp_min(1)


def falls_a_little(c):
    return 100 - 1e-4 * c.redundancy


def one_number_per_image(c):
    return c.redundancy.mean(dim=1)


def misspelt(c):
    return c.similarity


BROKEN = [
    (
        "check_strategy_is_callable",
        misspelt,
        r"in block 0 it fails: AttributeError: .* \(broken_strategies.py, line \d+\)",
    ),
    ("check_strategy_is_callable", for_twelve_blocks, "in block 47 it fails: IndexError"),
    ("check_strategy_is_callable", one_number_per_image, r"it returns shape \(2,\): it must return a tensor, b m"),
    ("check_strategy_is_callable", a_list, "it returns list"),
    ("check_returns_one_priority_per_source", one_for_all, "the result's shape"),
    ("check_returns_one_priority_per_source", single_precision, "the result's dtype is torch.float32"),
    ("check_returns_one_priority_per_source", a_list, "it returns list"),
    ("check_returns_one_priority_per_source", makes_a_cpu_tensor, "on another device it fails"),
    ("check_takes_one_candidate", standardises, "one candidate gets nan"),
    ("check_is_finite", divides_by_value, r"inf in block 0, torch.float32, at redundancy=-1, value=0"),
    ("check_is_finite", logarithm, "a logarithm of A = 0"),
    ("check_works_at_any_depth", for_twelve_blocks, "in block 12 it fails: IndexError"),
    ("check_works_at_any_depth", grows_with_depth, "in block 38|in block 39"),
    ("check_inputs_are_unmodified", clamps_in_place, "changes candidates.value in place"),
    ("check_inputs_are_unmodified", adds_nothing_in_place, "changes candidates.redundancy in place"),
    ("check_global_randomness_is_untouched", torch_noise, "global generator of torch"),
    ("check_global_randomness_is_untouched", python_noise, "global generator of random"),
    ("check_global_randomness_is_untouched", numpy_noise, "global generator of numpy"),
    ("check_same_candidates_give_same_priorities", Counts(), "state between calls"),
    ("check_gradient_mode_is_irrelevant", looks_at_gradient_mode, "with gradients the priorities are others"),
    ("check_strategy_compiles", branches_on_numbers, "no single graph"),
    (
        "check_rises_in_redundancy",
        prefers_distinct_tokens,
        r"falls in block 0: R=-1, .* R=-0.999, .*\(a wrong sign; or",
    ),
    ("check_rises_in_redundancy", falls_a_little, "E=100.0001; .* E=100.00009 "),
    ("check_falls_in_value", multiplies, r"with a lower A the priority falls in block 0: R=-"),
    ("check_judges_each_token_by_itself", goes_by_position, "per_token=False"),
    ("check_judges_each_token_by_itself", looks_at_neighbours, "permuted tokens get other priorities"),
    ("check_judges_each_image_by_itself", couples_images, "in a batch than alone"),
    ("check_judges_each_image_by_itself", scales_by_the_batch, "in a batch than alone"),
]
"""Check, what breaks it, and what the message says."""
