"""Finding the adapter of a model, and inside a composite model the tower that it describes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from turbo.adapters.base import Adapter, Refuse, ResidualBlock, Restore, Site, Unsupported, targets_of
from turbo.adapters.reader import Handover, Reader
from turbo.adapters.round_trip import Denoiser, RoundTrip
from turbo.engine.misfits import known_misfit
from turbo.errors import TurboError, TurboWarning
from turbo.plugins import adapters


def load_adapter(adapter: str | Adapter) -> tuple[str, Adapter]:
    """An adapter from its name, or the object itself."""
    if isinstance(adapter, str):
        return adapter, _instance(adapter, adapters[adapter])
    if not isinstance(adapter, Adapter):
        hint = "; pass an instance, not the class" if isinstance(adapter, type) else ""
        raise TurboError(f"adapter={adapter!r}: must be a name or an Adapter{hint}")
    return type(adapter).__name__, adapter


def find_tower(model: object, adapter: str | Adapter | None) -> tuple[nn.Module, str, Adapter]:
    """The module to accelerate in a model, its adapter and that adapter's name.

    Outer modules win over what they contain; among adapters the nearest class wins.

    Raises:
        TurboError: not a model, none found, several found, or two adapters equally near.
    """
    model = root_of(model)
    if not isinstance(model, nn.Module):
        raise TurboError(f"a {type(model).__name__} is not a torch.nn.Module: pass the model itself")
    if hasattr(model, "_orig_mod"):
        raise TurboError("this model is compiled already: accelerate first, then torch.compile the result")
    known = [load_adapter(adapter)] if adapter is not None else _load_all()
    towers = _search(model, known)
    if not towers:
        raise TurboError(_misfit(model, known, chosen=adapter is not None))
    if len(towers) > 1:
        paths = ", ".join(repr(path) for path, *_ in towers)
        raise TurboError(f"{type(model).__name__} holds {len(towers)} towers ({paths}): accelerate each by itself")
    _, tower, name, found = towers[0]
    return tower, name, found


def root_of(model: object) -> object:
    """The module to look in: the denoiser of a diffusers pipeline, anything else itself.

    Raises:
        TurboError: a pipeline without a UNet.
    """
    components = None if isinstance(model, nn.Module) else getattr(model, "components", None)
    if not isinstance(components, Mapping):
        return model
    if not isinstance(components.get("unet"), nn.Module):
        found = ", ".join(f"{k} ({type(v).__name__})" for k, v in components.items() if isinstance(v, nn.Module))
        raise TurboError(f"a {type(model).__name__} has no unet; its modules are: {found}. Pass the one to accelerate")
    return components["unet"]


def list_sites(tower: nn.Module, name: str, adapter: Adapter) -> list[Site]:
    """An adapter's sites of a tower, a misfit turned into an error that says so."""
    try:
        sites = list(adapter.sites(tower))
    except Unsupported:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        package = type(tower).__module__.partition(".")[0]
        raise TurboError(
            f"the adapter {name} does not know this layout of {type(tower).__name__} "
            f"({error}); it may be another version of {package} than the adapter was written for"
        ) from error
    if not sites:
        raise TurboError(f"the adapter {name} found no blocks in {type(tower).__name__}")
    _require_sites(sites, name)
    return sites


def _misfit(model: nn.Module, known: list[tuple[str, Adapter]], *, chosen: bool) -> str:
    cls = f"{type(model).__module__}.{type(model).__qualname__}"
    if chosen:
        [(name, adapter)] = known
        return (
            f"the adapter {name} describes {_targets(adapter)}; the model is a {cls} and holds none: leave adapter= "
            "out, or take one that fits"
        )
    if (why := known_misfit(model)) is not None:
        return f'no adapter fits {cls}: {why}; see Supported models, "What does not fit", in the documentation'
    looked_for = ", ".join(_targets(found) for _, found in known)
    return (
        f'no adapter fits {cls} or anything in it. Describe it yourself: see Extending, "Write an adapter", in the '
        f"documentation. Looked for: {looked_for}"
    )


def _require_sites(sites: list[Any], name: str) -> None:
    for place, site in enumerate(sites):
        if not isinstance(site, Site):
            what = f"a {type(site).__name__} at {place}"
            if isinstance(site, type):
                what = f"the class {site.__name__} at {place}, not an instance"
            module = isinstance(site, nn.Module)
            known = "ResidualBlock, Restore, Refuse, Handover or Reader; Denoiser and RoundTrip"
            hint = "wrap it in your ResidualBlock" if module else f"list {known}"
            raise TurboError(f"sites() of {name} lists {what}: {hint}")
    kinds = {kind for kind in (ResidualBlock, RoundTrip) for site in sites if isinstance(site, kind)}
    if not kinds:
        raise TurboError(f"sites() of {name} lists no ResidualBlock and no RoundTrip: nothing would merge")
    strangers = (Denoiser,) if ResidualBlock in kinds else (Restore, Refuse, Handover, Reader)
    if len(kinds) > 1 or any(isinstance(site, strangers) for site in sites):
        found = ", ".join(sorted({type(site).__name__ for site in sites}))
        raise TurboError(
            f"sites() of {name} lists {found}: either ResidualBlocks (with Restore, Refuse, Handover, Reader), whose "
            "tokens stay merged, or RoundTrips in one Denoiser, which restore them"
        )


def _search(model: nn.Module, known: list[tuple[str, Adapter]]) -> list[tuple[str, nn.Module, str, Adapter]]:
    found: list[tuple[str, nn.Module, str, Adapter]] = []
    inside: set[nn.Module] = set()
    for path, module in model.named_modules():
        if module in inside:
            continue
        if (best := _nearest(module, known)) is not None:
            found.append((path, module, *best))
            inside.update(module.modules())
    return found


def _nearest(module: nn.Module, known: list[tuple[str, Adapter]]) -> tuple[str, Adapter] | None:
    fits = [(d, name, adapter) for name, adapter in known if (d := adapter.distance(module)) is not None]
    if not fits:
        return None
    nearest = min(distance for distance, *_ in fits)
    winners = [(name, adapter) for distance, name, adapter in fits if distance == nearest]
    if len(winners) > 1:
        names = " and ".join(repr(name) for name, _ in winners)
        raise TurboError(f"the adapters {names} fit {type(module).__name__} equally well: choose with adapter=")
    return winners[0]


def _load_all() -> list[tuple[str, Adapter]]:
    """All adapters; one that is broken, or claimed twice, must not break an unrelated call."""
    loaded = []
    for name in adapters:
        try:
            loaded.append((name, _instance(name, adapters[name])))
        except TurboError as error:
            warnings.warn(f"skipped while looking for an adapter: {error}", TurboWarning, stacklevel=2)
    if not loaded:
        adapters[""]  # says that turbo is not installed
    return loaded


def _instance(name: str, plugin: Any) -> Adapter:
    try:
        adapter = plugin() if isinstance(plugin, type) else plugin
    except TypeError as error:
        raise TurboError(f"the adapter {name!r} cannot be created: {error}") from error
    if not isinstance(adapter, Adapter):
        raise TurboError(f"the adapter {name!r} is a {type(adapter).__name__}, not a turbo.adapters.Adapter")
    targets_of(adapter)  # raises here, and not when distance() is asked about somebody else's model
    return adapter


def _targets(adapter: Adapter) -> str:
    names = [f"{target.partition('.')[0]} {target.rpartition(':')[2]}" for target in targets_of(adapter)]
    return ", ".join(names) or f"what {type(adapter).__name__}.distance() says"
