"""How good generated images are: against reference images, their captions, and the untouched image of the same seed.

Images are what a PNG file holds: uint8, ``b 3 h w``. Needs torchmetrics: ``pip install "turbo-vlm[eval]"``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from turbo.errors import TurboError

if TYPE_CHECKING:
    from turbo.zoo.captioned import SceneLabels
    from turbo.zoo.judge import SceneJudge

INCEPTION_WIDTH = 2048  # the layer of Inception v3 that the published FID is computed on


@dataclass(frozen=True)
class Extractor:
    """What maps images to the features whose distributions are compared.

    Attributes:
        name: as results name it; a distance means nothing without it.
        module: uint8 ``b 3 h w`` -> ``b d``, with the attribute ``num_features``.
    """

    name: str
    module: nn.Module

    @property
    def width(self) -> int:
        """The number of features, d."""
        return int(self.module.num_features)  # type: ignore[arg-type]


def find_extractor(spec: str) -> Extractor:
    """The feature extractor that a name stands for.

    Args:
        spec: "judge", the zoo's own scene judge; "inception", the published one; or "inception:FILE" with weights
            from a file.

    Raises:
        TurboError: another name, no such file, or weights that cannot be downloaded.
    """
    name, _, path = spec.partition(":")
    if spec == "judge":
        from turbo import zoo
        from turbo.zoo.judge import SceneFeatures

        judge: Any = zoo.load("scene-judge")
        return Extractor("turbo's scene-judge", SceneFeatures(judge))
    if name != "inception":
        raise TurboError(f"features {spec!r}: must be judge, inception or inception:FILE")
    if path and not Path(path).is_file():
        raise TurboError(f"features {spec!r}: there is no file {path}")
    try:
        module = _frechet_metric()(INCEPTION_WIDTH, feature_extractor_weights_path=path or None).inception
    except ImportError as error:
        raise TurboError('Inception comes with torch-fidelity: pip install "turbo-vlm[eval]"') from error
    except OSError as error:
        raise TurboError(f"Inception's weights cannot be loaded ({error}): give a file, inception:FILE") from error
    module.num_features = INCEPTION_WIDTH
    return Extractor("inception-v3 (torch-fidelity)", module)


class FrechetReference:
    """One set of images that others are measured against; its features are computed once, by torchmetrics.

    Args:
        images: batches of the reference.
        extractor: of the features.
        device: where features are computed.

    Raises:
        TurboError: torchmetrics is missing, or there are fewer than two images.
    """

    def __init__(self, images: Iterable[Tensor], extractor: Extractor, device: torch.device | str = "cpu") -> None:
        self._metric = _frechet_metric()(extractor.module, reset_real_features=False).to(device)
        self._device = device
        self._feed(images, "the reference", real=True)

    def distance(self, images: Iterable[Tensor], name: str = "this set") -> float:
        """Frechet distance of a set of images.

        Args:
            images: batches of the set.
            name: of the set, for errors.

        Returns:
            The distance; 0 for equal distributions. It is biased upwards for few images, alike for sets of equal
            size, so compare sides rather than papers.

        Raises:
            TurboError: there are fewer than two images.
        """
        self._metric.reset()  # the reference stays
        self._feed(images, name, real=False)
        with torch.inference_mode():
            return max(0.0, float(self._metric.compute()))  # rounding may leave it a little below

    def _feed(self, batches: Iterable[Tensor], name: str, *, real: bool) -> None:
        count = 0
        for images in batches:
            if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
                found = f"{images.dtype} of {tuple(images.shape)}"
                raise TurboError(f"{name}: images must be uint8, b 3 h w; these are {found}")
            with torch.inference_mode():
                self._metric.update(images.to(self._device), real=real)
            count += len(images)
        if count < 2:
            raise TurboError(f"{name} has {count} images: a distribution needs two or more")


def frechet_distances(
    reference: Iterable[Tensor],
    sides: Mapping[str, Iterable[Tensor]],
    extractor: Extractor,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Frechet distance of several sets of images to one reference set: name -> distance (see `FrechetReference`)."""
    against = FrechetReference(reference, extractor, device)
    return {name: against.distance(images, name) for name, images in sides.items()}


