"""Pictures of what was merged. Needs matplotlib and Pillow: ``pip install "turbo-vlm[viz]"``."""

from turbo.viz.groups import groups_image, save_groups

__all__ = ["groups_image", "save_groups"]
