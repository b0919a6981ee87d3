"""README and Start, word by word, as a user does who has nothing else of ours: from a clone, and from a built wheel.

Both install torch and train the quickstart, so they are in the slow set. The time to the first result of each door is
held to what README says of it, after all pages were followed:

    nice -n 15 .venv/bin/python -m pytest -m slow tests/test_walk.py -s    # prints each command with its seconds
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from doc_blocks import follow

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "README.md",
    *(f"docs/start/{name}.md" for name in ("quickstart", "your_data", "audit", "predictions", "rewards_only")),
]
LIMITS = {
    "medrft audit --reward armed ": 60,
    "medrft rescore": 60,
    "medrft run quickstart": 480,
    "make quickstart": 480,
}
"""Beginning of a command -> the seconds that it may take on two cores with nothing beside it."""

pytestmark = pytest.mark.slow


def call(*words: object, folder: Path) -> None:
    told = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([str(w) for w in words], cwd=folder, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"


def walk(sources: Path, folder: Path, scripts: Path, *, clone: bool) -> None:
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "PYTHONPATH": "", "XDG_CACHE_HOME": str(folder.parent / "cache")}
    late = []
    for name in PAGES:
        if clone and name == "docs/start/quickstart.md":
            continue  # its first command is README's first, and trains for five minutes
        place = folder if clone else folder / Path(name).stem  # each page begins in an empty folder, or in the clone
        place.mkdir(exist_ok=True)
        for command, seconds in follow(sources / name, place, environment=environment, clone=clone):
            told = f"{name}: {seconds:.0f} s: {command.splitlines()[0]}"
            print(told, flush=True)
            limit = next((limit for start, limit in LIMITS.items() if command.startswith(start)), None)
            late += [f"{told} (limit {limit} s)"] if limit is not None and seconds >= limit else []
    assert not late, f"slower than README says; run it again with nothing beside it: {late}"


def test_from_a_clean_clone(tmp_path):
    clone = tmp_path / "medrft"
    call("git", "clone", "--quiet", ROOT, clone, folder=tmp_path)
    call("make", "setup", f"PYTHON={sys.executable}", folder=clone)
    walk(clone, clone, clone / ".venv" / "bin", clone=True)


def test_from_a_built_wheel_in_an_empty_environment(tmp_path):
    call(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        tmp_path / "dist",
        ROOT,
        folder=ROOT,
    )
    wheel = next((tmp_path / "dist").glob("medrft-*.whl"))
    call(sys.executable, "-m", "venv", tmp_path / "user", folder=tmp_path)
    pip = (tmp_path / "user" / "bin" / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt")
    call(*pip, "torch", folder=tmp_path)
    call(*pip, f"{wheel}[train]", folder=tmp_path)
    (tmp_path / "work").mkdir()
    walk(ROOT, tmp_path / "work", tmp_path / "user" / "bin", clone=False)
