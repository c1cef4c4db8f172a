"""VQA v2 (Goyal et al., CVPR 2017): questions about COCO's images, ten answers to each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from turbo.errors import TurboError
from turbo.evaluation.data import Questions
from turbo.evaluation.data.folders import Published, read_json, reading
from turbo.evaluation.data.images import images_of_files

LAYOUT = (
    "v2_OpenEnded_mscoco_val2014_questions.json, v2_mscoco_val2014_annotations.json and val2014/COCO_val2014_*.jpg "
    "(the same with train2014 for the split 'train')"
)
SPLITS = ("val", "train")


def load_vqav2(folder: Path, split: str = "val", limit: int | None = None) -> Questions:
    """Loads questions of VQA v2; their kinds are the published ones ("yes/no", "number", "other").

    Args:
        folder: has the questions, the annotations and the images as published.
        split: "val" (214,354 questions) or "train"; answers to the test questions are not published.
        limit: the first questions of the file only.

    Returns:
        The questions in the file's order, with their images, each image once.

    Raises:
        TurboError: something is missing, the split is unknown, or the limit is larger than the part.
    """
    data = Published("vqav2", folder, LAYOUT)
    if split not in SPLITS:
        raise TurboError(f"vqav2: answers are published of {' and '.join(map(repr, SPLITS))} only, not of {split!r}")
    part = f"{split}2014"
    questions_file = data.find(f"v2_OpenEnded_mscoco_{part}_questions.json")
    answers_file = data.find(f"v2_mscoco_{part}_annotations.json")
    questions, answered = read_json(questions_file, _QUESTIONS), read_json(answers_file, _ANSWERS)
    with reading(questions_file, _QUESTIONS):
        asked = [(int(one["image_id"]), one["question_id"], str(one["question"])) for one in questions["questions"]]
    chosen = data.take(asked, limit, f"questions of the part {split!r}")
    with reading(answers_file, _ANSWERS):
        known = {one["question_id"]: _answers(one) for one in answered["annotations"]}
    if open_questions := [question for _, question, _ in chosen if question not in known]:
        raise TurboError(
            f"vqav2: {answers_file} has no answers to {len(open_questions)} of {len(chosen)} questions of "
            f"{questions_file.name}, first {open_questions[0]}; are the two files of the same version?"
        )
    position = {image: place for place, image in enumerate(dict.fromkeys(image for image, _, _ in chosen))}
    paths = [folder / part / f"COCO_{part}_{image:012d}.jpg" for image in position]
    data.find_images(paths)
    return Questions(
        f"vqav2 {split}",
        images_of_files(paths),
        image_of=tuple(position[image] for image, _, _ in chosen),
        questions=tuple(text for _, _, text in chosen),
        answers=tuple(known[question][0] for _, question, _ in chosen),
        kinds=tuple(known[question][1] for _, question, _ in chosen),
    )


_QUESTIONS = "a file of VQA v2's questions"
_ANSWERS = "a file of VQA v2's annotations"


def _answers(annotation: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    """The people's answers to a question, and its kind."""
    return tuple(str(one["answer"]) for one in annotation["answers"]), str(annotation["answer_type"])
