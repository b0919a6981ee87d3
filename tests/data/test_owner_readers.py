"""Converted files in their owners' own readers. Neither package is a dependency; both need packages that clash with
ours, so they are looked for in a folder of their own, without what they ask for beside it:

    pip install --no-deps --target readers llamafactory==0.9.3 verl==0.9.1 ray tensordict pyvers protobuf msgpack \\
        jsonschema jsonschema-specifications attrs referencing rpds-py omegaconf antlr4-python3-runtime==4.9.3
    MEDRFT_READERS=readers pytest tests/data/test_owner_readers.py
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from medrft.cli.convert import _words
from medrft.config import DataConfig
from medrft.data import load_data
from medrft.data.tables.convert import write_format


@pytest.fixture(scope="module", autouse=True)
def readers():
    folder = os.environ.get("MEDRFT_READERS")
    if not folder:
        pytest.skip("set MEDRFT_READERS to a folder with llamafactory and verl (how: the top of this file)")
    sys.path.append(folder)  # after our own packages
    yield
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom")
    loaded = load_data(DataConfig(name="phantom", root=str(root), images=8), seed=0)
    return loaded.split("train")


def test_llama_factory_reads_its_rows(examples, tmp_path):
    pytest.importorskip("llamafactory")
    from llamafactory.data.loader import _load_single_dataset
    from llamafactory.data.parser import get_dataset_list

    write_format(examples, "llama_factory", tmp_path / "out", words=_words)
    (entry,) = get_dataset_list(["train"], str(tmp_path / "out"))
    model = SimpleNamespace(cache_dir=str(tmp_path / "cache"), hf_hub_token=None, trust_remote_code=False)
    data = SimpleNamespace(
        dataset_dir=str(tmp_path / "out"),
        media_dir=str(tmp_path / "out"),
        streaming=False,
        preprocessing_num_workers=None,
        max_samples=None,
        overwrite_cache=True,
    )
    rows = _load_single_dataset(entry, model, data, SimpleNamespace(local_process_index=0, dataloader_num_workers=0))
    assert len(rows) == len(examples)
    for row, example in zip(rows, examples, strict=True):
        assert [Path(path).is_file() for path in row["_images"]] == [True] * len(example.images)
        assert row["_prompt"][0]["content"].count("<image>") == len(example.images)
        assert example.references[0] in row["_response"][0]["content"] and row["_system"]


def test_verl_reads_its_rows(examples, tmp_path):
    pytest.importorskip("verl")
    from omegaconf import OmegaConf
    from verl.utils.dataset.rl_dataset import RLHFDataset

    write_format(examples, "verl", tmp_path / "out", words=_words)
    config = OmegaConf.create({"cache_dir": str(tmp_path / "cache"), "filter_overlong_prompts": False})
    processor = SimpleNamespace(image_processor=SimpleNamespace(patch_size=14))
    rows = RLHFDataset(str(tmp_path / "out" / "train.parquet"), tokenizer=None, config=config, processor=processor)
    assert len(rows) == len(examples)
    for number, example in enumerate(examples):
        row = rows[number]
        blocks = [block for turn in row["raw_prompt"] for block in turn["content"]]
        assert sum(block["type"] == "image" for block in blocks) == len(example.images)
        assert next(block["image"].size for block in blocks if block["type"] == "image")
        assert row["reward_model"]["ground_truth"] == example.references[0]
