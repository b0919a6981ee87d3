"""Preflight: passes on sound set-ups, and each check catches the set-up it is there for."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from medrft.config import ModelConfig
from medrft.errors import DataError, PreflightError
from medrft.models.encode import encode_chats
from medrft.models.load import load_policy, resolve_base
from medrft.models.prompts import get_prompt
from medrft.models.tokens import placeholder_ids
from medrft.training.preflight import preflight
from medrft.training.probe import Probe
from medrft.types import Example

SIZES = {"image": 32, "vision_hidden": 32, "vision_layers": 2, "hidden": 32, "layers": 2, "mlp": 64, "vocab": 400}
PROMPT = get_prompt("think")
CHECKS = (
    *("image_tokens", "padding_side", "uncut_prompt", "same_prompt", "loss_mask", "answer_form"),
    *("blank_image", "shuffled_image", "log_probs", "placeholders"),
)
EXAMPLES = [
    Example(
        id=f"toy/train/{i}",
        dataset="toy",
        split="train",
        images=(Path(f"{i}.png"),),
        question=("Is the heart large?", "On which side does the pleural effusion lie?")[i % 2],
        references=("yes", "left")[i % 2 :][:1],
        kind="open",
        rationale="The heart is wide and the lungs are clear.",
    )
    for i in range(8)
]


def pictures(example):
    seed = int(example.id.rsplit("/", 1)[1])
    return [
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 56, 3), dtype=np.uint8))
        for _ in example.images
    ]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return {
        family: resolve_base(
            ModelConfig(id=f"tiny:{family}", tiny=SIZES), texts=PROMPT.texts(EXAMPLES), output=folder / family, seed=0
        )
        for family in ("llava", "gemma3", "idefics3")
    }


@pytest.fixture
def policy(saved):
    return load_policy(ModelConfig(id="tiny:llava", device="cpu"), saved["llava"])


def failures(policy, *, prompt=PROMPT, examples=EXAMPLES, **options):
    """Names of the checks that fail, and the report, which is written in either case."""
    try:
        report = preflight(policy, prompt, examples, images=pictures, **options)
    except PreflightError as error:
        failed = {line.split(":")[0] for line in str(error).splitlines()[1:]}
        assert all(" -> " in line for line in str(error).splitlines()[1:])  # each says what to do
        return failed
    assert report["passed"]
    return set()


@pytest.mark.parametrize("family", ["llava", "gemma3", "idefics3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sound_policies_pass(family, dtype, saved, tmp_path):
    policy = load_policy(ModelConfig(id=f"tiny:{family}", dtype=dtype), saved[family])
    policy.model.train()
    report = preflight(policy, PROMPT, EXAMPLES, images=pictures, temperature=0.7, output=tmp_path / "preflight.json")
    assert [check["name"] for check in report["checks"]] == list(CHECKS)
    assert all(check["passed"] for check in report["checks"])
    assert report["dtype"] == dtype
    assert json.loads((tmp_path / "preflight.json").read_text()) == report
    assert policy.model.training


def test_mixed_precision_has_its_own_limit(policy):
    report = preflight(policy, PROMPT, EXAMPLES, images=pictures, autocast="bfloat16")
    limits = {check["name"]: check["limit"] for check in report["checks"]}
    assert report["dtype"] == "bfloat16"
    assert limits["log_probs"] >= 0.05


@pytest.mark.parametrize("name", ["direct", "short"])
def test_other_forms_and_examples_without_rationale(policy, name):
    from dataclasses import replace

    bare = [replace(example, rationale=None) for example in EXAMPLES]
    assert failures(policy, prompt=get_prompt(name), examples=bare) == set()
    report = preflight(policy, PROMPT, bare, images=pictures)
    skipped = [check["name"] for check in report["checks"] if check["passed"] is None]
    assert skipped == ["same_prompt", "loss_mask"]  # nothing to imitate: GRPO from a model that already thinks


def test_one_picture_cannot_be_shuffled(policy):
    from dataclasses import replace

    same = [replace(example, images=(Path("one.png"),)) for example in EXAMPLES]
    report = preflight(policy, PROMPT, same, images=pictures)
    assert [check["name"] for check in report["checks"] if check["passed"] is None] == ["shuffled_image"]


def test_a_run_on_blank_pictures_is_not_asked_to_see(policy):
    def grey(example):
        return [Image.new("RGB", (56, 40), (127, 127, 127)) for _ in example.images]

    report = preflight(policy, PROMPT, EXAMPLES, images=grey, blanked=True)
    skipped = {check["name"]: check["detail"] for check in report["checks"] if check["passed"] is None}
    assert set(skipped) == {"blank_image", "shuffled_image"}
    assert all("data.blank" in why for why in skipped.values())
    with pytest.raises(PreflightError, match="does not see"):
        preflight(policy, PROMPT, EXAMPLES, images=grey)


def test_no_examples(policy):
    with pytest.raises(DataError, match="at least one example"):
        preflight(policy, PROMPT, [], images=pictures)


# Broken set-ups


def test_wrong_number_of_image_tokens(policy):
    policy.processor.patch_size = 8  # as after an edited processor_config.json
    assert failures(policy) == {"image_tokens"}


def test_right_padding(policy):
    policy.processor.tokenizer.padding_side = "right"
    assert "padding_side" in failures(policy)


@pytest.mark.parametrize(("max_length", "failed"), [(20, {"uncut_prompt"}), (4000, set())])
def test_a_prompt_cut_inside_its_image(policy, max_length, failed):
    assert failures(policy, max_length=max_length) == failed


def test_an_image_that_is_not_seen(policy):
    with torch.no_grad():
        policy.model.model.multi_modal_projector.linear_2.weight.zero_()
    assert failures(policy) == {"blank_image", "shuffled_image"}


def test_an_image_that_only_noise_moves(policy):
    """The picture's effect is real but smaller than what running again does."""
    with torch.no_grad():
        policy.model.model.multi_modal_projector.linear_2.weight.mul_(1e-7)
    head = policy.model.get_output_embeddings()
    head.register_forward_hook(lambda module, args, out: out + 1e-3 * torch.randn_like(out))
    assert failures(policy) >= {"blank_image", "shuffled_image"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<|end|>", "{% if message.role != 'assistant' %}<|end|>{% endif %}"),  # never learns to stop
        ("{{ block.text }}", "{{ block.text | upper if message.role == 'assistant' else block.text }}"),
        ("{{ block.text }}", "{{ block.text.split('</think>')[-1] }}"),  # drops the thought, as some do in history
    ],
)
def test_a_template_that_changes_the_assistant_turn(policy, old, new):
    policy.processor.chat_template = policy.processor.chat_template.replace(old, new)
    assert failures(policy) == {"loss_mask"}


