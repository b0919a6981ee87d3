"""`data.blank`: what a picture shows changes nothing, in either kind of stage."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from medrft.rundir import RunDir, read_json
from medrft.training.grpo import run_grpo
from medrft.training.sft import run_sft


def swapped(examples):
    """The same examples, each with the pictures of the next."""
    return [replace(e, images=other.images) for e, other in zip(examples, [*examples[1:], examples[0]], strict=True)]


@pytest.mark.parametrize(("run_stage", "number", "name"), [(run_sft, 0, "sft"), (run_grpo, 1, "grpo")])
def test_other_pictures_make_the_same_model(run_stage, number, name, trained, recipe, drawn, tmp_path):
    data = recipe().data.model_dump() | {"blank": True}
    finals = []
    for where, change in (("own", list), ("swapped", swapped)):
        run = RunDir.create(tmp_path / where)
        sets = {split: change(rows) for split, rows in drawn.items()}
        finals.append(trained(run_stage, recipe(data=data), number, run=run, **sets))
    one, other = (load_file(final / "model.safetensors") for final in finals)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert "a control, not a policy that sees" in (finals[0] / "README.md").read_text()
    checks = {check["name"]: check["passed"] for check in read_json(run.stage(name) / "preflight.json")["checks"]}
    assert checks["blank_image"] is None and checks["image_tokens"] is True


def test_without_it_they_make_another(trained, recipe, drawn, tmp_path):
    finals = []
    for where, change in (("own", list), ("swapped", swapped)):
        run = RunDir.create(tmp_path / where)
        sets = {split: change(rows) for split, rows in drawn.items()}
        finals.append(trained(run_sft, recipe(), 0, run=run, **sets))
    one, other = (load_file(final / "model.safetensors") for final in finals)
    assert not all(torch.equal(one[key], other[key]) for key in one)
    assert "a control, not a policy" not in (finals[0] / "README.md").read_text()
