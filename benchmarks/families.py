"""What works with which family of models: each row of the table in docs/models.md, earned by running it.

    python benchmarks/families.py [FAMILY …] [--check]

Builds `tiny:<family>`, saves it in the hub's layout, and sends that folder through `medrft run`'s own functions on a
small table of pictures of four shapes: SFT and GRPO for two steps, the same GRPO with gradient checkpointing and with
LoRA, an evaluation, and the final folder once more in plain transformers. Writes results/families.json and the table of
docs/models.md; `--check` runs nothing and fails where the two differ.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from medrft.config import ModelConfig, Recipe
from medrft.errors import MedrftError, PreflightError
from medrft.models.faults import FAULTS
from medrft.models.load import TINY, load_policy, resolve_base
from medrft.models.prompts import get_prompt, with_images
from medrft.models.tokens import placeholder_ids
from medrft.pipeline.run import run_recipe
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir, read_json, read_jsonl, write_atomic, write_json
from medrft.types import Item, Score

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "families.json"
PAGE = ROOT / "docs" / "models.md"
BLOCK = re.compile(r"(<!-- families -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Family:
    """One row of the table."""

    label: str
    """Models that people bring."""
    tiny: str
    """What stands for them: `tiny:<family>`."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of the recipe's `model`."""


def mended(name: str) -> dict[str, Any]:
    """The setting by which a family is asked through the template that recipes/templates mends for SFT."""
    return {"chat_template": str(ROOT / "recipes" / "templates" / f"{name}.jinja")}


FAMILIES = {
    "qwen2_vl": Family("Qwen2-VL", "qwen2_vl"),
    "qwen2_5_vl": Family("Qwen2.5-VL", "qwen2_5_vl"),
    "qwen3_vl": Family("Qwen3-VL", "qwen3_vl"),
    "qwen3_vl_thinking": Family("Qwen3-VL Thinking", "qwen3_vl_thinking"),
    "qwen3_5": Family("Qwen3.5", "qwen3_5"),
    "qwen3_5_thinking": Family("Qwen3.5, thinking", "qwen3_5", {"chat_template_kwargs": {"enable_thinking": True}}),
    "internvl": Family("InternVL 3, tiled", "internvl"),
    "internvl_one_tile": Family("InternVL 3, one tile", "internvl_one_tile"),
    "gemma3_it": Family("Gemma 3, MedGemma", "gemma3_it"),
    "gemma4": Family("Gemma 4", "gemma4"),
    "smolvlm": Family("SmolVLM2", "smolvlm"),
    "idefics3": Family("Idefics 3", "idefics3"),
    "llava_1_5": Family("LLaVA 1.5, LLaVA-Med", "llava_1_5"),
    "llava_1_5_mended": Family("LLaVA 1.5, mended template", "llava_1_5", mended("llava_1_5")),
    "llava_next": Family("LLaVA-NeXT", "llava_next"),
    "llava_onevision": Family("LLaVA-OneVision", "llava_onevision"),
    "llava_onevision_mended": Family("LLaVA-OneVision, mended template", "llava_onevision", mended("llava_onevision")),
    "mllama": Family("Llama 3.2 Vision", "mllama"),
    "glm4v": Family("GLM-4.1V", "glm4v"),
    "glm4v_mended": Family("GLM-4.1V, mended template", "glm4v", mended("glm4v")),
    "aya_vision": Family("Aya Vision", "aya_vision"),
    "mistral3": Family("Mistral Small 3.1", "mistral3"),
    "paligemma": Family("PaliGemma 2", "paligemma"),
}
COLUMNS = {
    "loads": "loads",
    "preflight": "preflight",
    "sft": "SFT",
    "grpo": "GRPO",
    "shared_loss": "shared in the loss",
    "shared_rollouts": "in rollouts",
    "shared_evaluation": "in evaluation",
    "lora": "LoRA",
    "checkpointing": "checkpointing",
    "reloads": "reloads",
}
SIZES = {"image": 64, "vision_hidden": 32, "vision_layers": 2, "hidden": 32, "layers": 4, "mlp": 64, "vocab": 700}
SHAPES = ((64, 64), (96, 48), (48, 96), (64, 48))
"""Width and height of the pictures, so that tiles and grids differ from row to row."""
QUESTIONS = ("Is the heart large?", "On which side does the pleural effusion lie?", "Which plane is shown?")
TOKENS = 8
DATASET = "pictures"
"""The table's folder, and so its name."""
STEP = {"max_steps": 2, "logging_steps": 1, "eval_steps": 2, "learning_rate": 1e-3}
SFT = {**STEP, "per_device_train_batch_size": 4}
GRPO = {
    **STEP,
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": TOKENS,
    "beta": 0.04,
}

