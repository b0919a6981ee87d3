"""The command line as a new user meets it, wrong arguments included."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def medrft(*words, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "medrft", *map(str, words)], capture_output=True, text=True, cwd=cwd, check=False
    )


def last_line(done):
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "recipes/quikstart.yaml"), "did you mean recipes/quickstart.yaml?"),
        (("run", "recipes/quickstart.yaml", "--set", "sead=1"), "unknown key 'sead'; did you mean 'seed'?"),
        (("run", "recipes/quickstart.yaml", "--set", "seed"), "--set takes key=value"),
        (("run", "recipes/quickstart.yaml", "--set", "prompt=thnk"), "unknown prompt 'thnk'; did you mean 'think'?"),
        (("run", "recipes/quickstart.yaml", "--set", "data.name=phantm"), "did you mean 'phantom'?"),
        (("run", "recipes/quickstart.yaml", "--set", "data.thougths=3"), "did you mean 'thoughts'?"),
        (("run", "recipes/quickstart.yaml", "--set", "reward=armd"), "did you mean 'armed'?"),
        (("run", "recipes/quickstart.yaml", "--set", "model.device=cuda"), "torch sees no GPU"),
        (("run", "recipes/quickstart.yaml", "--set", "stages.grpo.trl.num_generations=1"), "num_generations"),
        (("run", "recipes/quickstart.yaml", "--set", "stages.grpo.trl.per_device_train_batch_size=9"), "9"),
        (("run", "recipes/quickstart.yaml", "--set", "stages.grpo.trl.reward_weights=[1]"), "reward_weights"),
        (
            ("run", "recipes/quickstart.yaml", "--set", "stages.grpo.trl.learning_rat=1"),
            "did you mean 'learning_rate'?",
        ),
        (("run", "recipes/vqa_rad.yaml", "--set", "data.root=/nowhere"), "/nowhere"),
        (("run", "recipes/vqa_rad.yaml"), "data.root"),
        (("grpo", "recipes/quickstart.yaml", "--stage", "sft"), "is no grpo stage"),
        (("report", "recipes"), "is not a run folder"),
        (("doctor", "recipes"), "is not a run folder"),
        (("eval", "recipes"), "is not a run folder"),
        (("data", "check", "vqa_rda", "."), "did you mean 'vqa_rad'?"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(words, expected, tmp_path, monkeypatch, capsys):
    from medrft.cli.main import main

    monkeypatch.chdir(ROOT)
    output = ("--output", tmp_path / "run") if words[0] in ("run", "grpo") else ()
    monkeypatch.setattr(sys, "argv", ["medrft", *map(str, (*words, *output))])
    with pytest.raises(SystemExit) as ended:  # in this process: importing the trainer anew costs seconds
        main()
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2
    assert message.startswith("medrft: ") and expected in message
    assert not (tmp_path / "run" / "stages").exists()


def test_what_stops_a_run_is_told_once(tmp_path, monkeypatch, capsys):
    from medrft.cli.main import main

    (tmp_path / "model").mkdir()
    changes = [f"model.id={tmp_path / 'model'}", f"model.chat_template={tmp_path / 'own.jinja'}"]
    words = ["run", ROOT / "recipes" / "quickstart.yaml", *(word for key in changes for word in ("--set", key))]
    monkeypatch.setattr(sys, "argv", ["medrft", *map(str, words), "--output", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("medrft: no chat template at ")


def test_a_full_disk_is_one_line(monkeypatch, capsys):
    from medrft.cli import main

    def full(**options):
        raise OSError(28, "No space left on device", "runs/x/metrics.jsonl")

    monkeypatch.setattr(main, "app", full)
    with pytest.raises(SystemExit) as ended:
        main.main()
    told = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1 and len(told) == 1
    assert "the disk is full at runs/x/metrics.jsonl; make space" in told[0] and "--resume" in told[0]


def test_a_folder_that_holds_a_run_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    (tmp_path / "stages" / "sft").mkdir(parents=True)
    (tmp_path / "stages" / "sft" / "stage.json").write_text("{}")
    done = medrft("run", "recipes/quickstart.yaml", "--output", tmp_path)
    assert done.returncode == 2
    assert "already holds a run; choose another --output or pass --resume" in last_line(done)


@pytest.mark.parametrize(
    "words",
    [
        (),
        *[(name,) for name in ("run", "sft", "grpo", "eval", "report", "score", "rollouts", "doctor", "data")],
        ("data", "check"),
    ],
)
def test_every_command_has_help(words):
    done = medrft(*words, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout and len(done.stdout.splitlines()) > 5


def test_version():
    import medrft as package

    assert medrft("--version").stdout.strip() == f"medrft {package.__version__}"


def test_import_is_quick_and_light():
    code = (
        "import time; start = time.perf_counter(); import medrft, sys; "
        "print('torch' in sys.modules, time.perf_counter() - start)"
    )
    loaded, seconds = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert loaded == "False"
    assert float(seconds) < 0.5


def test_json_is_all_that_stands_on_standard_output():
    done = medrft("data", "check", "phantom", "--set", "images=4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["splits"]
