"""Images in panels on one sheet, with texts. Needs Pillow: ``pip install "turbo-vlm[viz]"``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turbo.errors import TurboError

if TYPE_CHECKING:
    from PIL import Image

SIDE = 128
"""Pixels of a shown image, at least: small ones are enlarged, each pixel to a square."""
MOST = 320
"""The same, at most."""
_GAP, _MARGIN, _LINE, _SIZE = 4, 14, 15, 12


@dataclass(frozen=True)
class Panel:
    """Images that belong together, side by side.

    Attributes:
        images: from left to right.
        text: underneath; a line break stays one, long lines are broken.
        titles: one above each image, or none.
    """

    images: tuple[Image.Image, ...]
    text: str
    titles: tuple[str, ...] = ()


def draw_sheet(rows: Sequence[tuple[str, Sequence[Panel]]], *, columns: int | None = None) -> Image.Image:
    """Draw panels.

    Args:
        rows: for each row a title ("" for none) and its panels.
        columns: panels beside each other, at most; the others go underneath.

    Returns:
        The sheet, RGB.

    Raises:
        TurboError: there is nothing to draw, or a panel has not one title for each image.

    Examples:
        >>> from PIL import Image
        >>> draw_sheet([("Two of them", [Panel((Image.new("RGB", (32, 32)),) * 2, "black")])]).width
        288
    """
    from PIL import Image, ImageDraw

    lines = _lines(rows, columns)
    width = _MARGIN + max(sum(_wide(panel) + _MARGIN for panel in panels) for _, panels in lines)
    height = _MARGIN + sum(_high(title, panels) for title, panels in lines)
    sheet = Image.new("RGB", (width, height), "white")
    pen, top = ImageDraw.Draw(sheet), _MARGIN
    for title, panels in lines:
        _draw_line(sheet, pen, top, title, panels)
        top += _high(title, panels)
    return sheet


def save_sheet(path: str | Path, sheet: Image.Image, *, colours: int | None = None) -> None:
    """Save a sheet as PNG.

    Args:
        path: where it goes; folders are made.
        sheet: by `draw_sheet`.
        colours: keep only so many, which makes a much smaller file of flat images; None keeps all.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    (sheet if colours is None else sheet.quantize(colours)).save(path, format="PNG", optimize=True)


def _lines(rows: Sequence[tuple[str, Sequence[Panel]]], columns: int | None) -> list[tuple[str, Sequence[Panel]]]:
    if columns is not None and columns < 1:
        raise TurboError(f"columns={columns}: a sheet has one or more")
    if not rows or not all(panels and all(panel.images for panel in panels) for _, panels in rows):
        raise TurboError("nothing to draw: give each row one or more panels, and each panel images")
    for _, panels in rows:
        for panel in panels:
            if panel.titles and len(panel.titles) != len(panel.images):
                raise TurboError(f"{len(panel.titles)} titles for {len(panel.images)} images: give one for each")
    found: list[tuple[str, Sequence[Panel]]] = []
    for title, panels in rows:
        step = columns or len(panels)
        found += [(title if start == 0 else "", panels[start : start + step]) for start in range(0, len(panels), step)]
    return found


def _draw_line(sheet: Image.Image, pen: Any, top: int, title: str, panels: Sequence[Panel]) -> None:
    font, left = _font(), _MARGIN
    if title:
        pen.text((left, top), title, "black", font)
        top += _LINE + 4
    titled, tallest = _titled(panels), _tallest(panels)
    for panel in panels:
        along = left
        for place, image in enumerate(panel.images):
            shown = _shown(image)
            if panel.titles:
                pen.text((along, top), panel.titles[place], "black", font)
            sheet.paste(shown, (along, top + titled))
            along += shown.width + _GAP
        text = "\n".join(_wrapped(panel))
        pen.multiline_text((left, top + titled + tallest + 4), text, "black", font, spacing=_LINE - _SIZE)
        left += _wide(panel) + _MARGIN


def _high(title: str, panels: Sequence[Panel]) -> int:
    """Pixels of a line of panels, with all texts and the space below it."""
    text = max(len(_wrapped(panel)) for panel in panels) * _LINE
    return (_LINE + 4 if title else 0) + _titled(panels) + _tallest(panels) + 4 + text + _MARGIN


def _titled(panels: Sequence[Panel]) -> int:
    return _LINE + 1 if any(panel.titles for panel in panels) else 0


def _tallest(panels: Sequence[Panel]) -> int:
    return max(_scaled(image)[1] for panel in panels for image in panel.images)


def _wide(panel: Panel) -> int:
    return sum(_scaled(image)[0] + _GAP for image in panel.images) - _GAP


def _scaled(image: Image.Image) -> tuple[int, int]:
    """The size that an image is shown in: a multiple of a small one's, or a large one's made smaller."""
    longest = max(image.size)
    if longest <= MOST:
        factor = -(-SIDE // longest)
        return image.width * factor, image.height * factor
    return round(image.width * MOST / longest), round(image.height * MOST / longest)


def _shown(image: Image.Image) -> Image.Image:
    from PIL import Image as Pillow

    size = _scaled(image)
    how = Pillow.Resampling.NEAREST if size[0] >= image.width else Pillow.Resampling.LANCZOS
    return image.convert("RGB").resize(size, how)


def _wrapped(panel: Panel) -> list[str]:
    """The lines of a panel's text, each no wider than its images."""
    font, most, found = _font(), _wide(panel), []
    for line in panel.text.splitlines():
        words, sofar = line.split(" "), ""
        for word in words:
            longer = f"{sofar} {word}".strip()
            if sofar and font.getlength(longer) > most:
                found.append(sofar)
                longer = word
            sofar = longer
        found.append(sofar)
    return found


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(_SIZE)
