"""Writes the model card of a stage's final folder: the run's files go in, `README.md` comes out.

It is written when the stage ends, and again once there are results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from medrft.config import Recipe, StageConfig
from medrft.masking import MASK
from medrft.models.bundled import is_bundled
from medrft.rundir import RunDir, read_record, write_atomic

WARNING = (
    "**Not a medical device.** This model was made for research on training methods. It has not been validated for "
    "any clinical use; do not use it to diagnose, treat or advise."
)
SHOWN = ("accuracy", "correct", "exact_match", "recall", "average", "truth", "answer_format", "truncated")
"""Metrics in the card's table; the run's report has all of them."""

TINY_LICENCE = "apache-2.0"


def write_model_card(run: RunDir, recipe: Recipe, stage: str) -> Path:
    """Write `README.md` into the stage's final folder: data, leakage, reward and encoder, results, licence.

    Call it again after an evaluation to add the results.
    """
    facts = run.record(stage)
    data = read_record(run.path / "data.json")
    lines = [
        *_header(recipe, facts),
        f"# {recipe.name}: stage {stage}",
        "",
        WARNING,
        "",
        *_training(recipe, facts),
        *_data(data, blanked=recipe.data.blank),
        *_reward(recipe, facts),
        *_results(run, recipe, stage),
        *_licence(recipe),
    ]
    path = run.final(stage) / "README.md"
    write_atomic(path, "\n".join(lines).rstrip() + "\n")
    return path


def _header(recipe: Recipe, facts: Mapping[str, Any]) -> list[str]:
    """The YAML block at the top, which the hub reads."""
    ours = recipe.model.id.startswith("tiny:") or is_bundled(recipe.model.id)
    table: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "license": TINY_LICENCE if ours else "other",
        "tags": ["medrft", "medical", "visual-question-answering", str(facts.get("kind", ""))],
    }
    if not ours:
        table["base_model"] = recipe.model.id
    return ["---", yaml.safe_dump(table, sort_keys=False).rstrip(), "---", ""]


def _training(recipe: Recipe, facts: Mapping[str, Any]) -> Iterator[str]:
    yield "## Training"
    yield ""
    yield f"- Method: {str(facts.get('kind')).upper()} with TRL"
    yield f"- Start: `{recipe.model.id}`, stage `{facts.get('start')}`"
    yield f"- {facts.get('steps')} optimizer steps, {facts.get('seconds')} s of training; seed {recipe.seed}"
    yield f"- Prompt `{facts.get('prompt')}` (hash `{facts.get('prompt_hash')}`), answer form `{facts.get('form')}`"
    best = facts.get("best")
    if best:
        yield f"- Checkpoint of step {best['step']}, chosen on validation ({best['metric']} = {best['value']:.4g})"
    else:
        yield "- The last step's weights (there was no validation to choose on)"
    if facts.get("wall_clock"):
        clock = facts["wall_clock"]
        yield f"- Trained for the wall clock of stage `{clock['of']}` ({clock['seconds']:.0f} s)"
    for key, value in sorted((facts.get("trl") or {}).items()):
        yield f"  - `{key}: {value}`"
    yield ""


def _data(data: Mapping[str, Any], *, blanked: bool) -> Iterator[str]:
    yield "## Data"
    yield ""
    for split, facts in data.get("splits", {}).items():
        kinds = ", ".join(f"{count} {kind}" for kind, count in facts["kinds"].items())
        yield (
            f"- {data['dataset']} {split}: {facts['examples']} questions on {facts['images']} images ({kinds}); "
            f"fingerprint `{facts['fingerprint']}`"
        )
    for reason, count in data.get("left_out", {}).get("reasons", {}).items():
        yield f"- Left out: {count} ({reason})"
    if blanked:
        yield "- A grey picture in place of each (`data.blank`): a control, not a policy that sees"
    yield ""
    yield "### Leakage"
    yield ""
    notes = [*(data.get("notes") or ()), *(data.get("leakage", {}).get("notes") or ())]
    yield from (f"- {note}" for note in notes or ["The loader reported nothing that splits share."])
    yield ""


def _reward(recipe: Recipe, facts: Mapping[str, Any]) -> Iterator[str]:
    if facts.get("kind") != "grpo":
        return
    yield "## Reward"
    yield ""
    encoder = recipe.encoder
    names = encoder.id if encoder.bertscore is None else f"{encoder.id} (cosine), {encoder.bertscore} (BERTScore)"
    yield f"Sentence encoder: `{names}`."
    yield ""
    yield "```yaml"
    yield yaml.safe_dump(facts.get("reward"), sort_keys=False, allow_unicode=True).rstrip()
    yield "```"
    yield ""


def _results(run: RunDir, recipe: Recipe, stage: str) -> Iterator[str]:
    yield "## Results"
    yield ""
    files = sorted((run.path / "eval" / stage).glob("*/metrics.json"))
    if not files:
        yield "Not evaluated yet."
        yield ""
        return
    yield "| data set | kind | metric | mean | 95 % interval | n |"
    yield "|---|---|---|---|---|---|"
    for path in files:
        for kind, metrics in read_record(path).get("results", {}).get("none", {}).items():
            for name in SHOWN:
                row = metrics.get(name)
                if row and row["mean"] is not None:
                    interval = "–" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
                    yield f"| {path.parent.name} | {kind} | {name} | {row['mean']:.3f} | {interval} | {row['n']} |"
    yield ""
    yield "Greedy answers on test; 95 % intervals over images, for this training seed."
    yield f"Similarity metrics use `{recipe.encoder.id}`."
    yield "Baselines and controls stand beside these figures in the run's report; read them together."
    yield ""


def _licence(recipe: Recipe) -> Iterator[str]:
    yield "## Licence"
    yield ""
    if recipe.model.id.startswith("tiny:"):
        yield "The weights started random and are offered under Apache-2.0, as far as the data's own terms allow."
    elif is_bundled(recipe.model.id):
        yield f"`{recipe.model.id}` comes with medrft under Apache-2.0; the terms of the training data apply besides."
    else:
        yield f"The licence of `{recipe.model.id}` applies to these weights; so do the terms of the training data."
    yield ""


def hub_target(config: StageConfig, *, default: str) -> dict[str, Any] | None:
    """Where to push, or `None` if the table does not ask for it.

    A run's files hold a mask in place of the token; then it is `None`, and the hub client takes the environment's.

    >>> stage = StageConfig(name="grpo", kind="grpo", trl={"push_to_hub": True, "hub_model_id": "me/vqa"})
    >>> hub_target(stage, default="run-grpo")
    {'repo_id': 'me/vqa', 'private': None, 'token': None, 'revision': None}
    """
    table = config.trl
    if not table.get("push_to_hub"):
        return None
    return {
        "repo_id": table.get("hub_model_id") or default,
        "private": table.get("hub_private_repo"),
        "token": None if table.get("hub_token") == MASK else table.get("hub_token"),
        "revision": table.get("hub_revision"),
    }


def publish_model(final: Path, config: StageConfig) -> str | None:
    """Upload the final folder with its card if `push_to_hub` asks for it; returns the repository's address."""
    target = hub_target(config, default=f"medrft-{config.name}")
    if target is None:
        return None
    from huggingface_hub import HfApi

    api = HfApi(token=target["token"])
    repo = api.create_repo(target["repo_id"], private=target["private"], exist_ok=True)
    api.upload_folder(
        repo_id=repo.repo_id,
        folder_path=final,
        revision=target["revision"],
        commit_message=f"medrft stage {config.name}",
    )
    return str(repo)
