"""The paper's tables as studies of a model: their rows as settings, and what they say as claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from turbo.errors import TurboError
from turbo.evaluation.paper.claims import Claim, Row
from turbo.evaluation.paper.printed import TABLE_1, TABLE_2, Units
from turbo.evaluation.paper.settings import DEFAULT, constant_drop, encoder_shape, fusion_settings, threshold_settings
from turbo.evaluation.run import preview
from turbo.evaluation.settings import Setting
from turbo.models import LoadedModel

_S1, *_S3 = (row.name for row in TABLE_1 if row.strategy in ("S1", "S3"))
_S4 = tuple(row.name for row in TABLE_1 if row.strategy == "S4")
_AT = {(row.drop, row.threshold): row.name for row in TABLE_2}


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's tables, carried over to a model.

    Attributes:
        name: "table1" or "table2".
        settings: name of the row -> setting of the model.
        printed: name of the row -> what the paper has for it: "bleu4", "cider" (both times 100), "throughput".
        claims: what the paper's rows say, and what one would ask of the others.
        mapping: plain data on how coefficients were carried over.
    """

    name: str
    settings: Mapping[str, Setting]
    printed: Mapping[str, Mapping[str, float]]
    claims: tuple[Claim, ...]
    mapping: Mapping[str, Any]


def fusion_table(loaded: LoadedModel, drop: int | None = None, units: Units | None = None) -> PaperTable:
    """Table 1: fusion strategies and their coefficients.

    Args:
        loaded: the model.
        drop: Υ; without it, the smallest that halves the FLOPs of the blocks, for the supplement does not print it.
        units: how α is read; without it, relative to the mean of A.

    Raises:
        TurboError: the model is not supported, or the drop does not suit it.
    """
    units = units or Units()
    if drop is not None and drop < 1:
        raise TurboError(f"drop={drop}: table 1 compares which tokens merge, so each block must merge one or more")
    drop = constant_drop(loaded) if drop is None else drop
    settings = fusion_settings(encoder_shape(loaded), drop, units)
    printed = {row.name: asdict(row.printed) for row in TABLE_1}
    mapping = _mapping(loaded, units) | {"drop": drop, "flops_fall_by": _factor(loaded, settings[_S1])}
    return PaperTable("table1", settings, printed, FUSION_CLAIMS, mapping)


def threshold_table(loaded: LoadedModel, units: Units | None = None) -> PaperTable:
    """Table 2: large Υ with and without a threshold.

    Args:
        loaded: the model.
        units: how S1's α is read; without it, relative to the mean of A.

    Raises:
        TurboError: the model is not supported, or has too few tokens.
    """
    units = units or Units()
    settings = threshold_settings(encoder_shape(loaded), units)
    printed = {row.name: asdict(row.printed) for row in TABLE_2}
    return PaperTable("table2", settings, printed, THRESHOLD_CLAIMS, _mapping(loaded, units))


def _mapping(loaded: LoadedModel, units: Units) -> dict[str, Any]:
    shape = encoder_shape(loaded)
    return {**shape._asdict(), "semantic_units": units.semantic_units, "factor": units.factor}


def _factor(loaded: LoadedModel, setting: Setting) -> float:
    return round(preview(loaded, [setting])[setting.name].factor, 3)


def _one(name: str) -> Row:
    return Row((name,))


FUSION_CLAIMS = (
    Claim("S3 keeps its quality from α = 1 to α = 2.", _one(_S3[0]), _one(_S3[1]), "even"),
    Claim("S3 loses quality from α = 2 to α = 4.", _one(_S3[1]), _one(_S3[3]), "falls"),
    Claim("S3 at its best is below S1.", _one(_S1), Row(tuple(_S3)), "falls"),
    Claim("S2 is as good as S1.", _one(_S1), _one("S2"), "even"),
    Claim("The best of twenty S4, chosen afterwards, is above S1.", _one(_S1), Row(_S4), "rises"),
    Claim("β and γ hardly matter to S4: its worst and its best are alike.", Row(_S4, "worst"), Row(_S4), "even"),
    Claim("S2 is slower than S1.", _one(_S1), _one("S2"), "falls", "throughput"),
    Claim("S3 is slower than S1.", _one(_S1), _one(_S3[0]), "falls", "throughput"),
    Claim("S4 is as fast as S1.", _one(_S1), _one(_S4[0]), "even", "throughput"),
    Claim("A matters: S1 is above redundancy alone (tome).", _one("tome"), _one(_S1), "rises"),
    Claim("R matters: S1 is above attention alone.", _one("attention"), _one(_S1), "rises"),
    Claim("`bound`, which has no coefficient, is as good as S1.", _one(_S1), _one("bound"), "even"),
    Claim(f"turbo's default ({DEFAULT}) is above the paper's S1.", _one(_S1), _one(DEFAULT), "rises"),
)
"""The last four are not in the supplement."""

THRESHOLD_CLAIMS = (
    Claim("Without a threshold a larger Υ costs quality.", _one(_AT[65, 0]), _one(_AT[70, 0]), "falls"),
    Claim("With threshold 70 it does not.", _one(_AT[65, 70]), _one(_AT[70, 70]), "even"),
    Claim("Threshold 70 softens the fall at Υ = 65.", _one(_AT[65, 0]), _one(_AT[65, 70]), "rises"),
    Claim("Threshold 130 softens it further.", _one(_AT[65, 70]), _one(_AT[65, 130]), "rises"),
    Claim("Threshold 70 softens the fall at Υ = 70.", _one(_AT[70, 0]), _one(_AT[70, 70]), "rises"),
    Claim("Threshold 70 costs speed at Υ = 65.", _one(_AT[65, 0]), _one(_AT[65, 70]), "falls", "throughput"),
    Claim("Threshold 130 costs more of it.", _one(_AT[65, 70]), _one(_AT[65, 130]), "falls", "throughput"),
    Claim("Threshold 70 costs speed at Υ = 70.", _one(_AT[70, 0]), _one(_AT[70, 70]), "falls", "throughput"),
)
