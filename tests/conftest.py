"""Fixtures for all tests: the shared real data where it is there, and small releases in the official layouts."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from medrft import masking
from medrft.hub import _unreachable
from medrft.torchvision_ops import declare_missing_operators
from vqa_rad_rows import vqa_rad_row

# On a busy machine an example that takes 10 ms may take 300; that says nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
declare_missing_operators()  # before any test module imports transformers


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    """What a test before this one found of the hub, or gave as a secret, does not hold here."""
    _unreachable.cache_clear()
    masking._remembered.clear()


REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets in their official layouts, from MEDRFT_SHARED or `../shared`; skips without it."""
    root = Path(os.environ.get("MEDRFT_SHARED") or REPOSITORY.parent / "shared") / "data"
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set MEDRFT_SHARED to the folder that holds data/vqa_rad and data/slake")
    return root


def write_image(
    path: Path, shade: int = 0, *, size: tuple[int, int] = (12, 9), mode: str = "RGB", **save: object
) -> Path:
    """A small image whose pixels depend on `shade`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size, shade % 256)
    image.putpixel((0, 0), (shade * 7 + 40) % 256)
    image.convert(mode).save(path, **save)
    return path


@pytest.fixture
def image_file() -> Callable[..., Path]:
    """`image_file(path, shade, size=, mode=, …)` writes a small image."""
    return write_image


VQA_RAD_ROWS = [
    vqa_rad_row("0", "synpic1.jpg", "Is the heart enlarged?", "Yes"),
    vqa_rad_row(1, "synpic1.jpg", "Are the lungs clear?", "no ", phrase_type="test_freeform", answer_type="CLOSED "),
    vqa_rad_row(2, "synpic2.jpg", "How many ribs are seen? ", 12, question_type="COUNT", answer_type="OPEN"),
    vqa_rad_row(3, "synpic2.jpg", "Which organs, if any, are seen?", "Heart \tlungs", question_type="ORGAN"),
    vqa_rad_row(4, "synpic2.jpg", "Is it the left or the right lung?", "Left", question_type="POS, PRES"),
    vqa_rad_row(5, "synpic3.jpg", "Is there a mass?", "NULL"),
    vqa_rad_row(6, "absent.jpg", "Is there a mass?", "No"),
    vqa_rad_row(7, "synpic3.jpg", "Where is the mass?", "Right", phrase_type="para", question_type="PRSE"),
    vqa_rad_row(8, "synpic4.jpg", "Where is the mass?", "Right side", phrase_type="test_para", image_organ="ABD"),
    vqa_rad_row(9, "synpic2.jpg", "What is abnormal?", "None", question_type="Other", question_relation="NULL"),
]


@pytest.fixture
def vqa_rad_root(tmp_path: Path) -> Path:
    """A VQA-RAD folder of ten rows with one of each trap; synpic1 is in train and in test."""
    root = tmp_path / "vqa_rad"
    for number in range(1, 5):
        write_image(root / "VQA_RAD Image Folder" / f"synpic{number}.jpg", number * 50)
    (root / "VQA_RAD Dataset Public.json").write_text(json.dumps(VQA_RAD_ROWS), encoding="utf-8")
    return root


def slake_row(qid: int, image: int, question: str, answer: str, lang: str = "en", **more: object) -> dict:
    """A row with the official fields."""
    return {
        "img_id": image,
        "img_name": f"xmlab{image}/source.jpg",
        "question": question,
        "answer": answer,
        "q_lang": lang,
        "location": "Brain_Tissue",
        "modality": "CT",
        "answer_type": "OPEN",
        "base_type": "vqa",
        "content_type": "Organ",
        "triple": ["vhead", "_", "_"],
        "qid": qid,
        **more,
    }


SLAKE_ROWS = {
    "train": [
        slake_row(0, 0, "Which organs are seen?", "Lung, Spinal Cord"),
        slake_row(1, 0, "Is there a lung?", "Yes", answer_type="CLOSED"),
        slake_row(2, 0, "Is it left or right?", "Left", answer_type="CLOSED"),
        slake_row(1622, 1, "Does the picture contain liver?", ""),
        slake_row(4, 1, "图中包含肝脏吗?", "不包含", "zh", answer_type="CLOSED"),
        slake_row(5, 1, "图中存在哪些疾病?", "不存在", "zh"),
        slake_row(6, 1, "这张图片看起来正常吗?", "不正常", "zh", answer_type="CLOSED"),
    ],
    "validate": [
        slake_row(7, 2, "Which plane?", "Transverse Plane"),
        slake_row(8, 2, "哪个器官?", "肺,肝脏", "zh"),
    ],
    "test": [
        slake_row(9, 3, "Which plane?", "Transverse Plane"),
        slake_row(10, 0, "有肺吗?", "有", "zh", answer_type="CLOSED"),
    ],
}


@pytest.fixture
def slake_root(tmp_path: Path) -> Path:
    """A SLAKE folder of eleven rows in two languages with one of each trap; image 0 is in train_en and in test_zh."""
    root = tmp_path / "Slake1.0"
    for number in range(4):
        write_image(root / "imgs" / f"xmlab{number}" / "source.jpg", number * 60)
    for name, rows in SLAKE_ROWS.items():
        (root / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return root
