"""The file of an audit that a study's results are held against: `audit.json` in the folder of its result files.

    {"hash": "5f0c…", "material": …, "rewards": {"bleu1": {"reward": "9a1b…", "figures": {"snr": 0.7, …}, …}, …}}

`hash` is over all the rest. It is written before training and committed; each result of the study carries it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrft.errors import DataError, RecipeError
from medrft.rundir import read_json, write_json
from medrft.studies.arms import json_digest, reward_digest
from medrft.studies.plan import Study
from medrft.studies.result_files import Places, read_results


def audit_path(places: Places) -> Path:
    """Where a study's audit lies."""
    return places.own / "audit.json"


def read_audit(study: Study, places: Places) -> dict[str, Any] | None:
    """The study's audit; `None` without one.

    Raises `DataError` for a file whose hash is not that of its content, `RecipeError` for one that lacks an arm's
    reward or was made of another.
    """
    path = audit_path(places)
    if study.table.predict is None or not path.is_file():
        return None
    found: dict[str, Any] = read_json(path)
    if found.get("hash") != audit_hash(found):
        raise DataError(f"{path} was changed after it was written; take it from its commit, or audit anew: --audit")
    for arms in study.table.predict.families.values():
        for arm in arms:
            own = reward_digest(study.recipe(arm, study.table.seeds[0]))
            if found["rewards"].get(arm, {}).get("reward") != own:
                raise RecipeError(f"{path} is not of the present reward of arm {arm!r}; audit anew: --audit")
    return found


def needed_audit(study: Study, places: Places) -> str | None:
    """The hash that new results must carry; `None` for a study that predicts nothing.

    Raises `RecipeError` where the study is to be held against an audit that has not been made.
    """
    found = read_audit(study, places)
    if study.table.predict is not None and found is None:
        raise RecipeError(
            f"{study.path} holds its results against an audit, and {audit_path(places)} is not there; write it before "
            "any training: the same command with --audit"
        )
    return None if found is None else str(found["hash"])


def write_audit_file(content: Mapping[str, Any], places: Places) -> dict[str, Any]:
    """Write an audit with its hash and return it.

    Raises `RecipeError` if results of this folder carry the hash of another audit: with them in sight a new one would
    prove nothing.
    """
    made = {"hash": audit_hash(content), **content}
    others = {result["audit"] for result in read_results(places.own) if result.get("audit")} - {made["hash"]}
    if others:
        raise RecipeError(
            f"results in {places.own} were trained after audit {sorted(others)[0]}, and this one would be another "
            f"({made['hash']}); take them away, or name another folder with --results"
        )
    write_json(audit_path(places), made)
    return made


def audit_hash(content: Mapping[str, Any]) -> str:
    """16 hex digits over all of an audit but its hash."""
    return json_digest({key: value for key, value in content.items() if key != "hash"})
