"""Pictures of what was merged, and of what it changes. Needs Pillow, and for `save_groups` matplotlib.

Both come with ``pip install "turbo-vlm[viz]"``.
"""

from turbo.viz.groups import groups_image, save_groups
from turbo.viz.pairs import as_image_to_image, draw_pairs
from turbo.viz.sheet import Panel, draw_sheet, save_sheet

__all__ = ["Panel", "as_image_to_image", "draw_pairs", "draw_sheet", "groups_image", "save_groups", "save_sheet"]
