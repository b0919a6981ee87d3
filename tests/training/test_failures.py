"""What goes wrong while a stage trains: counted and gone on from, or, where the recipe is strict, told in one line."""

import os
import sys

import pytest
import yaml

from loopback import Answer, Loopback, say
from medrft.errors import RecipeError, StrictError
from medrft.evaluation.run_files import RunFiles
from medrft.report.facts import facts_of
from medrft.rundir import read_json, read_jsonl
from medrft.store import read_rollouts
from medrft.training import grpo
from medrft.training.grpo import GRPO, run_grpo
from medrft.training.rows import Pictures
from medrft.training.sft import run_sft
from medrft.training.state import last_checkpoint
from toys import TABLE

RAISING = '''
calls = 0

def moody(items):
    """Raises on one item of each eight, alone or in a batch."""
    global calls
    if len(items) == 1 and calls % 8 == 7:
        calls += 1
        raise ValueError("no mood for this one")
    if len(items) == 1:
        calls += 1
        return [0.25 + 0.5 * (calls % 2)]
    raise ValueError("one of them")
'''


def stack(**part):
    return {"parts": [{"scorer": "bleu1", "weight": 0.5}, {"weight": 0.5, **part}]}


def rollouts(run, split="train"):
    return read_rollouts(
        run.path, f"SELECT * FROM rollouts WHERE split = '{split}' ORDER BY generation_step, group_id, sample"
    )


def trl(recipe, **more):
    return [{"name": "grpo", "kind": "grpo", "trl": {**recipe().stages[1].trl, "max_steps": 3, **more}}]


def metrics(run):
    return [row for row in read_jsonl(run.metrics) if row["split"] == "train"]


def check_left_out(run, names):
    """Unscored rows with a reason have no reward and no advantage; the rest of a group is its own baseline."""
    rows = rollouts(run)
    lost = [row for row in rows if row["unscored_reason"]]
    assert lost and all(row["reward"] is None and row["advantage"] == 0 for row in lost)
    assert all(name in row["unscored_reason"] for row in lost for name in names)
    for start in range(0, len(rows), 4):
        scored = [row for row in rows[start : start + 4] if row["reward"] is not None]
        mean = sum(row["reward"] for row in scored) / max(1, len(scored))
        assert all(abs(row["reward"] - mean) < 1e-6 or row["advantage"] * (row["reward"] - mean) > 0 for row in scored)
    by_step = {step: [row for row in rows if row["step"] == step - 1] for step in {row["step"] + 1 for row in rows}}
    for row in metrics(run):
        share = sum(bool(one["unscored_reason"]) for one in by_step[row["step"]]) / 8
        assert row["failed"] == row["unscored"] == pytest.approx(share)
    return lost


def told(run, recipe):
    """What the report says of failures."""
    run.write_recipe(recipe.model_dump(mode="json"))
    return [line for stage in facts_of(RunFiles(run.path)).stages for line in stage.failures]


@pytest.fixture
def moody(tmp_path):
    (tmp_path / "moody.py").write_text(RAISING)
    return stack(scorer=f"{tmp_path / 'moody.py'}:moody")


@pytest.mark.filterwarnings("ignore:moody")
def test_a_reward_that_raises_on_one_completion_leaves_that_one_out(trained, run, recipe, moody):
    made = recipe(reward=moody, stages=trl(recipe))
    trained(run_grpo, made, run=run, validation=[])
    lost = check_left_out(run, ["moody (ValueError: no mood for this one (moody.py, line"])
    assert len(lost) == 3 and len(rollouts(run)) == 24  # one of each eight
    assert all(row["raw"]["bleu1"] is not None and row["raw"]["moody"] is None for row in lost)
    assert told(run, made)[0].startswith("3 of 24 completions unscored: 3 × moody (ValueError: no mood")


