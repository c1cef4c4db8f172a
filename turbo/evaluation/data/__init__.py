"""What models are measured on: the zoo's scenes, and data sets in their published layouts."""

from turbo.evaluation.data.types import Attributes, Captions, Data, Images, Labelled, Questions

__all__ = ["Attributes", "Captions", "Data", "Images", "Labelled", "Questions"]
