"""Preflight, before step 1 of any training: a policy and a few examples go in, a report comes out, or an error.

It asks whether model, processor and data agree. If they do not, training does not stop: it learns something else. Each
check therefore has a name, a measured number, its limit, and what to do when it fails. For example, `image_tokens`
counts the rows whose image tokens are not as many as their image features; the limit is 0.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from medrft.errors import DataError, PreflightError, in_one_line
from medrft.models.encode import Images
from medrft.models.faults import UNFIT_INPUTS
from medrft.models.policy import Policy
from medrft.models.prompts import Prompt
from medrft.rundir import write_json
from medrft.training.probe import CannotAskError, Probe
from medrft.types import Example

FP32_LIMIT = 1e-4
LOW_PRECISION_LIMIT = 0.05
"""Nats per token that rollout and training log-probabilities may differ by."""
NOISE_FACTOR = 10
"""Another picture must change the logits by more than this many times what running again changes."""
SEEING = ("blank_image", "shuffled_image")
"""Checks that ask whether the picture matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question with its measured answer."""

    name: str
    passed: bool | None
    """`None` if it could not be asked; `detail` says why."""
    measured: float | None
    limit: float | None
    detail: str
    """What was measured, in words and units."""
    fix: str

    def line(self) -> str:
        """The check in one line for people, with what to do if it failed."""
        word = {True: "ok", False: "FAILED", None: "not run"}[self.passed]
        number = "" if self.measured is None else f" (measured {self.measured:.4g}, limit {self.limit:.4g})"
        return f"{self.name}: {word}{number}: {self.detail}" + ("" if self.passed is not False else f" -> {self.fix}")


def preflight(
    policy: Policy,
    prompt: Prompt,
    examples: Sequence[Example],
    *,
    images: Images,
    kind: Literal["sft", "grpo"] = "sft",
    max_length: int | None = None,
    temperature: float = 1.0,
    suppress: Sequence[int] | None = None,
    autocast: str | None = None,
    blanked: bool = False,
    others: Sequence[Check] = (),
    seed: int = 0,
    output: Path | None = None,
) -> dict[str, Any]:
    """Check a policy that is about to be trained; takes a few seconds for a tiny model.

    Checks of the taught text run only if `kind` is sft. `max_length` is SFT's cut in tokens. `temperature` and
    `suppress` (token ids ruled out; by default the image placeholders) are those of rollouts. `autocast` is the mixed
    precision of training ("bfloat16", "float16"), if any. `blanked` says that the recipe shows grey pictures only.
    `others` are checks that were made elsewhere. The report is written to `output` as JSON, also if a check fails; then
    `PreflightError` is raised. Raises `DataError` without examples.
    """
    if not examples:
        raise DataError("preflight needs at least one example")
    began = time.perf_counter()
    probe = Probe(
        policy=policy,
        prompt=prompt.bound(policy.processor),
        few=_draw(examples, prompt, 4, seed),
        many=_draw(examples, prompt, 24, seed),
        images=images,
        max_length=max_length,
        temperature=temperature,
        suppress=suppress,
        autocast=autocast,
        seed=seed,
    )
    with probe.still():
        checks = [*_ask(probe, taught=kind == "sft", blanked=blanked), *others]
    failed = [check for check in checks if check.passed is False]
    report = {
        "passed": not failed,
        "model": policy.id,
        "prompt": {"name": prompt.name, "hash": prompt.hash},
        "dtype": probe.dtype,
        "examples": [example.id for example in probe.few],
        "seconds": round(time.perf_counter() - began, 2),
        "checks": [asdict(check) for check in checks],
    }
    if output is not None:
        write_json(output, report)
    if failed:
        raise PreflightError(
            "preflight failed; training would be silently wrong.\n" + "\n".join(map(Check.line, failed))
        )
    return report


def _ask(probe: Probe, *, taught: bool, blanked: bool) -> list[Check]:
    """All checks; those of the inputs come first, and the model is only run on inputs that passed."""
    checks = [_image_tokens(probe), _padding_side(probe), _uncut(probe)]
    if taught:
        checks += [_same_prompt(probe), _loss_mask(probe)]
    else:
        why = "GRPO teaches no given words: the policy learns from what it writes itself"
        checks += [_not_run("same_prompt", why), _not_run("loss_mask", why)]
    checks.append(_answer_form(probe))
    if checks[0].passed is False:
        why = "needs image_tokens to pass first"
        return [*checks, *(_not_run(name, why) for name in (*SEEING, "log_probs", "placeholders"))]
    try:
        seeing = (
            [_not_run(name, "data.blank shows no picture") for name in SEEING] if blanked else _image_matters(probe)
        )
        return [*checks, *seeing, _log_probs(probe), _placeholders(probe)]
    except UNFIT_INPUTS as error:
        return [*checks, _broken(error)]


def _broken(error: Exception) -> Check:
    return Check(
        name="forward_pass",
        passed=False,
        measured=None,
        limit=None,
        detail=f"the model cannot compute what its own processor made: {in_one_line(error)}",
        fix="processor and model may be of different versions; try attn_implementation: eager, or a smaller "
        "data.max_pixels where memory ran out",
    )


def _draw(examples: Sequence[Example], prompt: Prompt, n: int, seed: int) -> list[Example]:
    """`n` examples: half have the longest prompts, half are drawn with `seed`.

    Examples with a picture and something to teach are preferred, and those with different pictures.
    """
    ready = [e for e in examples if e.images and (prompt.form != "think" or (e.rationale or "").strip())]
    pool = ready or [e for e in examples if e.images] or list(examples)
    drawn = random.Random(seed).sample(pool, len(pool)) if len(pool) <= 5000 else random.Random(seed).sample(pool, 5000)
    drawn.sort(key=lambda e: -len(e.question) - sum(map(len, e.options)))
    longest, rest = drawn[: n // 2], random.Random(seed).sample(drawn[n // 2 :], max(0, len(drawn) - n // 2))
    fresh: dict[Any, Example] = {}
    for example in [*longest, *rest]:
        fresh.setdefault(example.images, example)
    chosen = list(fresh.values())
    return (chosen + [e for e in drawn if e not in chosen[:n]])[:n]


def _not_run(name: str, why: str) -> Check:
    return Check(name=name, passed=None, measured=None, limit=None, detail=why, fix="")


def _count(name: str, wrong: list[str], detail: str, fix: str) -> Check:
    """A check whose number is how many rows are wrong."""
    shown = f"{detail}: {wrong[0]}" if wrong else detail
    return Check(name=name, passed=not wrong, measured=len(wrong), limit=0, detail=shown, fix=fix)


def _image_tokens(probe: Probe) -> Check:
    wrong = []
    try:
        for example in probe.few:
            tokens, features = probe.image_counts(example)
            if tokens != features or (example.images and not tokens):
                wrong.append(f"{example.id} has {tokens} image tokens and {features} image features")
    except CannotAskError as error:
        return _not_run("image_tokens", str(error))
    except UNFIT_INPUTS as error:
        return replace(_broken(error), name="image_tokens")
    fix = "processor and model are of different versions or sizes; load both from one folder and don't edit patch_size"
    return _count("image_tokens", wrong, "rows whose image tokens are not as many as its image features", fix)


def _padding_side(probe: Probe) -> Check:
    wrong = probe.right_padded()
    fix = "set padding_side to left in tokenizer_config.json: generation continues the last token of each row"
    return _count("padding_side", wrong, "rows of a batch that end in padding", fix)


def _uncut(probe: Probe) -> Check:
    """Prompts that SFT's `max_length` would cut, so that no answer is left to learn, or half an image."""
    if probe.max_length is None:
        return Check(
            name="uncut_prompt", passed=True, measured=0, limit=0, detail="no max_length, so nothing is cut", fix=""
        )
    wrong = []
    for example in probe.many:
        length = probe.prompt_length(example)
        if length >= probe.max_length:
            wrong.append(f"{example.id} has {length} prompt tokens, max_length is {probe.max_length}")
    fix = "leave max_length out (null), raise it, or lower data.max_pixels"
    return _count("uncut_prompt", wrong, "prompts that max_length cuts", fix)


