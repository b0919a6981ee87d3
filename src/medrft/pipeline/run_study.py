"""Runs a study: from its arms to one small result file for each; stages that arms share are trained once.

Several processes may run one study at the same time. A process that finds an arm locked takes another one; if it finds
a shared stage locked it waits. A lock ends with its process, so a killed process leaves none behind.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from medrft.errors import RunInUseError
from medrft.files import check_writable, locked_folder
from medrft.pipeline.evaluating import evaluate_engine, evaluate_stage, open_engine
from medrft.pipeline.job import Job, open_job, start_model
from medrft.pipeline.run import check_names, tell_recipients, train_stage
from medrft.pipeline.study_outcome import cost_of, write_outcome
from medrft.progress import Bar, no_bar
from medrft.rundir import RunDir, read_json, write_json
from medrft.studies.arms import Arm, Shared, start_from
from medrft.studies.costs import own_cost
from medrft.studies.plan import FORM_SHARE, Study
from medrft.studies.result_files import Places, Result, read_result

Tell = Callable[[str], None]

FORM_QUESTIONS = 200


@dataclass
class Grid:
    """A study that is being run, with the folders of its runs, its shared stages and its results."""

    output: Path
    places: Places
    bar: Bar = no_bar
    tell: Tell = print
    audit: str | None = None
    """Hash of the audit that the study's results are held against; each new result carries it."""
    trained: list[str] = field(default_factory=list)
    """Keys of the shared stages that this process trained."""

    @property
    def cache(self) -> Path:
        """The folder of shared stages by key; studies with the same parent folder share them."""
        return self.output.parent / "cache"

    def folder(self, arm: Arm) -> Path:
        """The arm's run folder; that of a control lies beside the study's, for other studies find it there."""
        return (self.output.parent / "controls" if arm.control else self.output) / arm.folder

    def is_done(self, arm: Arm) -> bool:
        """Whether the arm's result is there with the arm's present key."""
        path = self.places.result(arm)
        return path.is_file() and read_result(path)["key"] == arm.key

    def run(self, arms: list[Arm]) -> list[Path]:
        """Run the arms that have no result yet and return the new result files."""
        for folder in (self.places.own, self.output):
            check_writable(folder / "study.json")
        if any(arm.control for arm in arms):
            check_writable(self.places.controls / "study.json")
        for arm in {arm.name: arm for arm in arms}.values():
            check_names(arm.recipe)
            for shared in arm.shared:
                tell_recipients(shared.recipe)
        done: list[Path] = []
        said = 0
        waiting = [arm for arm in arms if not self.is_done(arm)]
        while waiting:
            left = []
            for arm in waiting:
                try:
                    with locked_folder(self.folder(arm)):
                        # Another process may have finished it since it was listed.
                        if not self.is_done(arm):
                            done.append(self.run_arm(arm, number=arms.index(arm) + 1, of=len(arms)))
                except RunInUseError:
                    left.append(arm)
            waiting = [arm for arm in left if not self.is_done(arm)]
            if waiting and len(waiting) != said:
                self.tell(f"waiting for other processes: {', '.join(arm.label for arm in waiting)}")
                said = len(waiting)
            if waiting:
                time.sleep(5)
        return done

    def run_arm(self, arm: Arm, *, number: int, of: int) -> Path:
        """Train what the arm needs, evaluate it, and write its result file."""
        self.tell(f"{arm.label} ({number} of {of})")
        began = time.monotonic()
        model, costs = self.shared_models(arm)
        form = self.form(arm)
        recipe = start_from(arm.recipe, model)
        job = open_job(recipe, output=self.folder(arm), resume=True, bar=self.bar)
        start_model(job)
        for stage in recipe.stages:
            train_stage(job, stage)
            costs.append(cost_of(job.run, stage.name, shared=None))
        last = recipe.stages[-1].name if recipe.stages else "start"
        asked = time.monotonic()
        evaluate_start(job) if last == "start" else evaluate_stage(job, last)
        evaluation = time.monotonic() - asked
        extra = {"cost": costs, "evaluation_seconds": round(evaluation, 1), "form": form}
        extra |= {"audit": self.audit} if self.audit else {}
        path = self.places.result(arm)
        write_outcome(path, arm, job, stage=last, extra=extra)
        # Checkpoints serve to resume alone, and those of dozens of arms would fill the disk.
        for stage in recipe.stages:
            shutil.rmtree(job.run.checkpoints(stage.name), ignore_errors=True)
        self.tell(f"{arm.label}: done in {time.monotonic() - began:.0f} s, {path}")
        return path

    def shared_models(self, arm: Arm) -> tuple[Path | None, list[dict[str, Any]]]:
        """The model before the arm's own stages (`None`: the recipe's), and what each shared stage cost.

        Trains the shared stages that are missing. The cost counts whichever process trained them.
        """
        model: Path | None = None
        costs = []
        for shared in arm.shared:
            run = RunDir(self.cache / shared.key)
            with locked_folder(run.path, wait=True, tell=self.tell):
                if is_missing(run, shared):
                    self.tell(f"  shared stage {shared.stage.name} ({shared.key})")
                    train_shared(shared, run, model, self.bar)
                    self.trained.append(shared.key)
            model = run.final(shared.stage.name)
            costs.append(cost_of(run, shared.stage.name, shared=shared.key))
        return model, costs

    def form(self, arm: Arm) -> dict[str, Any] | None:
        """How often the study's base keeps the answer form when sampled; measured once per base and kept with it."""
        if arm.base is None:
            return None
        run = RunDir(self.cache / arm.base.key)
        path = run.path / f"form-{arm.recipe.prompt}.json"
        with locked_folder(run.path, wait=True, tell=self.tell):
            if not path.is_file():
                write_json(path, measure_form(arm, run.final(arm.base.stage.name)))
        facts: dict[str, Any] = read_json(path)
        low, high = FORM_SHARE
        if not low <= facts["answered"] <= high:
            self.tell(f"  warning: the base writes the form in {facts['answered']:.1%}, not in 5 to 30 %")
        return facts


