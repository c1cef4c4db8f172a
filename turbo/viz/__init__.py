"""Pictures of what was merged, and of what it changes. Needs Pillow, and for `save_merged` matplotlib.

Both come with ``pip install "turbo-vlm[viz]"``.
"""

from turbo.viz.difference import difference_image
from turbo.viz.groups import groups_image
from turbo.viz.merged import MergedBlock, MergedImage, merged_images
from turbo.viz.page import save_page
from turbo.viz.pairs import Drawn, as_image_to_image, draw_both, draw_pairs
from turbo.viz.panels import save_merged
from turbo.viz.sheet import Panel, draw_sheet, save_sheet
from turbo.viz.steps import merged_steps

__all__ = [
    "Drawn",
    "MergedBlock",
    "MergedImage",
    "Panel",
    "as_image_to_image",
    "difference_image",
    "draw_both",
    "draw_pairs",
    "draw_sheet",
    "groups_image",
    "merged_images",
    "merged_steps",
    "save_merged",
    "save_page",
    "save_sheet",
]
