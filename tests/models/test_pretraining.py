"""benchmarks/pretrain_phantom.py: a row of many questions is each of them alone, and a killed training goes on."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medrft.models.prompts import get_prompt, with_images
from medrft.types import Example

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def pretraining(monkeypatch):
    """The script and its rows, made small."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    rows = importlib.import_module("pretraining_rows")
    script = importlib.import_module("pretrain_phantom")
    texts = [text for number in range(60) for pair in rows.draw_lesson(1, number, 32).pairs for text in pair]
    for module, name, value in [
        *((module, "SHARD", 16) for module in (rows, script)),
        *((script, name, value) for name, value in {"BATCH": 4, "KEEP": 2, "EXAMINE": 4, "EXAM_IMAGES": 1}.items()),
        (script, "tokenizer_texts", lambda: texts),
    ]:
        monkeypatch.setattr(module, name, value)
    yield script, rows
    for name in ("pretraining_rows", "pretrain_phantom"):
        sys.modules.pop(name, None)


def test_a_row_of_many_questions_is_each_of_them_alone(pretraining, tmp_path):
    script, rows = pretraining
    student, policy = script.build_student(tmp_path)
    writer = rows.Writer(policy.processor)
    rows._WRITER = writer
    shard = rows.read_shard(rows.draw_shard(tmp_path / "0.npz", 0))
    batch = rows.make_batch(shard, np.arange(2), writer)
    lesson = rows.draw_lesson(rows.SEED, 0, rows.SIZE)
    with torch.no_grad():
        inner = student.model.model
        texts = inner.get_input_embeddings()(batch.ids)
        where = (batch.ids == writer.image)[..., None]
        hidden = inner.language_model(
            inputs_embeds=texts.masked_scatter(where, student.see(batch.pixels)),
            attention_mask=batch.mask,
            position_ids=batch.places,
        ).last_hidden_state
        logits = student.model.lm_head(hidden.flatten(0, 1)[batch.source])
    at = 0
    for question, answer in lesson.pairs:
        example = Example(
            **{"id": "x", "dataset": "x", "split": "train", "images": (Path("x"),), "question": question},
            **{"references": (answer,), "kind": "open"},
        )
        prompt = get_prompt(lesson.prompt).bound(policy.processor)
        picture = script.Image.fromarray(lesson.pixels)
        chat = [
            *with_images(prompt.messages(example), [picture]),
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        ]
        inputs = policy.processor.apply_chat_template([chat], tokenize=True, return_dict=True, return_tensors="pt")
        said = len(writer.encode(answer)) + 1
        with torch.no_grad():
            alone = student.model(**inputs).logits[0, -said - 1 : -1]
        assert batch.target[at : at + said].tolist() == inputs["input_ids"][0, -said:].tolist()
        assert torch.allclose(logits[at : at + said], alone, atol=1e-3)
        at += said


def test_a_killed_training_goes_on_to_the_same_weights(pretraining, tmp_path, monkeypatch):
    script, _ = pretraining
    script.train(tmp_path / "whole", 5)
    real, calls = script.take_step, []

    def killed(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(script, "take_step", killed)
    with pytest.raises(KeyboardInterrupt):
        script.train(tmp_path / "killed", 5)
    monkeypatch.setattr(script, "take_step", real)
    script.train(tmp_path / "killed", 5)
    one, other = (torch.load(tmp_path / name / "training.pt", weights_only=True) for name in ("whole", "killed"))
    assert one["step"] == other["step"] == 5 and one["questions"] == other["questions"]
    assert all(torch.equal(weight, other["student"][name]) for name, weight in one["student"].items())
    curves = [(tmp_path / name / "curve.jsonl").read_text().count("\n") for name in ("whole", "killed")]
    assert curves == [2, 2]
    script.finish(tmp_path / "killed")
    assert (tmp_path / "killed" / "final" / "model.safetensors").is_file()
