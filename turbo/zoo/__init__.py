"""A small trained model and its data, for tests and demonstrations without a network.

Importing this module imports neither transformers nor scikit-learn.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from turbo.errors import TurboError
from turbo.zoo.digits import preprocess, scenes

if TYPE_CHECKING:
    from transformers import ViTForImageClassification

__all__ = ["NAMES", "load", "preprocess", "scenes"]

NAMES: tuple[str, ...] = ("vit-digits",)


def load(name: str = "vit-digits") -> ViTForImageClassification:
    """Loads a packaged model.

    Args:
        name: one of `NAMES`. "vit-digits" maps pixel values (`b 3 64 64`, from `preprocess`) to
            logits (`b 10`) and has 257 tokens.

    Returns:
        The model in evaluation mode and float32, on the CPU.

    Raises:
        TurboError: if the name is unknown or transformers is not installed.
    """
    if name not in NAMES:
        raise TurboError(f"unknown model {name!r}: the zoo has {', '.join(NAMES)}")
    try:
        import torch
        from transformers import ViTForImageClassification
        from transformers.utils import logging
    except ImportError as error:
        raise TurboError('turbo.zoo needs transformers for its models: pip install "turbo-vlm[zoo]"') from error
    folder = Path(__file__).parent / "weights" / name
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a file of 1 MB needs none
    try:
        model: ViTForImageClassification = ViTForImageClassification.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )
    finally:
        if shown:
            logging.enable_progress_bar()
    model.train(False)
    return model
