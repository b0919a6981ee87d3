"""Preflight of real families: what GRPO does not need is not asked of it, and what cannot be asked is told."""

import pytest
import torch
from tokenizers import AddedToken

from families import SIZES, make_examples, picture
from medrft.config import ModelConfig
from medrft.errors import PreflightError
from medrft.models.load import load_policy, resolve_base
from medrft.models.prompts import get_prompt
from medrft.training.preflight import preflight

EXAMPLES = make_examples(6)
THINK = get_prompt("think")
SFT_FAILS = {
    "llava_onevision": {"same_prompt"},  # "assistant " before an answer, "assistant\n" before generation
    "glm4v": {"loss_mask"},  # the turn is never closed
    "qwen3_5": {"same_prompt", "loss_mask"},  # an empty thought before generation, the real one in training
}


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A policy of a tiny family, from the folder that is saved once."""
    found = {}

    def loaded(family, **options):
        if family not in found:
            config = ModelConfig(id=f"tiny:{family}", tiny=SIZES)
            folder = tmp_path_factory.mktemp("tiny") / family
            found[family] = resolve_base(config, texts=list(THINK.texts(EXAMPLES)), output=folder, seed=0)
        return load_policy(ModelConfig(id=f"tiny:{family}", device="cpu", **options), found[family])

    return loaded


def checks(policy, prompt=THINK, **options):
    """Each check's verdict, and the advice of those that failed."""
    try:
        report = preflight(policy, prompt, EXAMPLES, images=picture, **options)
    except PreflightError as error:
        return {line.split(":")[0] for line in str(error).splitlines()[1:]}, str(error)
    return set(), {check["name"]: check for check in report["checks"]}


@pytest.mark.parametrize("family", SFT_FAILS)
def test_grpo_runs_where_sft_cannot(family, load):
    policy = load(family)
    failed, told = checks(policy, kind="sft")
    assert failed == SFT_FAILS[family]
    assert "model.chat_template" in told
    failed, found = checks(policy, kind="grpo")
    assert failed == set()
    assert [name for name, check in found.items() if check["passed"] is None] == ["same_prompt", "loss_mask"]
    assert "GRPO" in found["loss_mask"]["detail"]


@pytest.mark.parametrize(
    ("family", "name", "arguments"),
    [
        pytest.param("qwen3_5", "think", {"enable_thinking": True}, marks=pytest.mark.slow),
        ("qwen3_5", "direct", {}),
        pytest.param("qwen3_vl_thinking", "think", {}, marks=pytest.mark.slow),
        ("qwen3_vl_thinking", "direct", {}),  # an answer begins with the end of the thought that the template opened
        pytest.param("aya_vision", "think", {}, marks=pytest.mark.slow),  # its turns end in two special tokens
        ("mllama", "think", {}),  # its processor begins every text anew
    ],
)
def test_families_that_sft_teaches(family, name, arguments, load):
    failed, found = checks(load(family, chat_template_kwargs=arguments), get_prompt(name), kind="sft")
    assert failed == set(), found


def test_cross_attention_has_no_image_features_to_count(load):
    _, found = checks(load("mllama"), kind="grpo")
    assert found["image_tokens"]["passed"] is None
    assert "cross-attention" in found["image_tokens"]["detail"]
    assert found["log_probs"]["passed"] and found["blank_image"]["passed"]


def no_method(policy):
    type(policy.model).get_image_features = property(lambda self: (_ for _ in ()).throw(AttributeError("gone")))


def wants_more(policy):
    policy.model.get_image_features = lambda pixel_values, plan: None


def tells_nothing(policy):
    policy.model.get_image_features = lambda pixel_values, **more: None


@pytest.mark.parametrize(
    ("change", "why"), [(wants_more, "wants other inputs"), (tells_nothing, "tells no features"), (None, "has no get")]
)
def test_a_class_that_tells_no_features_is_asked_everything_else(change, why, load):
    policy = load("llava")
    if change is not None:
        change(policy)
        _, found = checks(policy)
    else:
        kept = type(policy.model).get_image_features
        try:
            no_method(policy)
            _, found = checks(policy)
        finally:
            type(policy.model).get_image_features = kept
    assert found["image_tokens"]["passed"] is None
    assert why in found["image_tokens"]["detail"]
    assert all(check["passed"] for name, check in found.items() if name != "image_tokens")


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), ValueError("bad shape"), TypeError("kwarg")])
def test_a_model_that_breaks_on_its_inputs_is_one_line(error, load):
    policy = load("llava")

    def broken(*args, **kwargs):
        raise error

    policy.model.model.language_model.forward = broken
    failed, told = checks(policy)
    assert failed == {"forward_pass"}
    assert f"{type(error).__name__}: {error}" in told


def test_tags_that_decoding_leaves_out_earn_no_reward(load):
    policy = load("llava")
    tags = [AddedToken(tag, special=True) for tag in ("<answer>", "</answer>")]
    policy.processor.tokenizer.add_tokens(tags, special_tokens=True)
    failed, told = checks(policy, kind="grpo")
    assert failed == {"answer_form"}
    assert "un-special" in told
    assert checks(policy, get_prompt("short"), kind="grpo")[0] == set()  # no tags, nothing to lose


def test_a_collator_s_answers_begin_no_text_anew(load):
    """Llama 3.2 Vision: one beginning of text per row, and every token of the answer sees the picture."""
    from medrft.training.collator import Collator
    from medrft.training.rows import assistant_message

    policy = load("mllama")
    prompt = THINK.bound(policy.processor)
    rows = [
        {"prompt": prompt.messages(e), "completion": [assistant_message(prompt.target(e))], "images": picture(e)}
        for e in EXAMPLES[:3]
    ]
    batch = Collator(policy.processor, completion_only_loss=True)(rows)
    begin = policy.processor.tokenizer.bos_token_id
    assert ((batch["input_ids"] == begin).sum(1) == 1).all()
    seen = batch["cross_attention_mask"]
    assert seen.shape[:2] == batch["input_ids"].shape
    learned = batch["labels"] != -100
    assert (seen[learned].flatten(1).sum(1) > 0).all()
    with torch.no_grad():
        assert torch.isfinite(policy.model(**batch).loss)