def is_missing(run: RunDir, shared: Shared) -> bool:
    """Whether a shared stage has still to be trained."""
    from medrft.training.state import needs_training

    return needs_training(run, shared.stage.name)


def train_shared(shared: Shared, run: RunDir, start: Path | None, bar: Bar) -> None:
    """Train a shared stage, or resume its training."""
    job = open_job(start_from(shared.recipe, start), output=run.path, resume=True, bar=bar)
    start_model(job)
    train_stage(job, shared.stage)
    shutil.rmtree(run.checkpoints(shared.stage.name), ignore_errors=True)


def evaluate_start(job: Job) -> None:
    """Evaluate an arm without stages of its own, which is its start model, in the same way as every arm."""
    evaluate_engine(job, open_engine(job, start_model(job)), stage="start")


def measure_form(arm: Arm, model: Path) -> dict[str, Any]:
    """The share of completions with an answer in the form, sampled at T = 1 on the first validation questions."""
    from medrft.data import load_data
    from medrft.evaluation.engines import open_pictures
    from medrft.models.generate import Generation, generate
    from medrft.models.load import load_policy
    from medrft.models.prompts import get_prompt
    from medrft.text import extract

    recipe = start_from(arm.recipe, model)
    loaded = load_data(recipe.data, seed=recipe.seed)
    asked = [example for example in loaded.examples if example.split == "validation"][:FORM_QUESTIONS]
    prompt = get_prompt(recipe.prompt)
    groups = generate(
        load_policy(recipe.model, model),
        prompt,
        asked,
        Generation(
            max_new_tokens=recipe.eval.max_new_tokens,
            temperature=1.0,
            samples=4,
            seed=recipe.seed,
            batch_size=recipe.eval.batch_size,
        ),
        images=open_pictures(recipe.data),
    )
    found = [extract(completion.text, prompt.form) for group in groups for completion in group]
    n = len(found)
    return {
        "answered": round(sum(one.answer is not None for one in found) / n, 4),
        "well_formed": round(sum(one.well_formed for one in found) / n, 4),
        "n": n,
        "questions": len(asked),
        "temperature": 1.0,
        "seed": recipe.seed,
    }


def forecast_study(study: Study, grid: Grid, arms: Sequence[Arm]) -> dict[str, Any]:
    """Arms, shared stages and expected hours before anything is run.

    Times come from result files where there are any, else from the study's `seconds_per_arm`.
    """
    results = {arm.label: read_result(grid.places.result(arm)) for arm in arms if grid.is_done(arm)}
    left = [arm for arm in arms if arm.label not in results]
    shared = {one.key: one for arm in left for one in arm.shared if is_missing(RunDir(grid.cache / one.key), one)}
    stages = {s["shared"]: s for result in results.values() for s in result["cost"] if s["shared"]}
    stage_seconds = {key: _stage_seconds(one, stages) for key, one in shared.items()}
    seconds = [_arm_seconds(arm, results, study.table.budget.seconds_per_arm) for arm in left]
    known = [value for value in seconds if value is not None]
    each = fmean(known) if known else None
    total = sum(known) + sum(value for value in stage_seconds.values() if value is not None)
    return {
        "study": study.name,
        "arms": [
            {"arm": arm.label, "key": arm.key, "done": arm.label in results, "stages": _stages(arm)} for arm in arms
        ],
        "shared": [
            {"key": key, "stage": one.stage.name, "seed": one.recipe.seed, "seconds": stage_seconds[key]}
            for key, one in shared.items()
        ],
        "left": len(left),
        "seconds_per_arm": None if each is None else round(each, 1),
        "seconds_from": "measured" if results else "stated" if each else "unknown",
        "hours": None if len(known) < len(left) else round(total / 3600, 2),
        "budget": study.table.budget.statement,
        "primary": study.table.primary.model_dump(),
    }


def _stages(arm: Arm) -> list[str]:
    return [*(f"{one.stage.name} (shared)" for one in arm.shared), *(stage.name for stage in arm.recipe.stages)]


def _arm_seconds(arm: Arm, results: Mapping[str, Result], stated: float | None) -> float | None:
    """Seconds that an arm is expected to take: the median of its other seeds, else of similar arms, else as stated.

    Similar are arms that train, if it trains, and arms that do not, if it does not.
    """
    costs = {label: (result["arm"], own_cost(result)) for label, result in results.items()}
    same = [cost for name, cost in costs.values() if name == arm.name]
    alike = [cost for _, cost in costs.values() if bool(cost["steps"]) == bool(arm.recipe.stages)]
    measured = same or alike
    return median(cost["seconds"] + cost["evaluation_seconds"] for cost in measured) if measured else stated


def _stage_seconds(shared: Shared, stages: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Seconds that a shared stage took as recorded in a result, else the median of stages with the same name."""
    if shared.key in stages:
        return float(stages[shared.key]["seconds"])
    alike = [stage["seconds"] for stage in stages.values() if stage["stage"] == shared.stage.name]
    return round(median(alike), 1) if alike else None
