import json

import pytest

from medrft.data.sets import slake
from medrft.data.summary import summarize_data
from medrft.errors import DataError, UnknownNameError


def by_id(root, lang="all"):
    return {example.id: example for example in slake.load_slake(root, lang=lang).examples}


def test_english_by_default(slake_root):
    loaded = slake.load_slake(slake_root)
    assert loaded.report.read == {"train": 4, "validation": 1, "test": 1}
    assert loaded.report.kept == {"train": 3, "validation": 1, "test": 1}
    assert {example.metadata["q_lang"] for example in loaded.examples} == {"en"}


@pytest.mark.parametrize(("lang", "kept"), [("en", 5), ("zh", 5), ("all", 10)])
def test_languages(slake_root, lang, kept):
    assert len(slake.load_slake(slake_root, lang=lang).examples) == kept


def test_both_languages_are_reported_apart(slake_root):
    loaded = slake.load_slake(slake_root, lang="all")
    assert loaded.report.read == {
        **{"train_en": 4, "validation_en": 1, "test_en": 1},
        **{"train_zh": 3, "validation_zh": 1, "test_zh": 1},
    }
    assert {example.split for example in loaded.examples} == {"train", "validation", "test"}
    summary = summarize_data(loaded)
    assert summary["splits"]["train_en"]["rows"] == 4
    assert summary["splits"]["train_en"]["left_out"] == {"empty answer": 1}
    assert summary["splits"]["train_zh"]["kinds"] == {"closed": 1, "choice": 0, "open": 2}


def test_languages_leak_into_each_other(slake_root):
    notes = slake.load_slake(slake_root, lang="all").report.notes
    assert any(note.startswith("train_en and test_zh share 1 image") for note in notes)
    assert not any("share" in note for note in slake.load_slake(slake_root).report.notes)


def test_empty_answer_of_1622(slake_root):
    (left,) = slake.load_slake(slake_root).report.left_out
    assert (left.row, left.split, left.reason) == ("slake/train/1622", "train", "empty answer")


def test_list_answers_have_members(slake_root):
    examples = by_id(slake_root)
    assert examples["slake/train/0"].references == ("Lung, Spinal Cord",)
    assert examples["slake/train/0"].metadata["answer_list"] == ["Lung", "Spinal Cord"]
    assert examples["slake/validation/8"].metadata["answer_list"] == ["肺", "肝脏"]
    assert "answer_list" not in examples["slake/train/1"].metadata


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("slake/train/1", "closed"),
        ("slake/train/2", "open"),  # CLOSED in SLAKE, yet the answer is Left
        ("slake/train/4", "closed"),  # 不包含, does not contain
        ("slake/train/5", "open"),  # 不存在 answers "which diseases?"
        ("slake/train/6", "open"),  # 不正常 says abnormal, neither yes nor no
        ("slake/test/10", "closed"),  # 有, there is
    ],
)
def test_kinds(slake_root, name, kind):
    assert by_id(slake_root)[name].kind == kind


def test_metadata(slake_root):
    metadata = by_id(slake_root)["slake/train/0"].metadata
    assert (metadata["organ"], metadata["modality"], metadata["question_type"]) == ("brain tissue", "CT", "Organ")
    assert metadata["answer_type"] == "OPEN"


def test_key_order_and_missing_keys(slake_root):
    path = slake_root / "train.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    turned = [dict(reversed(row.items())) for row in rows]
    del turned[1]["answer"]
    del turned[2]["content_type"]
    path.write_text(json.dumps([*turned, 3, {"q_lang": "fr", "qid": 99}]), encoding="utf-8")
    loaded = slake.load_slake(slake_root)
    assert loaded.report.read["train"] == 6
    assert loaded.report.reasons() == {"missing column": 2, "empty answer": 1, "not a row": 1}
    assert "slake/train/2" in {example.id for example in loaded.examples}


def test_hub_copy_and_parent_folder(slake_root):
    (slake_root / "validate.json").rename(slake_root / "validation.json")
    assert len(slake.load_slake(slake_root.parent).examples) == 5


def test_missing_root_and_wrong_layout(slake_root, tmp_path):
    with pytest.raises(DataError, match=r"train\.json.*med-vqa\.com"):
        slake.load_slake(None)
    with pytest.raises(DataError, match="nothing is there"):
        slake.load_slake(tmp_path / "Slake")
    with pytest.raises(UnknownNameError, match="known: all, en, zh"):
        slake.load_slake(slake_root, lang="fr")
    (slake_root / "test.json").unlink()
    with pytest.raises(DataError, match=r"test\.json, a list of rows, is missing.*found imgs/, train\.json"):
        slake.load_slake(slake_root)
    (slake_root / "imgs").rename(slake_root / "pictures")
    (slake_root / "imgs.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"unpack imgs\.zip"):
        slake.load_slake(slake_root)


def test_official_release(shared_data):
    loaded = slake.load_slake(shared_data / "slake" / "Slake1.0", lang="all")
    assert loaded.report.read == {
        **{"train_en": 4919, "validation_en": 1053, "test_en": 1061},
        **{"train_zh": 4916, "validation_zh": 1046, "test_zh": 1033},
    }
    assert [(row.row, row.reason) for row in loaded.report.left_out] == [("slake/train/1622", "empty answer")]
    assert len({path for example in loaded.examples for path in example.images}) == 642
    kinds = summarize_data(loaded)["splits"]
    assert {name: split["kinds"]["closed"] for name, split in kinds.items()} == {
        **{"train_en": 1681, "validation_en": 358, "test_en": 355},
        **{"train_zh": 1671, "validation_zh": 354, "test_zh": 347},
    }
