"""Templates that open a thought, or write an empty one: every stage reads the same prompt, and a perfect completion
earns the format reward in each."""

from types import SimpleNamespace

import pytest
from trl.trainer.grpo_trainer import GRPOTrainer

from families import SIZES, make_examples, picture
from medrft.config import ModelConfig
from medrft.endpoint import Reply
from medrft.errors import RecipeError
from medrft.models.conversation import completion_of
from medrft.models.encode import encode_chats
from medrft.models.generate import _finished
from medrft.models.load import load_policy, resolve_base
from medrft.models.prompts import get_prompt, with_images
from medrft.models.tokens import end_ids
from medrft.recipes import parse_recipe
from medrft.scorers.base import item_of
from medrft.scorers.form import AnswerFormat
from medrft.training.arguments import check_stage
from medrft.training.collator import Collator
from medrft.training.grpo import GRPO
from medrft.training.rows import assistant_message
from medrft.types import Completion

EXAMPLES = make_examples(2)
CASES = [
    ("qwen3_5", {"enable_thinking": True}, "think", "<think>\n"),
    ("qwen3_5", {}, "think", ""),
    ("qwen3_5", {"enable_thinking": False}, "direct", ""),
    ("qwen3_vl_thinking", {}, "think", "<think>\n"),
    ("qwen3_vl_thinking", {}, "direct", "<think>\n"),
    ("qwen3_vl", {}, "think", ""),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {}
    for family in {case[0] for case in CASES}:
        texts = list(get_prompt("think").texts(EXAMPLES))
        config = ModelConfig(id=f"tiny:{family}", tiny=SIZES)
        folder = tmp_path_factory.mktemp("tiny") / family
        found[family] = resolve_base(config, texts=texts, output=folder, seed=0)
    return found


def perfect(prompt, example):
    """What a model must write after the prompt to think and answer in the form."""
    written = prompt.target(example).removeprefix(prompt.opened)
    return f"I look.\n</think>\n\n{written}" if prompt.opened and prompt.form != "think" else written


def pays(text, example, prompt):
    item = item_of(example, Completion(text=text, n_tokens=9, truncated=False), form=prompt.form)
    return AnswerFormat()([item]) == [1.0]


@pytest.mark.parametrize(("family", "arguments", "name", "opened"), CASES)
def test_a_perfect_completion_earns_the_format_reward_everywhere(family, arguments, name, opened, folders):
    config = ModelConfig(id=f"tiny:{family}", device="cpu", chat_template_kwargs=arguments)
    policy = load_policy(config, folders[family])
    prompt = get_prompt(name).bound(policy.processor)
    assert prompt.opened == opened
    example = EXAMPLES[0]
    chat = with_images(prompt.messages(example), picture(example))
    asked = encode_chats(policy, [chat])["input_ids"][0].tolist()
    tokenizer = policy.processor.tokenizer
    ids = [*tokenizer(perfect(prompt, example))["input_ids"], end_ids(policy)[0]]

    trl = SimpleNamespace(
        _is_vlm=True,
        environment_factories=None,
        tools=None,
        chat_template=None,
        chat_template_kwargs={},
        processing_class=policy.processor,
    )
    prompts, _, _ = GRPOTrainer._tokenize_prompts(trl, [chat])
    assert list(prompts[0]) == asked  # GRPO asks as evaluation does
    me = SimpleNamespace(
        eos_token_ids=[end_ids(policy)[0]], _tokenizer=tokenizer, opened=SimpleNamespace(prompt=prompt)
    )
    (rollout,) = GRPO._completions(me, [ids])
    assert pays(rollout.text, example, prompt)

    said = Completion(text=tokenizer.decode(ids, skip_special_tokens=True), n_tokens=len(ids), truncated=False)
    (evaluated,) = _finished(prompt, [said], 1)
    assert pays(evaluated.text, example, prompt)

    if (family, arguments, name) != ("qwen3_5", {}, "think"):  # preflight refuses to teach after an empty thought
        row = {"prompt": prompt.messages(example), "completion": [assistant_message(prompt.target(example))]}
        batch = Collator(policy.processor, completion_only_loss=True)([row | {"images": picture(example)}])
        taught = [label for label in batch["labels"][0].tolist() if label != -100]
        assert batch["input_ids"][0].tolist()[: len(asked)] == asked  # SFT teaches after the same prompt
        (learned,) = GRPO._completions(me, [taught])
        assert pays(learned.text, example, prompt)


@pytest.mark.parametrize(
    ("name", "reply", "text"),
    [
        ("think", "I look.</think><answer>yes</answer>", "<think>I look.</think><answer>yes</answer>"),
        ("think", "<think>I look.</think><answer>yes</answer>", "<think>I look.</think><answer>yes</answer>"),
        ("direct", "I look.\n</think>\n\n<answer>yes</answer>", "\n\n<answer>yes</answer>"),
        ("think", "<answer>yes</answer>", "<answer>yes</answer>"),
    ],
)
def test_a_server_that_opens_the_thought_sends_no_opening_tag(name, reply, text):
    assert completion_of(Reply(text=reply), get_prompt(name)).text == text


@pytest.mark.parametrize("kind", ["sft", "grpo"])
@pytest.mark.parametrize(
    ("key", "value", "way_out"),
    [
        ("chat_template_kwargs", {"enable_thinking": True}, r"set model\.chat_template_kwargs"),
        ("chat_template_path", "x.jinja", r"set model\.chat_template to a file"),
    ],
)
def test_one_stage_cannot_be_asked_otherwise(kind, key, value, way_out):
    stage = {"name": "one", "kind": kind, "trl": {key: value}}
    recipe = parse_recipe({"name": "r", "model": {"id": "m"}, "data": {"name": "phantom"}, "stages": [stage]})
    told = rf"stages\.one\.trl\.{key} contradicts the recipe; take it out and {way_out}"
    with pytest.raises(RecipeError, match=told):
        check_stage(recipe.stages[0], recipe)
