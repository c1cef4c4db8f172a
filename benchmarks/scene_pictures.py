"""The picture of the zoo's scenes in the documentation: ``python benchmarks/scene_pictures.py``."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from turbo.viz.sheet import Panel, draw_sheet, save_sheet
from turbo.zoo import draw_scenes
from turbo.zoo.paint import GROUNDS
from turbo.zoo.questions import ask

TITLES = {"plain": "Plain ground", "distractors": "The same scenes among distractors, with questions"}
SHOWN = (1, 2, 6, 11)  # of the first scenes of the test part


def main() -> None:
    """Draws and writes."""
    rows = []
    for ground in GROUNDS:
        scenes = draw_scenes("test", 12, seed=3, ground=ground)
        texts = scenes.captions()
        if ground == "distractors":
            asked = ask(scenes, seed=0, per_scene=2)
            texts = ["\n".join(f"{q.text}? {q.answer}" for q in asked if q.row == row) for row in range(len(scenes))]
        rows.append(
            (
                TITLES[ground],
                [Panel((Image.fromarray(scenes.images[row]).resize((224, 224), 0),), texts[row]) for row in SHOWN],
            )
        )
    path = Path(__file__).parents[1] / "docs" / "images" / "scenes.png"
    save_sheet(path, draw_sheet(rows), colours=256)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
