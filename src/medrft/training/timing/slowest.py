"""From rows of `metrics.jsonl` to where the time of a step went, its slowest part, and what would help.

    grpo: a step takes 12.3 s: decode 61 %, backward 20 %, loss 9 %, …

Only logged numbers are read (`time/<part>`, `step_time`, …), so it needs no torch. docs/performance.md has the table of
parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

Row = Mapping[str, Any]

PARTS: dict[str, str] = {
    "data": "rows and pictures come late from the data loader; read them in further processes "
    "(trl: {dataloader_num_workers: 4}), or from a faster disk",
    "processor": "tokenizer and image processor take long; set data.max_pixels lower, so that pictures are smaller",
    "vision": "freeze the vision tower (model: {freeze: [vision]}), so that it looks at each picture once a generation "
    "batch, or set data.max_pixels lower",
    "prefill": "prompts are long; set data.max_pixels lower, so that pictures have fewer tokens",
    "decode": "tokens are written one after another; ask for fewer of them (max_completion_length), write more "
    "completions at a time (a larger generation batch, whose memory rollout_batch_size bounds), or let vLLM write them "
    "(trl: {use_vllm: true})",
    "reward": "training waits for the reward; give a judge more concurrency or a cache_dir, or take a faster scorer "
    "(`medrft audit` says what each takes)",
    "loss": "log-probabilities take long; beta: 0 leaves out the pass of the reference model, and shared_prompts below "
    "1 means that stage.json says why prompts are read more than once",
    "backward": "gradients take long; leave out gradient_checkpointing if memory allows, freeze parts of the model, or "
    "train adapters (model: {lora: {}})",
    "optimizer": "updating the weights takes long; accumulate more completions to a step "
    "(gradient_accumulation_steps), or train adapters (model: {lora: {}})",
    "waiting": "processes wait for each other; give each as many tokens to write and as fast a reward",
    "other": "time is spent outside the parts that are measured; with several processes they wait for each other there",
}
"""Part of a step -> what would help if it is the slowest one; in the order in which a step comes to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast one stage trained, in means over its logged steps."""

    stage: str
    rows: int
    """Logged steps that were read."""
    seconds: float
    """Seconds of a step."""
    parts: Mapping[str, float]
    """Seconds of a step by part, the longest first; they add up to `seconds`."""
    slowest: str
    advice: str
    """What would help where the slowest part is concerned."""
    tokens_per_second: float | None
    flops_per_second: float | None
    """Of one device."""
    mfu: float | None
    """Share of the device's peak, in [0, 1]; `None` where the peak is not known."""

    def line(self) -> str:
        """Seconds, parts and throughput in one line, for people."""
        shown = [
            f"{name} {took / self.seconds:.0%}" for name, took in self.parts.items() if took >= 0.005 * self.seconds
        ]
        told = f"{self.stage}: a step takes {_seconds(self.seconds)}: {', '.join(shown)}"
        if self.tokens_per_second is not None:
            told += f"; {self.tokens_per_second:,.0f} tokens/s"
        if self.mfu is not None:
            told += f"; {self.mfu:.0%} of the device's peak"
        elif self.flops_per_second is not None:
            told += f"; {_operations(self.flops_per_second)}"
        return told

    def help_line(self) -> str:
        """The slowest part and what would help, in one line."""
        return f"{self.stage}: slowest is {self.slowest} ({self.parts[self.slowest] / self.seconds:.0%}): {self.advice}"


def measure_speed(rows: Iterable[Row], *, stage: str) -> Speed | None:
    """Where a stage's time went; `None` if its log says nothing of it.

    The first logged step is left out if there are others: it also loads, checks and warms up.
    """
    timed = [
        row for row in rows if row.get("split", "train") == "train" and row.get("step_time") and "time/other" in row
    ]
    timed = timed[1:] or timed
    if not timed:
        return None
    seconds = fmean(row["step_time"] for row in timed)
    means = {name: fmean(row.get(f"time/{name}") or 0.0 for row in timed) for name in PARTS}
    parts = dict(sorted(means.items(), key=lambda part: -part[1]))
    slowest = next(iter(parts))
    return Speed(
        stage=stage,
        rows=len(timed),
        seconds=seconds,
        parts=parts,
        slowest=slowest,
        advice=PARTS[slowest],
        tokens_per_second=_rate(timed, "tokens_per_second", seconds),
        flops_per_second=_rate(timed, "flops_per_second", seconds),
        mfu=_rate(timed, "mfu", seconds),
    )


def speeds_of_run(rows: Iterable[Row]) -> list[Speed]:
    """A `Speed` for each stage whose log has times, in the order in which they trained."""
    stages: dict[str, list[Row]] = {}
    for row in rows:
        stages.setdefault(str(row.get("stage", "")), []).append(row)
    found = (measure_speed(own, stage=stage) for stage, own in stages.items())
    return [speed for speed in found if speed is not None]


def _rate(rows: Sequence[Row], key: str, seconds: float) -> float | None:
    """A rate over all rows together: each row's rate weighs as its step takes long; `None` if no row has it."""
    if not any(row.get(key) for row in rows):
        return None
    return fmean((row.get(key) or 0.0) * row["step_time"] for row in rows) / seconds


def _seconds(value: float) -> str:
    """Seconds with three digits, or milliseconds.

    >>> _seconds(12.34), _seconds(0.0567)
    ('12.3 s', '56.7 ms')
    """
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def _operations(value: float) -> str:
    """Operations a second in the unit that suits them.

    >>> _operations(3.1e14), _operations(4.2e10)
    ('310 TFLOP/s', '42 GFLOP/s')
    """
    return f"{value / 1e12:.3g} TFLOP/s" if value >= 1e12 else f"{value / 1e9:.3g} GFLOP/s"
