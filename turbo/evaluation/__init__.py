"""Quality with the field's own metrics, on the zoo's scenes and on published data sets."""

from turbo.evaluation.data import Captions, Data, Labelled, Questions
from turbo.evaluation.data.sources import load_data

__all__ = ["Captions", "Data", "Labelled", "Questions", "load_data"]
