"""Audits the rewards of a study's arms on its own questions, as `medrft audit` does, and writes the study's audit file.

The questions are the train rows of the study's recipe with seed 0, which no arm is trained or evaluated on as long as
the study leaves that seed to pilots. Everything is drawn by seed, so the same code writes the same file again.
"""

from __future__ import annotations

from typing import Any

from medrft import __version__
from medrft.audit import Material, Settings, audit_rewards
from medrft.audit.figures import audit_figures
from medrft.audit.sources import most_frequent
from medrft.audit.subject import Own, encoder_of
from medrft.data.splits import draw_examples
from medrft.errors import RecipeError
from medrft.models.prompts import get_prompt
from medrft.progress import Bar, no_bar
from medrft.rewards import reward_of
from medrft.studies.arms import reward_digest
from medrft.studies.audit_file import write_audit_file
from medrft.studies.plan import Study
from medrft.studies.result_files import Places, round_floats

SEED = 0
EXAMPLES = 240
"""As many questions as `medrft audit` draws of a data set."""


def audit_study(study: Study, places: Places, *, bar: Bar = no_bar) -> dict[str, Any]:
    """Audit each arm of the study's families, write the file, and return it.

    Raises `RecipeError` for a study that is held against no audit, that trains on seed 0, or whose folder has results
    of another audit.
    """
    from medrft.data import load_data

    plan = study.table.predict
    if plan is None:
        raise RecipeError(f"{study.path} has no `predict:`, so its results are held against no audit")
    if SEED in study.table.seeds:
        raise RecipeError(f"{study.path}: the audit reads the questions of seed {SEED}; take it out of seeds")
    names = [name for arms in plan.families.values() for name in arms]
    recipes = {name: study.recipe(name, SEED) for name in names}
    first = recipes[names[0]]
    with bar("Loading data") as advance:
        train = load_data(first.data, seed=SEED, on_progress=advance).split("train")
    material = Material(
        names=[f"{first.data.name}:train"],
        examples=draw_examples(train, EXAMPLES, seed=SEED),
        frequent=most_frequent(train),
    )
    settings = Settings(form=get_prompt(first.prompt).form, seed=SEED)
    subjects = []
    for name, recipe in recipes.items():
        reward = reward_of(recipe)
        subjects.append(Own(name=name, reward=reward, encoder=encoder_of(reward)))
    with bar("Auditing") as advance:
        done = iter(range(len(names)))
        summary = audit_rewards(subjects, material, settings, out=None, step=lambda _: advance(next(done), len(names)))
    rewards = {name: _told(summary["rewards"][name], reward_digest(recipes[name])) for name in names}
    content = {
        "study": study.name,
        "medrft": __version__,
        "material": {"data": material.names, "seed": SEED, "questions": len(material.examples)},
        "groups": summary["groups"],
        "probes": summary["probes"],
        "thresholds": summary["thresholds"],
        "rewards": rewards,
    }
    return write_audit_file(content, places)


def _told(row: dict[str, Any], reward: str) -> dict[str, Any]:
    """What the file keeps of one reward's audit: its reward's hash, figures, findings by name, verdict."""
    return {
        "reward": reward,
        "encoder": row["encoder"],
        "figures": {name: round_floats(value) for name, value in audit_figures(row).items()},
        "findings": sorted(f"{one['severity']} {one['name']}" for one in row["findings"] if _lasts(one["name"])),
    }


def _lasts(name: str) -> bool:
    """Whether a finding depends on the reward alone; how fast it is depends on the machine."""
    return name not in ("slow", "superlinear")