@pytest.mark.filterwarnings("ignore:moody")
def test_strict_stops_at_a_reward_that_raises_with_the_last_checkpoint_intact(trained, run, recipe, moody, tmp_path):
    soft = (tmp_path / "moody.py").read_text()
    (tmp_path / "moody.py").write_text(soft.replace("calls % 8 == 7", "calls % 24 == 20"))  # in the third step
    made = recipe(reward=moody, strict=True, stages=trl(recipe, save_steps=1))
    with pytest.raises(
        StrictError, match=r"1 of 8 completions .* moody: ValueError: no mood .*phantom/train/.*--resume"
    ):
        trained(run_grpo, made, run=run, validation=[])
    kept = last_checkpoint(run.checkpoints("grpo"))
    assert kept.step == 2 and [row["step"] for row in metrics(run)] == [1, 2]
    (tmp_path / "moody.py").write_text(soft)
    trained(run_grpo, recipe(reward=moody, stages=trl(recipe, save_steps=1)), run=run, validation=[], resume=True)
    assert [row["step"] for row in metrics(run)] == [1, 2, 3]
    assert read_json(run.stage("grpo") / "stage.json")["status"] == "done"


@pytest.mark.filterwarnings("ignore:broken")
def test_a_validation_that_scored_nothing_chooses_no_checkpoint(trained, run, recipe, tmp_path, capsys):
    (tmp_path / "broken.py").write_text("def broken(items):\n    raise ValueError('no score today')\n")
    made = recipe(
        reward=stack(scorer=f"{tmp_path / 'broken.py'}:broken"), stages=trl(recipe, max_steps=1, eval_steps=1)
    )
    trained(run_grpo, made, run=run)
    record = read_json(run.stage("grpo") / "stage.json")
    assert record["status"] == "done" and record["best"] is None
    assert "validation at step 1 has no eval_reward (nothing in it was scored)" in capsys.readouterr().err


def test_a_figure_to_choose_by_that_no_validation_has_is_one_line(trained, run, recipe):
    table = {**recipe().stages[0].trl, "metric_for_best_model": "eval_bleu", "max_steps": 1, "eval_steps": 1}
    made = recipe(stages=[{"name": "sft", "kind": "sft", "trl": table}])
    with pytest.raises(RecipeError, match=r"metric_for_best_model is 'eval_bleu'; validation has eval_loss, "):
        trained(run_sft, made, run=run)


class Outage:
    """A judge that answers errors while it is down."""

    down = False

    def __call__(self, request, number):
        return Answer(503) if self.down else say("YES" if number % 2 else "NO")


@pytest.fixture
def outage(monkeypatch):
    """A judge that is down in the second generation batch; gives its reward."""
    state, seen = Outage(), []

    class Watching(GRPO):
        def _generate_and_score_completions(self, inputs):
            seen.append(None)
            state.down = len(seen) == 2
            return super()._generate_and_score_completions(inputs)

    monkeypatch.setattr(grpo, "GRPO", Watching)
    with Loopback(state) as server:
        options = {"model": "toy", "base_url": server.url, "retries": 0}
        yield stack(scorer="judge", options=options)


@pytest.mark.filterwarnings("ignore:judge")
def test_a_judge_that_is_down_for_a_while_leaves_out_what_it_did_not_see(trained, run, recipe, outage):
    made = recipe(reward=outage, stages=trl(recipe))
    trained(run_grpo, made, run=run, validation=[])
    lost = check_left_out(run, ["judge (no", "HTTP 503"])
    assert {row["step"] for row in lost} == {1}
    assert [row["failed"] > 0 for row in metrics(run)] == [False, True, False]  # it came back
    assert "judge (no reply: HTTP 503" in told(run, made)[0]


@pytest.mark.filterwarnings("ignore:judge")
def test_strict_stops_when_the_judge_is_down(trained, run, recipe, outage):
    made = recipe(reward=outage, strict=True, stages=trl(recipe, save_steps=1))
    with pytest.raises(StrictError, match=r"judge: no reply: HTTP 503.*strict=false"):
        trained(run_grpo, made, run=run, validation=[])
    assert last_checkpoint(run.checkpoints("grpo")).step == 1