def _same_prompt(probe: Probe) -> Check:
    if (why := probe.no_targets()) is not None:
        return _not_run("same_prompt", why)
    wrong = [
        f"training reads {probe.tail(trained)!r} before the answer, generation {probe.tail(asked)!r}"
        for trained, asked in probe.prompts_of_both()
        if trained != asked
    ]
    fix = (
        "the chat template renders a prompt differently once an answer follows; where it has a switch for thoughts, "
        "set it in model.chat_template_kwargs (enable_thinking: true for think, false for direct), or set "
        "model.chat_template to a file that renders both alike"
    )
    return _count("same_prompt", wrong, "rows whose prompt in training is not the prompt in generation", fix)


def _loss_mask(probe: Probe) -> Check:
    if (why := probe.no_targets()) is not None:
        return _not_run("loss_mask", why)
    wrong = [
        f"learns {got!r}, should learn {expected!r}"
        for got, expected in probe.learned()
        if not _same_turn(got, expected)
    ]
    fix = (
        "the chat template must render the assistant turn unchanged and close it with the end token; set "
        "model.chat_template to a file that does"
    )
    return _count("loss_mask", wrong, "rows whose loss is not on exactly the assistant turn and its end token", fix)


def _answer_form(probe: Probe) -> Check:
    """Whether scorers can read the answer of a perfect completion after it was encoded and decoded."""
    wrong = [f"{got!r} is read of {written!r}" for written, got in probe.read_back() if got is None]
    fix = (
        "the tokenizer or chat template swallows the prompt's tags; un-special them in tokenizer_config.json, or set "
        "model.chat_template or model.chat_template_kwargs"
    )
    return _count("answer_form", wrong, "perfect completions that no answer can be read of", fix)