def test_a_template_whose_generation_prompt_is_another(policy):
    policy.processor.chat_template = policy.processor.chat_template.replace(
        "{%- if add_generation_prompt -%}<|assistant|>", "{%- if add_generation_prompt -%}<|assistant|>Sure. "
    )
    assert "same_prompt" in failures(policy)


def test_a_template_that_opens_the_thought_is_fine(policy):
    policy.processor.chat_template = policy.processor.chat_template.replace(
        "{%- if add_generation_prompt -%}<|assistant|>", "{%- if add_generation_prompt -%}<|assistant|><think>"
    )
    assert failures(policy) == set()


def test_a_cache_that_computes_something_else(policy):
    """One step of generation sees one position at a time; training sees them all."""
    head = policy.model.get_output_embeddings()
    head.register_forward_hook(lambda module, args, out: out * 1.05 if out.shape[1] == 1 else out)
    assert failures(policy) == {"log_probs"}


def test_positions_that_count_padding(policy):
    """A model with absolute positions and no position ids reads a padded prompt as another one."""
    model = policy.model.model.language_model
    table = torch.randn(2000, 32) * 0.1

    def shift(module, args, kwargs):
        embeds = kwargs["inputs_embeds"]
        if embeds.shape[1] > 1:
            kwargs["inputs_embeds"] = embeds + table[: embeds.shape[1]]
        return args, kwargs

    model.register_forward_pre_hook(shift, with_kwargs=True)
    assert "log_probs" in failures(policy)


def test_placeholders_that_can_be_sampled(policy):
    assert failures(policy, suppress=()) == {"placeholders"}
    assert failures(policy, suppress=placeholder_ids(policy)) == set()


# Parity with what TRL computes


def test_training_log_probabilities_are_trls(policy):
    probe = Probe(
        policy=policy,
        prompt=PROMPT.bound(policy.processor),
        few=EXAMPLES[:3],
        many=EXAMPLES,
        images=pictures,
        max_length=None,
        temperature=0.7,
        suppress=None,
        autocast=None,
        seed=0,
    )
    with probe.still():
        inputs, written, made = probe._rollout(None)
        size = inputs["input_ids"].shape[1]
        completion = written.sequences[:, size:]
        ours = probe._training_logps(inputs, completion, made, more=0)
        add_fused_lm_head(policy.model, temperature=0.7, outputs=("log_probs", "entropy"))
        stand_in = SimpleNamespace(accelerator=SimpleNamespace(autocast=torch.no_grad, is_main_process=True))
        theirs, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(
            stand_in,
            policy.model,
            torch.cat([inputs["input_ids"], completion], dim=1),
            torch.cat([inputs["attention_mask"], made.long()], dim=1),
            completion.shape[1],
            pixel_values=inputs["pixel_values"],
            num_images=[1, 1, 1],
        )
    assert torch.allclose((ours * made), (theirs * made), atol=1e-5)


def test_the_prompt_of_a_rollout_is_trls(policy):
    """The tokens that our generation reads are those of TRL's own tokenization."""
    from trl.data_utils import prepare_multimodal_messages

    prompt = PROMPT.bound(policy.processor)
    prompts = [prepare_multimodal_messages(prompt.messages(e), images=pictures(e)) for e in EXAMPLES[:2]]
    stand_in = SimpleNamespace(
        _is_vlm=True,
        environment_factories=None,
        tools=None,
        chat_template=None,
        chat_template_kwargs={},
        processing_class=policy.processor,
    )
    ids, _, _ = GRPOTrainer._tokenize_prompts(stand_in, prompts)
    ours = encode_chats(policy, prompts)
    kept = [row[mask.bool()].tolist() for row, mask in zip(ours["input_ids"], ours["attention_mask"], strict=True)]
    assert kept == [list(row) for row in ids]
