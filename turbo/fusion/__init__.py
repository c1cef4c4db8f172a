"""Fusion strategies: how redundancy and semantic value become one priority. Write your own with `Candidates`."""

from turbo.fusion.baselines import Attention, Random, ToMe
from turbo.fusion.bounds import Bound, Distortion, Ward
from turbo.fusion.candidates import Candidates, Strategy
from turbo.fusion.paper import S1, S2, S3, S4

__all__ = [
    "S1",
    "S2",
    "S3",
    "S4",
    "Attention",
    "Bound",
    "Candidates",
    "Distortion",
    "Random",
    "Strategy",
    "ToMe",
    "Ward",
]
