"""Who writes the thoughts: a model of ours in the engine that the recipe names, shown what the recipe shows."""

import sys
from types import SimpleNamespace

import pytest

from families import SIZES, make_examples
from medrft.config import ModelConfig
from medrft.curation.curate import curate, made_with
from medrft.curation.writers import Weights, make_writer
from medrft.evaluation import engines
from medrft.models.load import resolve_base
from medrft.models.prompts import get_prompt
from medrft.recipes import parse_recipe
from medrft.types import Example
from toys import TABLE


class FakeVllm:
    """The part of vLLM's interface that we call; each answer is right, in the form, and names its request."""

    def __init__(self):
        self.loaded, self.asked = [], []
        self.LLM, self.SamplingParams = self._load, lambda **options: SimpleNamespace(**options)

    def _load(self, **options):
        self.loaded.append(options)
        return SimpleNamespace(generate=self._generate)

    def _generate(self, requests, params, *, use_tqdm):
        self.asked += [(request, params) for request in requests]
        text = "<think>One looks at the picture, {} of them, and sees it at once.</think><answer>yes</answer>"
        outputs = [
            SimpleNamespace(text=text.format(number), token_ids=[1] * 9, finish_reason="stop")
            for number in range(params.n)
        ]
        return [SimpleNamespace(outputs=outputs) for _ in requests]


@pytest.fixture
def vllm(monkeypatch):
    fake = FakeVllm()
    monkeypatch.setitem(sys.modules, "vllm", fake)
    return fake


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    texts = list(get_prompt("think").texts(make_examples(6)))
    model = ModelConfig(id="tiny:llava", tiny=SIZES)
    return Weights(model, resolve_base(model, texts=texts, output=tmp_path_factory.mktemp("tiny") / "m", seed=0))


@pytest.fixture
def pairs(tmp_path, image_file):
    files = []
    for number in range(3):
        files.append(image_file(tmp_path / f"{number}.png", 60 * number))
    return [
        Example(
            id=f"toy/train/{number}",
            dataset="toy",
            split="train",
            images=tuple(files[: 1 + number % 2]),
            question=question,
            references=("yes",),
            kind="closed",
        )
        for number, question in enumerate(("Is the liver large?", "Is a mass seen?", "Is there a cyst?"))
    ]


def recipe(**more):
    table = {**TABLE, "curate": {"tau": 3, "tries": 1, "near_identical": None}, "correct": {"scorer": "exact_match"}}
    return parse_recipe({**table, **more, "eval": {"batch_size": 2, "max_new_tokens": 32, **more.get("eval", {})}})


def test_vllm_writes_thoughts_where_the_recipe_says_so(vllm, weights, pairs, tmp_path):
    offline = recipe(eval={"engine": "vllm"})
    writer = make_writer(weights, offline, pairs)
    assert not vllm.loaded  # nothing before the first thought is asked for
    manifest = curate(pairs, offline, writer=writer, output=tmp_path / "out")
    assert manifest["result"]["kept"] == 3 and manifest["writer"]["engine"] == "vllm"
    (loaded,) = vllm.loaded
    assert loaded["limit_mm_per_prompt"] == {"image": 2} and loaded["model"] == weights.source
    pictures = [len(request["multi_modal_data"]["image"]) for request, _ in vllm.asked]
    assert sorted(pictures) == [1, 1, 2]
    settings = [(params.n, params.temperature, params.max_tokens) for _, params in vllm.asked]
    assert settings == [(1, 0.7, 32)] * 3 and len({params.seed for _, params in vllm.asked}) == 2  # one a batch


def test_who_writes_is_named_as_before_engines_could_be_chosen(weights, pairs):
    plain, offline = (
        made_with(pairs, one, make_writer(weights, one, pairs)) for one in (recipe(), recipe(eval={"engine": "vllm"}))
    )
    assert set(plain["writer"]) == {"model", "weights", "revision", "dtype"}
    assert offline["writer"] == {**plain["writer"], "engine": "vllm"}


def test_a_writer_sees_what_training_will_show(weights, pairs, monkeypatch):
    shown = []

    class Watched:
        def answers(self, prompt, examples, generation, *, images):
            shown.extend(image for example in examples for image in images(example))
            return iter([(number, ["said"]) for number in reversed(range(len(examples)))])

    monkeypatch.setattr("medrft.curation.writers.load_engine", lambda *args, **options: Watched())
    blank = recipe(data={**TABLE["data"], "blank": True})
    make_writer(weights, blank, pairs)(pairs, seed=0)
    assert all(len(image.getcolors()) == 1 for image in shown) and len(shown) == 4
    assert made_with(pairs, blank, make_writer(weights, blank, pairs))["pictures"] == "blank"
    assert "pictures" not in made_with(pairs, recipe(), make_writer(weights, recipe(), pairs))


def test_the_most_pictures_held_open_are_those_opened_last(pairs, monkeypatch):
    opened = []
    monkeypatch.setattr("medrft.data.images.open_image", lambda path, **options: opened.append(path) or path)
    images = engines.open_pictures(recipe().data)
    assert [images(example) for example in pairs] == [list(example.images) for example in pairs]
    assert opened == list(pairs[1].images)
