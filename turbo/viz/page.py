"""One self-contained HTML file with a slider over the blocks. It loads nothing and opens from disk."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from turbo.errors import TurboError
from turbo.viz.merged import MergedImage
from turbo.viz.packing import JPEG_QUALITY, pack_image, pack_pixels

_SMALL = 200
"""An image of fewer pixels than this is enlarged, each pixel to a square."""

_OF_BLOCKS = (
    """A, R and E are those of a patch's token on entering the block. In each block one part of the tokens may merge and
    the other may only receive; those have no R and no E of their own.""",
    """Colours of A mean the same in all images, those of R in all blocks of an image (the outermost 1% at either end
    does not stretch them), those of E in one block. Scores are kept in 16 bits.""",
)
_OF_STEPS = (
    """A denoiser's tokens merge before a part of a block and are all given back after it, so each step starts from all
    of them. The groups lie on the image that was drawn in the end.""",
)


def save_page(
    path: str | Path, merged: Sequence[MergedImage], about: Mapping[str, str], *, title: str | None = None
) -> None:
    """Save what merged as a page that needs nothing else: no network, no library, no server.

    Each image is shown beside what the blocks left of it, with a slider over the blocks; beside the groups there are
    maps of A, R and the information degree, where they are known. Pointing at a patch shows its group.

    Args:
        path: of the HTML file; folders are made.
        merged: by `merged_images`, or `merged_steps` for a denoiser.
        about: what it was made with, shown in this order: model, strategy, command, versions.
        title: of the page; "What merged in MODEL" without one, if `about` has a "model".

    Raises:
        TurboError: there is nothing to show.

    Examples:
        >>> import torch
        >>> from turbo.viz import MergedBlock, MergedImage
        >>> groups = torch.tensor([[0, 0], [1, 2]])
        >>> block = MergedBlock(0, groups, 4, 3, groups / 2, groups / 3, groups / 4, groups < 1)
        >>> image = MergedImage(torch.rand(8, 8, 3), "noise", 0, (block,), "s1")
        >>> save_page("out/page.html", [image], {"model": "none"})  # doctest: +SKIP
    """
    if not merged:
        raise TurboError("no images: there is nothing to show")
    if title is None:
        title = f"What merged in {about['model']}" if "model" in about else "What merged"
    units = {image.unit for image in merged}
    if len(units) > 1:
        raise TurboError("a page shows images of models or of denoisers, not both: save two pages")
    unit = units.pop()
    data = {"unit": unit, "images": [pack_image(image) for image in merged]}
    sources = [pack_pixels(image.pixels) for image in merged]
    style, script = _asset("page.css"), "{\n" + _asset("picture.js") + _asset("page.js") + "}\n"
    parts = {
        "title": html.escape(title),
        "about": "\n".join(map(_entry, about.items())),
        "unit": unit,
        "Unit": unit.capitalize(),
        "images": "\n".join(map(_section, merged, sources)),
        "notes": "\n".join(f"<p>{note}</p>" for note in _notes(unit, sources)),
        # A "<" would end the script at "</script>".
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        "style": style,
        "script": script,
        "style hash": _hash(style),
        "script hash": _hash(script),
    }
    # In one go, so that no text is taken for a place to fill.
    page = re.sub(r"\{\{([\w ]+)\}\}", lambda found: parts[found[1]], _asset("page.html"))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(page.encode("utf-8", "replace"))


def _asset(name: str) -> str:
    return (files("turbo.viz") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What the page's policy knows its one script and its one style by; nothing else runs."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _entry(item: tuple[str, str]) -> str:
    name, text = (html.escape(str(each)) for each in item)
    return f"<div><dt>{name}</dt><dd>{text}</dd></div>"


def _section(image: MergedImage, source: str) -> str:
    (height, width), title = image.pixels.shape[:2], html.escape(image.title)
    what = "the image that was drawn" if image.unit == "step" else "what the model saw"
    small = ' class="small"' if max(height, width) < _SMALL else ""
    heading = f"<h2>{title}</h2>" if title else ""
    alternative = f"{title}: {what}" if title else what
    return (
        '<section class="image">\n<div class="pictures"><figure><div class="frame">'
        f'<img{small} src="{source}" width="{width}" height="{height}" alt="{alternative}"></div>'
        f"<figcaption>{what}</figcaption></figure></div>\n"
        f'<div class="told">{heading}</div>\n</section>'
    )


def _notes(unit: str, sources: Sequence[str]) -> list[str]:
    notes = list(_OF_STEPS if unit == "step" else _OF_BLOCKS)
    if any(source.startswith("data:image/jpeg") for source in sources):
        notes.append(f"Large images are kept as JPEG of quality {JPEG_QUALITY}; colours may be a level or two off.")
    return [html.escape(note) for note in notes]