STAGES = {"sft": "SFT", "grpo": "GRPO"}

Cell = dict[str, Any]
"""`state` (yes, no, refused, falls back, not run, traceback), `why` in one line, and what was measured."""


class Letters:
    """The share of letters in a completion: a reward by which the babble of a random model differs."""

    name: ClassVar[str] = "letters"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()
    about: ClassVar[str] = "form"

    def applies(self, item: Item) -> bool:
        """To every kind of question."""
        return True

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """One score per item, in [0, 1]."""
        return [sum(map(str.isalpha, item.completion)) / max(1, len(item.completion)) for item in items]


def write_table(folder: Path) -> Path:
    """A small table data set: drawn pictures of four shapes, questions with thoughts and answers."""
    (folder / "img").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(12):
        width, height = SHAPES[number % len(SHAPES)]
        shades = np.kron(draw.integers(0, 255, (height // 16, width // 16)), np.ones((16, 16))).astype(np.uint8)
        Image.fromarray(shades).convert("RGB").save(folder / "img" / f"{number}.png")
    for split, numbers in (("train", range(8)), ("validation", range(8, 10)), ("test", range(8, 12))):
        rows = [
            {
                "image": f"img/{number}.png",
                "question": question,
                "answer": ("left", "right lung")[(number + i) % 2],
                "rationale": "The heart is wide and the left lung is clear.",
            }
            for number in numbers
            for i, question in enumerate(QUESTIONS[: 1 if split == "validation" else 2])
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def save_tiny(family: str, folder: Path, *, sizes: dict[str, int] | None = None) -> Path:
    """The random model of a family in the hub's layout, as a user would have it on a disk."""
    prompt = get_prompt("think")
    words = [prompt.role, prompt.instruction, *QUESTIONS, "<think>The heart is wide.</think><answer>left</answer>"]
    config = ModelConfig(id=f"{TINY}{family}", tiny=sizes or SIZES, device="cpu")
    return Path(resolve_base(config, texts=words * 20, output=folder, seed=0))


def recipe_of(model: Path, data: Path, *, settings: Mapping[str, Any]) -> Recipe:
    """Two steps of each kind of training from the model in that folder; `settings` are further keys of `model`."""
    grpo = {"kind": "grpo", "start": "base", "evaluate": False}
    stages = [
        {"name": "sft", "kind": "sft", "evaluate": False, "trl": SFT},
        {"name": "grpo", **grpo, "evaluate": True, "trl": GRPO},
        {"name": "checkpointed", **grpo, "trl": {**GRPO, "gradient_checkpointing": True}},
    ]
    return parse_recipe(
        {
            "name": "families",
            "prompt": "think",
            "model": {"id": str(model), "device": "cpu", "dtype": "float32", **settings},
            "data": {"name": "table", "root": str(data)},
            "reward": {"parts": [{"scorer": f"{Path(__file__).resolve()}:Letters", "weight": 1.0}]},
            "stages": stages,
            "eval": {"batch_size": 4, "max_new_tokens": TOKENS, "controls": [], "base": "skip"},
        }
    )


def measured(name: str, folder: Path) -> dict[str, Cell]:
    """One row of the table: what happened to this family's tiny model, stage by stage; works in `folder`."""
    family = FAMILIES[name]
    model, data = save_tiny(family.tiny, folder / "model"), write_table(folder / DATASET)
    attempt = partial(_attempt, {str(model): f"{TINY}{family.tiny}", str(folder): "RUN", str(ROOT): "."})
    row: dict[str, Cell] = {column: {"state": "not run"} for column in COLUMNS}
    row["loads"] = attempt(lambda: _loaded(model, family.model))
    if row["loads"]["state"] != "yes":
        return row
    recipe, run = recipe_of(model, data, settings=family.model), RunDir(folder / "run")
    row["sft"] = attempt(lambda: _trained(recipe, run, "sft"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        row["grpo"] = attempt(lambda: _trained(recipe, run, "grpo"))
    row["preflight"] = attempt(lambda: _preflight(run))
    adapted = recipe_of(model, data, settings={**family.model, "lora": {"r": 4, "lora_alpha": 8}})
    row["lora"] = attempt(lambda: _adapted(adapted, RunDir(folder / "lora")))
    if row["grpo"]["state"] == "yes":
        row |= {f"shared_{path}": _shared(run, path) for path in ("loss", "rollouts")}
        row["shared_evaluation"] = attempt(lambda: _shared_evaluation(run, [str(warned.message) for warned in caught]))
        row["checkpointing"] = attempt(lambda: _checkpointed(recipe, run))
        row["reloads"] = attempt(lambda: _reloaded(recipe, run))
    return row


def _attempt(names: Mapping[str, str], do: Callable[[], Cell]) -> Cell:
    """What `do` found, or how it ended; `names` stand for the paths in a message."""
    try:
        return do()
    except PreflightError as error:
        failed = [line.split(":")[0] for line in str(error).splitlines()[1:]]
        cell: Cell = {"state": "refused", "why": f"by preflight: {', '.join(failed)}"}
    except MedrftError as error:
        cell = {"state": "refused", "why": " ".join(str(error).split())}
    except (*FAULTS, OSError) as error:  # a row must say so rather than end the table
        cell = {"state": "traceback", "why": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        traceback.print_exc()
    for path, name in names.items():
        cell["why"] = cell["why"].replace(path, name)
    return cell


def _loaded(model: Path, settings: Mapping[str, Any]) -> Cell:
    policy = load_policy(ModelConfig(id=str(model), device="cpu", **settings), model)
    return {"state": "yes", "class": type(policy.model).__name__}


def _trained(recipe: Recipe, run: RunDir, stage: str) -> Cell:
    """A stage done by the pipeline: it moved the weights, and every number it logged is one."""
    run_recipe(recipe, output=run.path, resume=run.path.is_dir(), only=[stage])
    rows = [row for row in read_jsonl(run.metrics) if row["stage"] == stage and row["split"] == "train"]
    norms = [row["grad_norm"] for row in rows if "grad_norm" in row]
    if not norms or not all(0 < norm < math.inf for norm in norms):
        return {"state": "no", "why": f"gradient norms {norms}"}
    return {"state": "yes", "steps": read_json(run.stage(stage) / "stage.json")["steps"]}


def _adapted(recipe: Recipe, run: RunDir) -> Cell:
    """GRPO with adapters; where prompts are shared, so are they here, with a gradient that moves."""
    cell = _trained(recipe, run, "grpo")
    shared = _shared(run, "loss")
    return {**shared, **cell} if cell["state"] == shared["state"] == "yes" else cell


def _preflight(run: RunDir) -> Cell:
    """What the checks before SFT and GRPO found; SFT asks more."""
    found = {}
    for stage in ("sft", "grpo"):
        path = run.stage(stage) / "preflight.json"
        if not path.is_file():
            return {"state": "no", "why": f"{stage} has none"}
        found[stage] = read_json(path)
    failed = {
        stage: [check["name"] for check in report["checks"] if check["passed"] is False]
        for stage, report in found.items()
    }
    refusing = [stage for stage, names in failed.items() if names]
    if refusing:
        return {"state": "refuses " + " and ".join(STAGES[stage] for stage in refusing), "failed": failed}
    unasked = [f"{check['name']} ({check['detail']})" for check in found["sft"]["checks"] if check["passed"] is None]
    return {"state": "yes", **({"why": f"not asked: {'; '.join(unasked)}"} if unasked else {})}


def _shared(run: RunDir, path: str) -> Cell:
    """Whether every completion's prompt was shared, and how far that is from the plain computation.

    `log_probs` in nats per token and `gradient`, relative, are the largest differences.
    """
    found = read_json(run.stage("grpo") / "stage.json")["prefix"]
    if path in found["fallbacks"]:
        return {"state": "falls back", "why": _short(found["fallbacks"][path])}
    check, rows = found["checked"].get(path), found["completions"]
    if check is None or not check["passed"] or rows.get(f"{path}/plain") or not rows.get(f"{path}/shared"):
        return {"state": "no", "why": f"checked {check}, completions {rows}"}
    if path == "loss" and set(found["attention"]) != {"by parts"}:
        return {"state": "no", "why": f"attention {found['attention']}: {found['whole']}"}
    numbers = {"log_probs": check["logps"], "limit": check["logps_limit"]}
    if check["gradient"] is not None:
        numbers |= {"gradient": check["gradient"]}
    return {"state": "yes", **numbers}


def _shared_evaluation(run: RunDir, warned: list[str]) -> Cell:
    """Whether questions about one picture shared it, as far as the evaluation did not warn of reading them whole."""
    header = next(read_jsonl(run.evaluation("grpo", DATASET) / "predictions.jsonl"))
    told = [line for line in warned if "prompts are read whole" in line]
    if header["sharing"] != "image and prompt" or told:
        return {"state": "falls back", "why": _short(told[0] if told else header["sharing"])}
    return {"state": "yes"}


def _checkpointed(recipe: Recipe, run: RunDir) -> Cell:
    """The same stage with gradient checkpointing: its first gradient is the one without."""
    cell = _trained(recipe, run, "checkpointed")
    if cell["state"] != "yes":
        return cell
    rows = [row for row in read_jsonl(run.metrics) if row["split"] == "train" and "grad_norm" in row]
    first = {
        stage: next(row["grad_norm"] for row in rows if row["stage"] == stage) for stage in ("grpo", "checkpointed")
    }
    gap = abs(first["checkpointed"] - first["grpo"]) / first["grpo"]
    same = "yes" if gap < 1e-4 else "no"
    return {"state": same, "gradient": gap, **({} if gap < 1e-4 else {"why": f"gradient norms {first}"})}


def _reloaded(recipe: Recipe, run: RunDir) -> Cell:
    """The final folder in plain transformers, one question at a time: the answers that the evaluation wrote."""
    rows = [row for row in read_jsonl(run.evaluation("grpo", DATASET) / "predictions.jsonl") if "id" in row]
    expected = {row["id"]: row["prediction"] for row in rows if row["control"] == "none"}
    answers = dict(_plain_answers(recipe, run.final("grpo")))
    same = sum(answers[name] == text for name, text in expected.items())
    state = "yes" if same == len(expected) == len(answers) else "no"
    return {"state": state, "same": same, "of": len(expected), "different": len(set(answers.values()))}


def _plain_answers(recipe: Recipe, final: Path) -> Iterator[tuple[str, str]]:
    """Greedy answers to the test questions, without medrft's loading or generation."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

    from medrft.data import load_data
    from medrft.data.images import open_image

    model = AutoModelForImageTextToText.from_pretrained(final, dtype="float32").eval()
    processor = AutoProcessor.from_pretrained(final)
    processor.image_processor = AutoImageProcessor.from_pretrained(final, backend="pil")
    ruled_out = list(placeholder_ids(load_policy(recipe.model, final)))  # as in every rollout of medrft
    prompt = get_prompt(recipe.prompt).bound(processor)
    for example in load_data(recipe.data, seed=recipe.seed).examples:
        if example.split != "test":
            continue
        pictures = [open_image(path, max_pixels=recipe.data.max_pixels) for path in example.images]
        chat = with_images(prompt.messages(example), pictures)
        inputs = processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            written = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False, suppress_tokens=ruled_out)
        ids = written[0, inputs["input_ids"].shape[1] :]
        yield example.id, prompt.finish(processor.decode(ids, skip_special_tokens=True))


def _short(why: str) -> str:
    """A reason alone: not for how many prompts it held, nor where its traceback lies."""
    return why.split("; traceback in ")[0].split("one by one: ")[-1]


def table(rows: dict[str, dict[str, Cell]]) -> str:
    """The rows as Markdown, with a list of what does not simply work under it."""
    lines = [f"| family, `tiny:` | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 1) + "|"]
    notes = []
    for name, row in rows.items():
        shown = [_shown(column, row[column]) for column in COLUMNS]
        lines.append(f"| {FAMILIES[name].label}, `{FAMILIES[name].tiny}` | {' | '.join(shown)} |")
        whys: dict[str, list[str]] = {}
        for column, cell in row.items():
            if cell.get("why"):
                whys.setdefault(cell["why"], []).append(COLUMNS[column])
        notes += [f"- {FAMILIES[name].label}, {', '.join(at)}: {_escaped(why)}" for why, at in whys.items()]
    return "\n".join([*lines, "", *notes])


def _shown(column: str, cell: Cell) -> str:
    if cell["state"] == "not run":
        return "–"
    if cell["state"] != "yes":
        return str(cell["state"])
    if "log_probs" in cell:
        worst = max(cell["log_probs"], cell.get("gradient", 0.0))
        return f"{worst:.0e}".replace("e-0", "e-")
    return f"{cell['same']} of {cell['of']}" if column == "reloads" else "yes"


def _escaped(text: str) -> str:
    """Jinja and HTML marks of an error message as plain words in Markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def page(rows: dict[str, dict[str, Cell]]) -> str:
    """docs/models.md with its table made anew."""
    text = PAGE.read_text(encoding="utf-8")
    return BLOCK.sub(lambda found: f"{found[1]}\n{table(rows)}\n\n{found[2]}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; all by default")
    parser.add_argument("--check", action="store_true", help="run nothing; exit 1 where page and file differ")
    options = parser.parse_args()
    known: dict[str, dict[str, Cell]] = read_json(RESULTS)["rows"] if RESULTS.is_file() else {}
    if options.check:
        if page(known) != PAGE.read_text(encoding="utf-8"):
            sys.exit(f"{PAGE.name} differs from {RESULTS.name}; run {Path(__file__).name}")
        return
    for name in options.families or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            known[name] = measured(name, Path(folder))
        print(name, {column: cell["state"] for column, cell in known[name].items()}, flush=True)
        rows = {name: known[name] for name in FAMILIES if name in known}
        write_json(RESULTS, {"sizes": SIZES, "rows": rows})
        write_atomic(PAGE, page(rows))


if __name__ == "__main__":
    main()
