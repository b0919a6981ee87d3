"""What a case of gpu_check.py measures: updates or a rollout of one group, with its prompt shared and with it not.

A case is named as in grpo_update.py: update_p612_c256_g8_ckpt has prompts of 612 tokens, 8 completions of 256 and
gradient checkpointing; `_hybrid` is Qwen3.5-0.8B's shape, where three layers in four are linear attention. Weights are
random, and so are recorded completions: the times are real, the answers mean nothing.
"""

import statistics
import time
from dataclasses import asdict, dataclass, replace

SHAPES = {
    "": "Qwen/Qwen2.5-VL-3B-Instruct",
    "hybrid": "Qwen/Qwen3.5-0.8B",
    # transformers has no flex attention for the Qwen VL families: it is compared with sdpa on this shape.
    "internvl": "OpenGVLab/InternVL3-2B-hf",
    "internvl_flex": "OpenGVLab/InternVL3-2B-hf",
}
"""The end of a case's name -> its shape."""
PROMPTS = {277: (16, 21), 612: (24, 36), 1045: (32, 21)}
"""Tokens of a prompt -> image tokens a side, and tokens of text."""
COMPLETIONS, GROUPS = (48, 256, 512, 1024), (8, 16)
WAYS = {"shared": True, "not_shared": False}
TIMED = 2
"""Updates that are timed, after one that warms up."""


@dataclass(frozen=True)
class Case:
    """One group of completions, updated on or written."""

    what: str
    """`update` or `rollout`."""
    prompt: int = 612
    new: int = 256
    group: int = 8
    checkpointing: bool = False
    shape: str = ""
    """A key of `SHAPES`."""

    @property
    def name(self) -> str:
        """The case's name."""
        end = f"_{self.shape}" if self.shape else ""
        return f"{self.what}_p{self.prompt}_c{self.new}_g{self.group}{'_ckpt' * self.checkpointing}{end}"

    @property
    def most_seconds(self) -> float:
        """After how many seconds it is given up: the plan takes half a minute, a token in both ways 0.15 s at most."""
        return 60 + (0.15 * self.new if self.what == "rollout" else 60)


def grid() -> list[Case]:
    """All lengths, groups, shapes and ways to keep activations; smaller groups and prompts come first."""
    return [
        Case(what, prompt, new, group, checkpointing, shape)
        for group in GROUPS
        for prompt in PROMPTS
        for new in COMPLETIONS
        for shape in ("", "hybrid")
        for what, checkpointing in (("update", True), ("update", False), ("rollout", False))
    ]


def measure(case: Case, device: str, tiny: bool) -> dict:
    """Both ways of a case, how many times as fast the shared one is, and how far their log-probabilities are apart."""
    if case.shape == "internvl_flex" and device == "cpu":
        return {"skipped": "torch has no backward pass of flex attention on a CPU"}
    model, ask = model_of(case, device, tiny)
    load = load_of(case, tiny)
    found, apart = (both_updates if case.what == "update" else both_rollouts)(model, ask, load, device)
    held = sum(weight.nbytes for weight in model.parameters()) * (2 if case.what == "update" else 1)  # gradients
    del model
    for way, planned in plans(case, load, tiny).items():
        found[way]["planned_bytes"] = planned + held
        if found[way].get("peak_bytes"):
            found[way]["planned_by_peak"] = (planned + held) / found[way]["peak_bytes"]
    times = [found[way].get("seconds") for way in ("not_shared", "shared")]
    return {
        **found,
        "times_as_fast": statistics.median(times[0]) / statistics.median(times[1]) if all(times) else None,
        **apart,
        "load": asdict(load),
    }


