from __future__ import annotations

import pickle
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification
from transformers import PreTrainedTokenizerFast as FastTokenizer

from medrft.config import ClinicalConfig
from medrft.errors import ModelError, RecipeError
from medrft.scorers import build_scorer
from medrft.scorers.nli import Nli, find_labels
from medrft.types import Item

THREE = ("contradiction", "entailment", "neutral")
WORDS = "where is the lesion in left right upper lung lobe no effusion mass ct mri of a ? ."


def build(folder, labels=THREE, *, bias=None, size=32):
    """A small random BERT that classifies pairs, with its tokenizer; `bias` pushes it to a label."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = [c for letter in "abcdefghijklmnopqrstuvwxyz0123456789" for c in (letter, f"##{letter}")]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(special + WORDS.split() + letters))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    FastTokenizer(tokenizer_object=tokenizer, model_max_length=96, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=size,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    model = BertForSequenceClassification(config).eval()
    if bias:
        model.classifier.bias.data[labels.index(bias)] = 20.0
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.set_num_threads(1)  # tests share the cores
    return build(tmp_path_factory.mktemp("nli"))


def item(answer, reference="left lung", question="Where is the lesion?"):
    references = reference if isinstance(reference, tuple) else (reference,)
    return Item(references=references, kind="open", answer=answer, question=question)


def test_scores_are_the_models_own_probabilities_both_ways(tiny):
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)

    def probabilities(premise, hypothesis):
        with torch.inference_mode():
            logits = model(**tokenizer(premise, hypothesis, return_tensors="pt")).logits
        return torch.softmax(logits, -1)[0].tolist()

    pairs = [
        ("right lung", "left lung"),
        ("mass in the upper lobe", "upper lobe mass"),
        ("no effusion", "ct"),
        ("?mri", "a mri"),
    ]
    question = "Where is the lesion? "
    for gate in (0.5, 1.0, None):
        expected = []
        for a, r in pairs:
            forth, back = probabilities(question + a, question + r), probabilities(question + r, question + a)
            clash = gate is not None and max(forth[0], back[0]) >= gate
            expected.append(0.0 if clash else min(forth[1], back[1]))
        scores = Nli(model=tiny, gate=gate, batch_size=3)([item(*pair) for pair in pairs])
        assert scores[:3] == pytest.approx(expected[:3], abs=2e-5)
        assert scores[3] == 1.0  # equal after normalisation: not asked
    mean = Nli(model=tiny, gate=None, combine="mean", question=False)([item(*pairs[0])])
    ways = probabilities("right lung", "left lung")[1], probabilities("left lung", "right lung")[1]
    assert mean == pytest.approx([sum(ways) / 2], abs=2e-5)


@pytest.mark.parametrize(("bias", "score"), [("entailment", 1.0), ("neutral", 0.0), ("contradiction", 0.0)])
def test_what_each_label_is_worth(tmp_path, bias, score):
    assert Nli(model=build(tmp_path, bias=bias))([item("right lung")]) == pytest.approx([score], abs=1e-3)


def test_the_gate_closes_on_a_contradiction(tmp_path):
    model = build(tmp_path, ("contradiction", "entailment"))  # two outputs: what is not entailed is a contradiction
    pairs = [item(a, r) for a in ("right lung", "ct", "no effusion", "mass") for r in ("left", "mri", "upper lobe")]
    open_, gated = Nli(model=model, gate=None)(pairs), Nli(model=model, gate=0.5)(pairs)
    assert gated == [score if score > 0.5 else 0.0 for score in open_]
    assert 0 < sum(score == 0 for score in gated) < len(pairs)


def test_order_and_batch_size_change_nothing(tiny):
    items = [item("mass " * n + side, ("left", "no mass")) for n in range(6) for side in ("left", "right")]
    scores = Nli(model=tiny)(items)
    for size in (1, 5):
        fresh = Nli(model=tiny, batch_size=size, max_length=90 - size)  # another length: nothing remembered
        assert fresh(items[::-1])[::-1] == pytest.approx(scores, abs=2e-5)
    assert pickle.loads(pickle.dumps(Nli(model=tiny)))(items) == scores


def test_each_distinct_pair_is_judged_once(tiny):
    from medrft.scorers.nli import _load

    scorer = Nli(model=tiny, max_length=77)
    encoder = _load(tiny, None, "auto", "float32")
    rows = []
    hook = encoder.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    scorer([item("right lung"), item("ct"), item("right lung")] * 50)
    scorer([item("ct")])
    hook.remove()
    assert sum(rows) == 4  # two pairs, both ways


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [("-", "left", 0.0), ("", "left", 0.0), (None, "left", 0.0), ("left " * 300, "left", 0.0), ("left", "?", None)],
)
def test_what_no_model_is_asked(tiny, answer, reference, score):
    assert Nli(model=tiny)([item(answer, reference)]) == [score]


def test_long_texts_and_questions_fit(tiny):
    texts = ["left lung " * 99, "\ud800 mass", "无 左肺", "\u200b" * 400 + "ct"]
    scores = Nli(model=tiny)([item(a, r, "where is it? " * 500) for a in texts for r in texts])
    assert all(0 <= score <= 1 for score in scores)


def test_output_that_is_no_number_is_no_score(tmp_path):
    folder = build(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.classifier.bias.data[0] = float("nan")
    model.save_pretrained(folder)
    with pytest.warns(UserWarning, match="1 of 2 unscored"):
        assert Nli(model=folder)([item("right"), item("left lung")]) == [None, 1.0]


@pytest.mark.parametrize(
    ("labels", "given", "gated", "expected"),
    [
        (("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), None, True, (2, 0)),
        (("entailment", "neutral", "contradiction"), None, True, (0, 2)),
        (("entailment", "not_entailment"), None, False, (0, None)),
        (("LABEL_0", "LABEL_1", "LABEL_2"), THREE, True, (1, 0)),
        (("entailment", "not_entailment"), None, True, "gate: null"),
        (("LABEL_0", "LABEL_1", "LABEL_2"), None, True, "labels: LABEL_0, LABEL_1, LABEL_2"),
        (("LABEL_0",), None, True, "which output is entailment"),  # a similarity model or a re-ranker
        (("entailment", "entailed"), None, False, "which output is entailment"),
        (("a", "b"), THREE, True, "has 2 outputs"),
    ],
)
def test_labels_are_found_by_name_or_refused(labels, given, gated, expected):
    if isinstance(expected, tuple):
        assert find_labels(dict(enumerate(labels)), model="x", given=given, gated=gated) == expected
    else:
        with pytest.raises(ModelError, match=expected):
            find_labels(dict(enumerate(labels)), model="x", given=given, gated=gated)


def test_models_that_are_none(tmp_path, tiny):
    with pytest.raises(ModelError, match="cannot load"):
        Nli(model=str(tmp_path / "nowhere"))([item("right")])
    (tmp_path / "encoder").mkdir()
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "encoder")
    AutoModelForSequenceClassification.from_pretrained(tiny).bert.save_pretrained(tmp_path / "encoder")
    with pytest.raises(ModelError, match="not trained to classify"):
        Nli(model=str(tmp_path / "encoder"))([item("right")])
    one = build(tmp_path / "one", ("LABEL_0",))
    with pytest.raises(ModelError, match="which output is entailment"):
        Nli(model=one)([item("right")])


@pytest.mark.parametrize(
    "options", [{}, {"model": "x", "gate": 0.0}, {"model": "x", "gate": 2}, {"model": "x", "combine": "max"}]
)
def test_options_are_checked_when_it_is_built(options):
    with pytest.raises(RecipeError):
        Nli(**options)


ANY = st.text(alphabet=st.characters(), max_size=60) | st.text(alphabet="left right \ud800\u200b<>[SEP]\n", max_size=40)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(answer=ANY, reference=ANY)
def test_any_text_gets_a_number(tiny, answer, reference):
    [score] = Nli(model=tiny, gate=None)([item(answer, reference)])
    assert score is None or 0.0 <= score <= 1.0


@pytest.mark.parametrize(
    "text", ["left lung " * 100_000, "x" * 1_000_000, "\u200b a" * 333_333], ids=lambda t: ascii(t[:4])
)
def test_a_megabyte_takes_no_time(tiny, text):
    Nli(model=tiny)([item("right")])  # loaded before the clock starts
    start = time.monotonic()
    assert Nli(model=tiny)([item(text)]) == [0.0]
    assert Nli(model=tiny)([item("right", text, text)])[0] is not None
    assert time.monotonic() - start < 4.0


UNKNOWN = "flumoxed grumbly wifflings"


@pytest.mark.parametrize(
    ("label", "reference", "answer", "check"),
    [
        (None, "left lung", "right lung", lambda plain, mixed: mixed == plain),  # all known: clinical alone
        ("entailment", UNKNOWN, "qqtrimble", lambda plain, mixed: plain < 0.3 and mixed > 0.95),
        ("contradiction", UNKNOWN, "flumoxed grumbly", lambda plain, mixed: plain > 0.1 and mixed <= 0.1),
        ("neutral", UNKNOWN, "qqtrimble", lambda plain, mixed: mixed <= 0.05),
        ("entailment", "left lung flumoxed grumbly", "qqtrimble", lambda plain, mixed: 0.3 < mixed < 0.95),  # half
        ("contradiction", UNKNOWN, UNKNOWN, lambda plain, mixed: mixed == 1.0),  # equal texts are not asked
        ("entailment", UNKNOWN, "qqtrimble " * 200, lambda plain, mixed: mixed == plain),  # too long for the model
    ],
)
def test_it_breaks_ties_where_the_lexicon_knows_too_little(label, reference, answer, check, tmp_path):
    model = build(tmp_path, bias=label)
    (plain,) = build_scorer("clinical")([item(answer, reference)])
    with_nli = build_scorer("clinical", clinical=ClinicalConfig(nli=model))
    (mixed,) = with_nli([item(answer, reference)])
    assert 0 <= mixed <= 1 and check(plain, mixed), (plain, mixed)
    assert with_nli.describe() == {"nli": model}
    lines = with_nli.explain(item(answer, reference))
    asked = reference != "left lung" and answer != reference and len(answer) < 1000
    assert any(f"with nli {model}" in line for line in lines) is asked


def test_ties_are_broken_batch_by_batch_as_one_by_one(tiny):
    scorer = build_scorer("clinical", clinical=ClinicalConfig(nli=tiny))
    items = [item(answer, reference) for reference in (UNKNOWN, "left lung") for answer in ("flumoxed", "mass", "left")]
    assert scorer(items) == [scorer([one])[0] for one in items]


def test_a_tie_breaker_must_be_an_nli_model(tmp_path):
    scorer = build_scorer("clinical", clinical=ClinicalConfig(nli=str(tmp_path / "none")))
    assert scorer([item("left lung")]) == [1.0]  # not loaded until it is needed
    with pytest.raises(ModelError, match="cannot load"):
        scorer([item("qqtrimble", UNKNOWN)])
