"""VQA-Med-2021: one question on the abnormality of each radiology image (CC BY 4.0; Ben Abacha et al., CLEF 2021).

    synpic51774|what is most alarming about this x-ray?          Task1-VQA-2021-TestSet-Questions.txt
    synpic51774|clavicle fracture|fracture of the clavicle       Task1-VQA-2021-TestSet-ReferenceAnswers.txt

Test has its questions and its answers in two files, joined by image; `|` stands between accepted answers (75 of the 500
rows have several). Validation is lines of image, question and answer. Train is the 4,500 pairs of VQA-Med-2020, an
archive of its own, read where it lies beside the others.
"""

from __future__ import annotations

from pathlib import Path

from medrft.data import base, fields
from medrft.data.base import Loaded, Reading
from medrft.data.counts import Form
from medrft.data.layout import Release
from medrft.data.sets.vqa_med_2019 import lines_of, parse_pair
from medrft.progress import Advance
from medrft.types import SPLITS, Split

OFFICIAL = Form(name="the official release", rows={"validation": 500, "test": 500})
WITH_TRAIN = Form(name="the official release with VQA-Med-2020", rows={"train": 4_500, **OFFICIAL.rows})
RELEASE = Release(
    dataset="vqa_med_2021",
    wanted="Task1-VQA-2021-TestSet-Questions.txt and …-ReferenceAnswers.txt with VQA-500-Images/, and "
    "VQA-Med-2021-VQAnswering-Task1-New-ValidationSet.txt with its images, the archives unpacked in one folder",
    source="https://github.com/abachaa/VQA-Med-2021 (CC BY 4.0)",
)
QUESTIONS = "Task1-VQA-2021-TestSet-Questions.txt"
ANSWERS = "Task1-VQA-2021-TestSet-ReferenceAnswers.txt"
TEST_IMAGES = ("VQA-500-Images", "Task1-VQA-2021-TestSet-Images", "images")
PAIRS: tuple[tuple[Split, str, str], ...] = (
    ("train", "VQAnswering_2020_Train_QA_pairs.txt", "VQAnswering_2020_Train_images"),
    ("train", "VQAnswering_2020_Val_QA_Pairs.txt", "VQAnswering_2020_Val_images"),
    (
        "validation",
        "VQA-Med-2021-VQAnswering-Task1-New-ValidationSet.txt",
        "ImageCLEF-2021-VQA-Med-New-Validation-Images",
    ),
)


def load_vqa_med_2021(
    root: Path | None,
    *,
    revision: str | None = None,
    cache: Path | None = None,
    image_root: str | Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read the unpacked archives, or a hub copy with image, question and answer.

    `image_root` is one folder with all images, if they are not beside the questions. Raises `DataError` if no file of
    questions is found, or if test lacks its answers.
    """
    if root is not None and fields.is_hub_form(root):
        reading = Reading("vqa_med_2021", splits=SPLITS, forms=(WITH_TRAIN,))
        fields.read_hub(reading, root, fields.plain_fields, revision=revision, cache=cache)
        return reading.done(on_progress)
    root = RELEASE.require(root)
    files = {name: fields.find_file(root, name) for name in (QUESTIONS, ANSWERS, *(name for _, name, _ in PAIRS))}
    fields.require_any(RELEASE, root, files)
    if (files[QUESTIONS] is None) != (files[ANSWERS] is None):
        raise RELEASE.wrong(root, missing=QUESTIONS if files[QUESTIONS] is None else ANSWERS)
    trained = any(files[name] for split, name, _ in PAIRS if split == "train")
    reading = Reading("vqa_med_2021", splits=SPLITS, forms=(WITH_TRAIN if trained else OFFICIAL,))
    for split, name, folder in PAIRS:
        path = files[name]
        if path is not None:
            _read_pairs(reading, path, split=split, images=_images(root, image_root, folder))
    questions, answers = files[QUESTIONS], files[ANSWERS]
    if questions is not None and answers is not None:
        _read_test(reading, questions, answers, images=_images(root, image_root, *TEST_IMAGES))
    return reading.done(on_progress)


def parse_answers(line: str) -> tuple[str, tuple[str, ...]]:
    """Image and accepted answers of a line of test.

    >>> parse_answers("synpic1|clavicle fracture|fracture of the clavicle")
    ('synpic1', ('clavicle fracture', 'fracture of the clavicle'))
    """
    image, *answers = (part.strip() for part in line.split("|"))
    return image, tuple(answer for answer in answers if answer)


def _images(root: Path, image_root: str | Path | None, *names: str) -> Path:
    return Path(image_root) if image_root else fields.find_file(root, *names) or root / names[0]


def _read_pairs(reading: Reading, path: Path, *, split: Split, images: Path) -> None:
    for number, line in lines_of(path):
        pair = parse_pair(line)
        if pair is None:
            row = f"vqa_med_2021/{split}/row{number}"
            reading.leave(row, split, base.NOT_A_ROW, f"{path.name}, line {number + 1}: {line!r:.60}")
        else:
            _keep(reading, pair[0], pair[1], (pair[2],), split=split, images=images)


def _read_test(reading: Reading, questions: Path, answers: Path, *, images: Path) -> None:
    """Each question with its answers; one without an answer is left out, and answers without a question are noted."""
    accepted = dict(parse_answers(line) for _, line in lines_of(answers))
    asked = set()
    for number, line in lines_of(questions):
        image, bar, question = (part.strip() for part in line.partition("|"))
        if not bar:
            reading.leave(f"vqa_med_2021/test/row{number}", "test", base.NOT_A_ROW, f"line {number + 1}: {line!r:.60}")
        else:
            _keep(reading, image, question, accepted.get(image, ()), split="test", images=images)
        asked.add(image)
    lost = sorted(set(accepted) - asked)
    if lost:
        more = ", …" if len(lost) > 5 else ""
        reading.notes.append(f"test: {len(lost)} images have answers but no question: {', '.join(lost[:5])}{more}")


def _keep(reading: Reading, image: str, question: str, answers: tuple[str, ...], *, split: Split, images: Path) -> None:
    found = fields.Fields(
        question=question,
        answers=answers,
        images=(fields.with_ending(image),) if image else (),
        folder=images,
        metadata={"synpic_id": image, "question_type": "abnormality"},
    )
    fields.keep_row(reading, f"vqa_med_2021/{split}/{image}", split, found)