@pytest.fixture
def copied(drawn, tmp_path):
    """Train examples whose pictures are the test's own, to be deleted."""
    from dataclasses import replace

    made = []
    for example in drawn["train"]:
        paths = tuple(tmp_path / "copies" / path.name for path in example.images)
        for path, own in zip(example.images, paths, strict=True):
            own.parent.mkdir(exist_ok=True)
            own.write_bytes(path.read_bytes())
        made.append(replace(example, images=paths))
    return made


@pytest.fixture
def vanishing(monkeypatch, copied):
    """Deletes every picture at the first judging, when the second batch is loaded, and keeps none in memory."""
    monkeypatch.setattr(Pictures.__init__, "__kwdefaults__", {"cached_pixels": 1})
    seen = []

    class Watching(GRPO):
        def _calculate_rewards(self, *args):
            seen.append(None)
            if len(seen) == 1:
                for path in {path for example in copied for path in example.images}:
                    os.unlink(path)
            return super()._calculate_rewards(*args)

    monkeypatch.setattr(grpo, "GRPO", Watching)
    return copied


def test_an_image_that_vanished_trains_nothing_in_grpo(trained, run, recipe, vanishing):
    made = recipe(stages=trl(recipe))
    trained(run_grpo, made, run=run, train=vanishing, validation=[])
    lost = check_left_out(run, ["missing image: "])
    assert len(lost) == 4 and len({row["group_id"] for row in lost}) == 1  # the other group's picture was in memory
    assert all(row["truth"] is None and row["correct"] is None and set(row["raw"].values()) == {None} for row in lost)
    assert [row["missing_image"] for row in metrics(run)] == [0, 0, 0.5]
    assert told(run, made)[0].startswith("4 of 24 completions unscored: 4 × missing image: ")


def test_strict_stops_at_an_image_that_vanished_in_grpo(trained, run, recipe, vanishing):
    made = recipe(strict=True, stages=trl(recipe, save_steps=1))
    with pytest.raises(StrictError, match=r"4 of 8 completions .* missing image: .*\.png"):
        trained(run_grpo, made, run=run, train=vanishing, validation=[])
    assert last_checkpoint(run.checkpoints("grpo")).step == 2


def test_an_image_that_vanished_gives_way_to_another_row_in_sft(trained, run, recipe, copied):
    gone = copied[0].images[0]
    gone.unlink()
    made = recipe(stages=[{"name": "sft", "kind": "sft", "trl": {**recipe().stages[0].trl, "max_steps": 12}}])
    trained(run_sft, made, run=run, train=copied)
    lost = list(read_jsonl(run.lost("sft")))
    assert lost and {row["reason"] for row in lost} == {f"missing image: {gone}"}
    assert {row["example"] for row in lost} <= {example.id for example in copied if gone in example.images}
    assert metrics(run)[-1]["replaced"] == len(lost)
    assert told(run, made)[0].startswith(f"{len(lost)} rows gave way to another: {len(lost)} × missing image")


def test_strict_stops_at_an_image_that_vanished_in_sft(trained, run, recipe, copied):
    for path in {path for example in copied[4:] for path in example.images} - set(copied[0].images):
        path.unlink()
    with pytest.raises(StrictError, match=r"missing image: .*\.png \(of phantom/train/.*strict=false"):
        trained(run_sft, recipe(strict=True), run=run, train=copied)


@pytest.mark.filterwarnings("ignore:moody")
def test_the_command_line_ends_with_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    from medrft.cli.main import main

    (tmp_path / "moody.py").write_text(RAISING)
    grpo_alone = {**TABLE["stages"][1], "start": "base"}
    reward = stack(scorer="moody.py:moody")
    table = {**TABLE, "strict": True, "stages": [grpo_alone], "reward": reward, "eval": {"base": "skip"}}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(table))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["medrft", "run", str(tmp_path / "toy.yaml"), "--output", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        main()
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2
    assert last.startswith("medrft: 1 of 8 completions") and "ValueError: no mood" in last and "strict=false" in last