def model_of(case: Case, device: str, tiny: bool):
    """Random weights of the real shape or of a tiny one, in float32, and the planner's prompt for it."""
    import torch
    from transformers import AutoModelForImageTextToText
    from trl.trainer.utils import add_fused_lm_head

    from medrft.training.planning.trace import PromptInputs

    config = shape_of(SHAPES[case.shape], tiny)
    attention = "flex_attention" if case.shape == "internvl_flex" else "sdpa"
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(
            config, dtype=torch.float32, attn_implementation={"text_config": attention, "vision_config": "sdpa"}
        )
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    ask = prompt_of(case, config, model, tiny)
    return model, PromptInputs(
        ids=ask.ids.to(device), fields={key: value.to(device) for key, value in ask.fields.items()}
    )


def prompt_of(case: Case, config, model, tiny: bool):
    """A prompt of the case's number of tokens (with `tiny`, a sixteenth of its image tokens)."""
    from medrft.training.planning.memory import synthetic_prompt

    side, text = PROMPTS[case.prompt]
    vision = config.vision_config
    cell = vision.patch_size * getattr(vision, "spatial_merge_size", 2) if case.shape in ("", "hybrid") else 28
    return synthetic_prompt(config, model, ((side // 4 if tiny else side) * cell) ** 2, text)


def shape_of(name: str, tiny: bool):
    """A model's configuration; `tiny`: the same architecture, small enough for a CPU."""
    from medrft.config import ModelConfig
    from medrft.models.shapes import model_shape

    config = model_shape(ModelConfig(id=name)).config
    if not tiny:
        return config
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers, text.vocab_size = 64, 128, 2, 2048
    text.num_attention_heads, text.num_key_value_heads, text.layer_types = 4, 2, ["full_attention"] * 2
    vision.hidden_size, vision.intermediate_size, config.image_token_id = 64, 128, 5
    if config.model_type == "internvl":
        vision.num_hidden_layers, vision.num_attention_heads = 2, 4
        return config
    vision.depth, vision.num_heads, vision.out_hidden_size = 2, 4, 64
    config.video_token_id, config.vision_start_token_id, config.vision_end_token_id = 6, 3, 4
    if config.model_type == "qwen3_5":
        text.num_hidden_layers, text.layer_types = 4, ["linear_attention"] * 3 + ["full_attention"]
        text.linear_num_key_heads, text.linear_num_value_heads = 2, 4
        text.linear_key_head_dim = text.linear_value_head_dim = 16
        text.head_dim, text.rope_parameters = 32, {**text.rope_parameters, "mrope_section": [2, 1, 1]}
        return config
    vision.fullatt_block_indexes = [1]
    text.rope_parameters = {**text.rope_parameters, "mrope_section": [2, 3, 3]}
    return config


def load_of(case: Case, tiny: bool):
    """The planner's words for the case."""
    from medrft.training.planning.trace import Load

    return Load(
        kind="grpo",
        rows=case.group,
        group=case.group,
        completion=max(4, case.new // 32) if tiny else case.new,
        checkpointing=case.checkpointing,
        written=case.group,
        autocast=True,
    )


def plans(case: Case, load, tiny: bool) -> dict[str, int]:
    """The planner's bytes for both ways, beyond weights and gradients."""
    from trl.trainer.utils import add_fused_lm_head

    from medrft.models.sketch import sketch_model, use_flash_in_windows
    from medrft.training.planning.trace import rollout_peak, update_peak

    config = shape_of(SHAPES[case.shape], tiny)
    model, sketch = sketch_model(config)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    use_flash_in_windows(model)
    ask, count = prompt_of(case, config, model, tiny), update_peak if case.what == "update" else rollout_peak
    return {way: count(model, sketch, ask, replace(load, shared=shared)) for way, shared in WAYS.items()}


def both_updates(model, ask, load, device: str) -> tuple[dict, dict]:
    """Forward and backward passes on recorded completions in both ways, and how far log-probabilities are apart.

    They are compared in bfloat16, as in training, and in float32, where rounding hides nothing.
    """
    import torch

    ids = recorded(ask, load)
    found = {way: updates(model, ask, ids, replace(load, shared=shared), device) for way, shared in WAYS.items()}
    apart = {}
    for low in (True, False):
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=low):
            logps = [logps_of(model, ask, ids, replace(load, shared=shared)) for shared in WAYS.values()]
        apart["logps_apart_bfloat16" if low else "logps_apart_float32"] = largest(logps[0] - logps[1])
    return found, apart


def recorded(ask, load):
    """Token ids of the prompt and random completions, (B, P + C)."""
    import torch

    drawn = torch.Generator().manual_seed(1)
    written = torch.randint(10, 2000, (load.rows, load.completion), generator=drawn).to(ask.ids.device)
    return torch.cat([ask.ids.expand(load.rows, -1), written], 1)


def logps_of(model, ask, ids, load):
    """Log-probabilities of the completions, (B, C)."""
    from medrft.training.planning.trace import completion_logps, prepare_model

    prepare_model(model, load)
    return completion_logps(model, ids, ask, load).float()


def largest(values) -> float:
    """The largest absolute value."""
    return float(values.abs().max())


def updates(model, ask, ids, load, device: str) -> dict:
    """Seconds and peak bytes of forward and backward passes; the first one warms up, and makes the gradients."""
    import torch

    seconds = []
    try:
        for _ in range(1 + TIMED):
            began = now(device)
            with torch.autocast(device, dtype=torch.bfloat16):
                loss = -logps_of(model, ask, ids, load).mean()
            loss.backward()
            del loss
            seconds.append(now(device) - began)
            if len(seconds) == 1 and device == "cuda":
                torch.cuda.reset_peak_memory_stats()
    except torch.OutOfMemoryError:
        return {"out_of_memory": True}
    return {"seconds": seconds[1:], "peak_bytes": peak_bytes(device)}


def both_rollouts(model, ask, load, device: str) -> tuple[dict, dict]:
    """One group written to the full length in both ways.

    The log-probabilities that ours records are compared with those of a plain pass.
    """
    import torch
    from transformers import GenerationConfig

    from medrft.models.prefix import why_not_shareable

    model.eval()
    config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        max_new_tokens=load.completion,
        min_new_tokens=load.completion,
        eos_token_id=1,
        pad_token_id=0,
        suppress_tokens=[model.config.image_token_id],
    )
    found, apart = {}, {"logps_apart_bfloat16": None}
    why = why_not_shareable(model, rollouts=True)
    if why is not None:
        found["shared"] = {"skipped": why}
    else:
        found["shared"], made = timed(lambda: written(model, ask, load, config), device)
        ids = torch.cat([ask.ids.expand(load.rows, -1), torch.tensor(made.ids, device=ask.ids.device)], 1)
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16):
            plain = logps_of(model, ask, ids, replace(load, shared=False, checkpointing=False))
        apart["logps_apart_bfloat16"] = largest(plain - torch.tensor(made.logps, device=plain.device))
        model.eval()
    found["not_shared"], _ = timed(lambda: generated(model, ask, load, config), device)
    return found, apart


def timed(write, device: str) -> tuple[dict, object]:
    """Seconds and peak bytes of one rollout, and what it wrote."""
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = now(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        made = write()
    return {"seconds": [now(device) - began], "peak_bytes": peak_bytes(device)}, made


def written(model, ask, load, config):
    """Completions by our rollouts, which read the prompt once."""
    import torch

    from medrft.models.rollout import Prompts, sample_rollouts

    prompts = Prompts(ask.ids, torch.ones_like(ask.ids), [ask.fields], [load.written])
    return sample_rollouts(model, prompts, config, temperature=config.temperature)


def generated(model, ask, load, config):
    """Completions by transformers' `generate`, which reads the prompt once for each."""
    import torch

    from medrft.training.planning.trace import repeat_inputs

    ids = ask.ids.repeat(load.written, 1)
    fields = repeat_inputs(ask.fields, load.written)
    return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config, **fields)


def peak_bytes(device: str) -> int:
    """The most bytes that CUDA's allocator has held since its peak was reset; 0 on a CPU."""
    import torch

    return torch.cuda.max_memory_allocated() if device == "cuda" else 0


def now(device: str) -> float:
    """Seconds, once the device has done what it was asked."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
