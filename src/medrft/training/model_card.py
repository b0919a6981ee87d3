"""Writes the model card of a stage's final folder: the run's files go in, `README.md` comes out.

It is written when the stage ends, and again once there are results.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from medrft.config import Recipe, StageConfig
from medrft.masking import MASK
from medrft.models.bundled import is_bundled
from medrft.rundir import RunDir, read_record, write_atomic
from medrft.training.licences import Licence, licence_of

WARNING = (
    "**Not a medical device.** This model was made for research on training methods. It has not been validated for "
    "any clinical use; do not use it to diagnose, treat or advise."
)
SHOWN = ("accuracy", "correct", "exact_match", "recall", "average", "truth", "answer_format", "truncated")
"""Metrics in the card's table; the run's report has all of them."""

OURS = Licence("apache-2.0")
UNKNOWN = Licence("other")


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
        *_usage(recipe, facts),
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
        **(OURS if ours else licence_of(recipe.model.id) or UNKNOWN).as_front_matter(),
        "tags": ["medrft", "medical", "visual-question-answering", str(facts.get("kind", ""))],
    }
    if not ours:
        table["base_model"] = recipe.model.id
    return ["---", yaml.safe_dump(table, sort_keys=False).rstrip(), "---", ""]


USAGE = """\
```python
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

here = "."  # this folder, or the name under which it was uploaded
model = AutoModelForImageTextToText.from_pretrained(here, dtype="auto")
processor = AutoProcessor.from_pretrained(here)
asked = {asked}
picture = Image.open("scan.png").convert("RGB")
question = "Is there a pleural effusion?"
{messages}
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
).to(model.dtype)
tokens = model.generate(**inputs, max_new_tokens={tokens}, do_sample=False)
print(processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0])
```"""
IN_SYSTEM = """\
messages = [
    {"role": "system", "content": [{"type": "text", "text": asked}]},
    {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]},
]"""
IN_USER = """\
text = f"{asked}\\n{question}"
messages = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": text}]}]"""


def _usage(recipe: Recipe, facts: Mapping[str, Any]) -> Iterator[str]:
    """How to ask the model as it was trained; nothing for a stage of a medrft that did not record the words."""
    words = facts.get("prompt_text")
    if not words:
        return
    form = {"think": "`<think>…</think><answer>…</answer>`", "direct": "`<answer>…</answer>`"}
    yield "## Use"
    yield ""
    answer = form.get(str(facts.get("form")), "a short text")
    yield f"It was trained to be asked in these words, and to answer with {answer}:"
    yield ""
    yield from ("```text", words, "```")  # in a block of code, for its tags are no HTML
    yield ""
    messages = IN_SYSTEM if facts.get("system_role") else IN_USER
    # Not str.format: the messages hold braces of their own.
    code = USAGE.replace("{asked}", json.dumps(words)).replace("{messages}", messages)
    yield code.replace("{tokens}", str(recipe.eval.max_new_tokens))
    yield ""
    yield f"Pictures were first shrunk to at most {recipe.data.max_pixels:,} pixels, as `medrft eval` does."
    yield ""


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
        licence = licence_of(recipe.model.id)
        named = f", {licence.says}{f' ({licence.link})' if licence.link else ''}," if licence else ""
        yield (
            f"The licence of `{recipe.model.id}`{named} applies to these weights; so do the terms of the training data."
        )
        if licence is None:
            yield "Its name was not at hand here: see the card of that model."
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
