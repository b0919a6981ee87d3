"""Audits a run's reward on its train questions before the first GRPO stage, and writes the audit into the run folder.

    audit/summary.json  findings.jsonl  audit.html   the audit
    audit/audited.json                               a hash of what it depends on

`audited.json` is written last: without it the audit counts as not finished.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from medrft.config import StageConfig
from medrft.errors import RecipeError
from medrft.files import hash_file
from medrft.pipeline.job import Job
from medrft.rundir import fingerprint, read_record, write_json
from medrft.scorers.custom import files_in
from medrft.types import KINDS, Example


def audit_reward(job: Job, stages: Sequence[StageConfig]) -> None:
    """Audit the run's reward on its own train questions; an audit of the same reward and questions is not repeated.

    Raises `RecipeError` for a finding that is at least as severe as `audit.stop_on`, each time the run starts.
    """
    kinds = {kind for stage in stages if stage.kind == "grpo" for kind in stage.kinds or KINDS}
    examples = [example for example in job.split("train") if example.kind in kinds]
    if not examples:
        return
    from medrft.audit import at_least

    folder = job.run.path / "audit"
    key = audited_key(job, examples)
    summary = read_record(folder / "summary.json")
    if read_record(folder / "audited.json").get("key") != key or "rewards" not in summary:
        summary = _audit(job, examples)
        write_json(folder / "audited.json", {"key": key})
    severity = job.recipe.audit.stop_on
    found = at_least(summary, severity) if severity else []
    if found:
        raise RecipeError(
            f"the audit of the reward found {', '.join(found)}, and audit.stop_on is {severity}; read "
            f"{folder / 'audit.html'}, then change the reward or set audit.stop_on=null"
        )


def _audit(job: Job, examples: Sequence[Example]) -> dict[str, Any]:
    from medrft.audit import audit_run_reward
    from medrft.models.prompts import get_prompt
    from medrft.report.audit import write_audit_page
    from medrft.rewards import reward_of

    folder = job.run.path / "audit"
    reward = reward_of(job.recipe)
    with job.bar("Auditing the reward") as advance:
        form = get_prompt(job.recipe.prompt).form
        name = job.recipe.reward if isinstance(job.recipe.reward, str) else "reward"
        summary = audit_run_reward(reward, examples, folder, seed=job.recipe.seed, form=form, name=name)
        advance(1, 1)
    write_audit_page(folder)
    return summary


def audited_key(job: Job, examples: Sequence[Example]) -> str:
    """A hash of all that an audit depends on: reward, `correct`, the user's own files, and questions."""
    from medrft import __version__
    from medrft.models.prompts import get_prompt

    recipe = job.recipe
    settings = recipe.model_dump(mode="json", include={"reward", "correct", "encoder", "clinical", "seed"})
    own = files_in([settings[key] for key in ("reward", "correct", "clinical")])
    code = {str(path): hash_file(path) for path in own}
    rows = [(e.id, e.kind, e.question, e.options, e.references) for e in examples]
    return fingerprint(
        [json.dumps(part) for part in (__version__, settings, code, get_prompt(recipe.prompt).form, rows)]
    )