def _same_turn(got: str, expected: Sequence[str]) -> bool:
    """Whether `got` is one of the turns in `expected`, one for each end token.

    White space is ignored: templates may add some after the turn and around a thought.
    """

    def plain(text: str) -> str:
        return "".join(text.split())

    return any(plain(got) == plain(turn) and got.strip() and turn.strip() for turn in expected)


def _image_matters(probe: Probe) -> list[Check]:
    """How much the last position's logits change when the picture is replaced (root mean square)."""
    plain = probe.logits()
    limit = NOISE_FACTOR * probe.noise(plain)
    swaps: list[tuple[str, Callable[[], Any]]] = [("blank_image", probe.blank_logits)]
    checks = []
    if probe.pictures_differ():
        swaps.append(("shuffled_image", probe.shuffled_logits))
    else:
        checks.append(_not_run("shuffled_image", "the examples drawn share one picture"))
    for name, swapped in swaps:
        moved = probe.distance(plain, swapped())
        checks.append(
            Check(
                name=name,
                passed=moved > limit,
                measured=moved,
                limit=limit,
                detail=f"change of the logits, {name.replace('_', ' ')}; limit: {NOISE_FACTOR} times the re-run noise",
                fix="the model does not see its pictures: check image tokens, projector and vision weights",
            )
        )
    return checks


def _log_probs(probe: Probe) -> Check:
    """Largest difference, over all tokens of a rollout, between the log-probability in the rollout and in training."""
    difference, padding = probe.rollout_against_training()
    low = probe.dtype != "float32"
    sharper = min(1.0, probe.temperature or 1.0)  # log-probabilities are of logits / temperature, rounding included
    limit = max(LOW_PRECISION_LIMIT, 2 * padding) if low else FP32_LIMIT / sharper
    return Check(
        name="log_probs",
        passed=difference <= limit,
        measured=difference,
        limit=limit,
        detail=f"nats per token between rollout and training; padding alone moves {padding:.2g}",
        fix="generation and training compute different things: try attn_implementation: eager, or dtype: float32",
    )


def _placeholders(probe: Probe) -> Check:
    left, mass = probe.placeholder_probability()
    return Check(
        name="placeholders",
        passed=left == 0,
        measured=left,
        limit=0.0,
        detail=f"highest probability of an image placeholder in rollouts (the model alone would give {mass:.2g})",
        fix="put the ids of models.tokens.placeholder_ids into the trainer's generation_kwargs.suppress_tokens",
    )