def squared_error(images: Tensor, others: Tensor) -> Tensor:
    """Mean squared error of each pair of images, on the scale 0 to 1: ``b 3 h w`` twice -> ``b``, float64."""
    if images.shape != others.shape:
        raise TurboError(f"images of {tuple(images.shape)} and {tuple(others.shape)} are no pairs")
    return ((images.double() - others.double()) / 255).square().flatten(1).mean(dim=1)


def psnr(error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for a mean squared error on the scale 0 to 1; infinite where that is 0.

    The mean of ``squared_error`` over images gives the PSNR of a set, which one pair without error cannot spoil.

    Examples:
        >>> psnr(torch.tensor([0.01]))
        tensor([20.])
    """
    return -10 * error.log10()


@torch.no_grad()
def feature_distance(images: Tensor, others: Tensor, judge: SceneJudge) -> Tensor:
    """Perceptual distance of each pair of images: LPIPS' formula on the judge's layers, without learnt weights.

    After every ReLU of the judge's convolutions the channels at each place are scaled to length 1; the distance is
    their squared difference, averaged over places and layers.

    Args:
        images: ``b 3 32 32``.
        others: the same shape.
        judge: the scene judge.

    Returns:
        ``b``, 0 (alike) to 2.
    """
    from turbo.zoo.judge import as_pixels

    weight = judge.queries
    pair = torch.cat([as_pixels(images), as_pixels(others)]).to(weight)
    layers = []
    for layer in judge.trunk:
        pair = layer(pair)
        if isinstance(layer, nn.ReLU):
            unit = pair / (pair.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
            one, other = unit.chunk(2)
            layers.append((one - other).square().sum(dim=1).mean(dim=(1, 2)))
    return torch.stack(layers).mean(dim=0)


def caption_agreement(batches: Iterable[Tensor], labels: SceneLabels, judge: SceneJudge) -> dict[str, float]:
    """How often images show what their captions say, as the judge reads them.

    Args:
        batches: of images, in the order of the labels.
        labels: what each image should show.
        judge: the scene judge.

    Returns:
        Attribute -> share of right answers (over objects for size, colour and kind); "exact" -> share of images in
        which all is right.
    """
    from turbo.zoo.words import NONE

    hits: dict[str, float] = {}
    asked: dict[str, int] = {}
    start = 0
    for images in batches:
        part = labels[start : start + len(images)]
        start += len(images)
        objects = int((part.kind != NONE).sum())
        for name, share in judge.agreement(images, part).items():
            count = objects if name in ("size", "colour", "kind") else len(part)
            hits[name] = hits.get(name, 0.0) + share * count
            asked[name] = asked.get(name, 0) + count
    if start != len(labels):
        raise TurboError(f"{start} images have {len(labels)} labels: give one label for each")
    return {name: hits[name] / asked[name] for name in hits}


@torch.inference_mode()
def clip_scores(batches: Iterable[Tensor], prompts: Sequence[str], model: Any, processor: Any) -> Tensor:
    """CLIP score of each image with its prompt: 100 times the cosine of their embeddings.

    Args:
        batches: of images, in the order of the prompts.
        prompts: one for each image; longer ones than the model reads are cut.
        model: a transformers `CLIPModel`.
        processor: its processor.

    Returns:
        ``n``, one score for each image; the score of a set is their mean, or 0 where that is below 0.
    """
    scores: list[Tensor] = []
    start = 0
    for images in batches:
        texts = list(prompts[start : start + len(images)])
        start += len(images)
        inputs = processor(text=texts, images=list(images), return_tensors="pt", padding=True, truncation=True)
        found = model(**inputs.to(model.device))
        scores.append(100 * torch.cosine_similarity(found.image_embeds.float(), found.text_embeds.float()).cpu())
    if start != len(prompts):
        raise TurboError(f"{start} images have {len(prompts)} prompts: give one for each")
    return torch.cat(scores)


def load_clip(name: str) -> tuple[Any, Any]:
    """A transformers CLIP model and its processor, from a folder or the hub.

    Raises:
        TurboError: there is none.
    """
    from transformers import CLIPModel, CLIPProcessor

    try:
        return CLIPModel.from_pretrained(name).train(False), CLIPProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise TurboError(f"the CLIP model {name!r} cannot be loaded: {error}") from error


def _frechet_metric() -> Any:
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        raise TurboError('the Frechet distance needs torchmetrics: pip install "turbo-vlm[eval]"') from error
    return FrechetInceptionDistance
