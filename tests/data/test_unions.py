"""Sets of published studies under one name."""

import inspect
import pickle

import pytest

from medrft.config import DataConfig
from medrft.data import LOADERS, load_data
from medrft.data.sets import unions as groups
from medrft.errors import DataError
from pmc_tables import V1, write_csv


@pytest.fixture
def domain(tmp_path, vqa_rad_root, slake_root, image_file):
    folder = tmp_path / "sets"
    folder.mkdir()
    (folder / "vqa_rad").symlink_to(vqa_rad_root)
    (folder / "slake").symlink_to(slake_root.parent if slake_root.name == "slake" else slake_root)
    for name in ("train", "val", "test"):
        place = folder / "path_vqa" / "qas" / name
        place.mkdir(parents=True)
        row = {"image": "a", "question": "Is it?", "answer": "no"}
        (place / f"{name}_qa.pkl").write_bytes(pickle.dumps([row]))
        # the picture of VQA-RAD's synpic1: shared images are found across sets too
        image_file(folder / "path_vqa" / "images" / name / "a.jpg", 50 if name == "test" else len(name))
    return folder


def test_armed_in_domain(domain):
    loaded = load_data(DataConfig(name="armed_in_domain", root=str(domain)), seed=0)
    assert {example.dataset for example in loaded.examples} == {"vqa_rad", "slake", "path_vqa"}
    assert loaded.report.read["train_vqa_rad"] == 8
    assert list(loaded.report.read)[-1] == "test_path_vqa"
    for name, read in loaded.report.read.items():
        assert read == loaded.report.kept[name] + sum(row.split == name for row in loaded.report.left_out)
    assert any("not the authors' split" in note for note in loaded.report.notes)
    assert any(note.startswith("train_vqa_rad and test_path_vqa share 1 image") for note in loaded.report.notes)
    assert {count.split for count in loaded.counts} >= {"train_vqa_rad", "validation_slake", "test_path_vqa"}
    without = load_data(DataConfig(name="armed_in_domain", root=str(domain), exclude_test_images=True), seed=0)
    assert without.report.kept["train_vqa_rad"] < loaded.report.kept["train_vqa_rad"]
    (domain / "slake").unlink()
    with pytest.raises(DataError, match="slake not there, found path_vqa/, vqa_rad/"):
        groups.load_armed_in_domain(domain)


def test_armed_out_of_domain_is_test_alone(tmp_path, image_file):
    write_csv(tmp_path / "pmc_vqa" / "test_clean.csv", [V1])
    write_csv(tmp_path / "pmc_vqa" / "train.csv", [V1])
    image_file(tmp_path / "pmc_vqa" / "images" / "PMC1.jpg", 1)
    (tmp_path / "vqa_med_2019").mkdir()
    (tmp_path / "vqa_med_2019" / "All_QA_Pairs_train.txt").write_text("s|what?|ct\n")
    (tmp_path / "medxpertqa").mkdir()
    (tmp_path / "medxpertqa" / "test.jsonl").write_text('{"id": "MM-0"}')
    loaded = LOADERS["armed_out_of_domain"](tmp_path)
    assert [example.id for example in loaded.examples] == ["pmc_vqa/test/clean-0"]
    assert loaded.report.read == {"test_vqa_med_2019": 0, "test_pmc_vqa": 1, "test_medxpertqa": 1}
    assert [count.split for count in loaded.counts] == list(loaded.report.read)


@pytest.fixture
def pmc_root(tmp_path, image_file):
    rows = [{**V1, "Figure_path": f"{number}.jpg"} for number in range(12)]
    write_csv(tmp_path / "train.csv", rows)
    write_csv(tmp_path / "test.csv", [{**V1, "Figure_path": f"t{number}.jpg"} for number in range(6)])
    for number in range(12):
        image_file(tmp_path / "images" / f"{number}.jpg", number * 20)
        image_file(tmp_path / "images" / f"t{number % 6}.jpg", number * 20 + 7)
    return tmp_path


def test_zhu_is_a_draw_by_its_own_seed(pmc_root):
    def drawn(**more):
        options = {"train": 5, "test": 3, **more}
        return [e.id for e in groups.load_zhu(pmc_root, **options).examples]

    ids = drawn()
    assert len(ids) == len(set(ids)) == 8
    assert "seed" not in inspect.signature(groups.load_zhu).parameters  # runs of other seeds train on the same rows
    assert ids != drawn(draw_seed=1)
    (pmc_root / "images" / f"{ids[0].rpartition('/')[2]}.jpg").unlink()
    assert len(set(drawn()) & set(ids)) == 7
    loaded = groups.load_zhu(pmc_root, train=5, test=3)
    assert loaded.report.dataset == "zhu"
    assert {e.dataset for e in loaded.examples} == {"pmc_vqa"}
    assert any("not the authors' split" in note for note in loaded.report.notes)
    with pytest.raises(DataError, match=r"draws 10,000 train rows of PMC-VQA, but .* has 11"):
        load_data(DataConfig(name="zhu", root=str(pmc_root)), seed=0)
