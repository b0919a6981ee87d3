import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.scorers import build_scorer
from medrft.text import normalize
from medrft.text.signs import spell_signs
from score_items import item

CASES = Path(__file__).parents[1] / "cases"
EXACT, CLINICAL = build_scorer("exact_match"), build_scorer("clinical")
CONVERTED = {("1.5 L", "1500 mL")}
"""Other units: the same for clinical, never for exact_match."""
HALF = {("A, C", "C")}


def rows():
    with (CASES / "signs.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def exact(one, other):
    return EXACT([item(one, other, kind="open")])[0]


def clinical(one, other):
    return CLINICAL([item(one, other, kind="open")])[0]


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row['reference']} / {row['answer']}")
def test_the_cases(row):
    answer, reference, same = row["answer"], row["reference"], row["same"] == "1"
    assert exact(answer, reference) == float(same and (reference, answer) not in CONVERTED)
    found = clinical(answer, reference)
    assert found == 1.0 if same else found <= (0.5 if (reference, answer) in HALF else 0.3)


DIFFERENT = [
    *(("HER2 +", "HER2 -"), ("ER+/PR-", "ER-/PR+"), ("ER+", "ER-"), ("Rh+", "Rh−"), ("3+", "3-"), ("2+", "3+")),
    *(("HER2⁺", "HER2⁻"), ("CD20+ B cells", "CD20- B cells"), ("T1 C+", "T1 C-"), ("IgG+ IgM-", "IgG- IgM+")),
    *(("signal ↑", "signal ↓"), ("T2⬆", "T2⬇"), ("↑ T1", "↓ T1"), ("a ≠ b", "a = b"), ("left = right", "left ≠ right")),
    *(
        ("left lung = right lung", "left lung != right lung"),
        ("> 5 cm", "< 5 cm"),
        ("≥5 mm", "≤5 mm"),
        (">=5 mm", "<=5 mm"),
    ),
    *(
        ("10⁻⁶", "10-6"),
        ("10^6", "106"),
        ("2.5 x 10⁹/L", "2.5 x 109/L"),
        ("L > R", "R > L"),
        ("left>right", "right>left"),
    ),
    *(("left kidney > right kidney", "right kidney > left kidney"), ("15 cm", "1.5 cm"), ("-15 HU", "15 HU")),
    *(("left kidney is larger than the right", "right kidney is larger than the left"), ("p < 0.05", "p > 0.05")),
    *(("p=0.05", "p≠0.05"), ("p = 0.05", "p ≥ 0.05"), ("1,500 mL", "1.5 mL"), ("α", "β"), ("5 mg", "5 g"), ("♂", "♀")),
    *(("CT+C", "CT-C"), ("CT (+C)", "CT (-C)"), ("MRI +C", "MRI -C"), ("T1-C", "T1+C"), ("MR+", "MR-"), ("Q+", "Q-")),
    *(("HIV +ve", "HIV -ve"), ("+ve", "-ve"), ("EGFR (+)", "EGFR (-)"), ("Murphy sign (+)", "Murphy sign (−)")),
    *(("1 → 2", "2 → 1"), ("1 -> 2", "2 => 1"), ("T1 → T2", "T2 → T1"), ("5 cm ⇒ 3 cm", "3 cm ⇒ 5 cm"), ("1:2", "2:1")),
    *(("mild → severe", "severe → mild"), ("increased from 3 to 5 cm", "increased from 5 to 3 cm")),
    *(("Gram + cocci", "Gram - cocci"), ("ER + breast cancer", "ER – breast cancer"), ("G+ cocci", "G- cocci")),
    *(("Rh + mother", "Rh - mother"), ("EGFR + lung cancer", "EGFR - lung cancer"), ("anti-HCV+", "anti-HCV-")),
    *(("PD-L1+", "PD-L1-"), ("PD-L1 +", "PD-L1 -"), ("抗体+", "抗体-"), ("+", "(-)"), ("(+)", "(-)")),
    *(("CT + contrast", "CT - contrast"), ("MRI +gadolinium", "MRI -gadolinium"), ("BP ↗", "BP ↘"), ("T2 ▲", "T2 ▼")),
    *(("x ≈ y", "x ≠ y"), ("¬ fracture", "fracture")),
    *(("Gram+", "Gram-"), ("T1↑ T2↓", "T1↓ T2↑"), ("↑T1, ↓T2", "↓T1, ↑T2")),
    *(
        ("A>B", "B>A"),
        ("5x10^9", "5x10^8"),
        ("T2*", "T2"),
        ("½", "12"),
        ("HBsAg +", "HBsAg -"),
        ("A/C", "C"),
        ("A and C", "C"),
    ),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_signs_that_carry_meaning_differ(one, other):
    assert exact(one, other) == 0.0
    assert min(clinical(one, other), clinical(other, one)) <= 0.3


LESS_OR_MORE = [
    *(("HER2+", "HER2"), ("HER2+ breast cancer", "HER2 breast cancer"), ("CD20+", "CD20"), ("HER2 positive", "HER2")),
    *(("Gram + cocci", "Gram cocci"), ("> 5", "≥ 5"), ("< 5 mm", "≤ 5 mm"), (">=5", ">5"), ("p < 0.05", "p ≤ 0.05")),
    *(("left > right", "left ≥ right"), ("the left is > the right", "left ≥ right"), ("at most 5 mm", "< 5 mm")),
    *(("the size is < 5 mm", "it is ≤ 5 mm"), ("less than 5 mm", "at most 5 mm"), ("± 5", "5"), ("5 ± 2", "5 + 2")),
    *(("T1 ↑↑", "T1 ↑"), ("A <-> B", "A > B"), ("left > right", "left right"), ("2+3", "2-3"), ("5° angle", "5 angle")),
]
"""The same words with a sign more, less or nearly the same: neither equal nor a contradiction."""


@pytest.mark.parametrize(("one", "other"), LESS_OR_MORE)
def test_signs_that_say_more_or_less_are_not_equal(one, other):
    assert exact(one, other) == 0.0
    assert max(clinical(one, other), clinical(other, one)) <= 0.7


ONE_SPELLING = [
    *(("½ cm", "0.5 cm"), ("1 ½ cm", "1.5 cm"), ("1 1/2 cm", "1.5 cm"), ("1½", "1.5"), ("¾ inch", "0.75 inch")),
    *(("5,2 x 3,1 cm", "5.2 x 3.1 cm"), ("5,2×3,1cm", "5.2 x 3.1 cm"), ("0,125 mg", "0.125 mg"), ("12,5 %", "12.5%")),
    *(
        ("３７，５ mm", "37.5 mm"),
        ("3 μg", "3 ug"),
        ("3 µL", "3 uL"),
        ("3µm", "3 um"),
        ("2.00", "2"),
        ("2.50 cm", "2.5 cm"),
    ),
    *(
        ("5—7 cm", "5-7 cm"),
        ("5 – 7 cm", "5-7 cm"),
        ("−15 HU", "-15 HU"),
        ("- 15 HU", "-15 HU"),
        ("minus 15 HU", "−15 HU"),
    ),
    *(("1500 mL", "1,500 mL"), ("α-fetoprotein", "alpha-fetoprotein"), ("TNF-α", "TNF-alpha"), ("<= 5 mm", "≤5 mm")),
    *((">/= 5 mm", "≥ 5 mm"), ("a != b", "a ≠ b"), ("+/- 2 mm", "± 2 mm"), ("HER2⁺", "HER2+"), ("HER2 +", "HER2+")),
    *(
        ("T2*-weighted", "T2 star weighted"),
        ("T1- and T2-weighted", "T1 and T2 weighted"),
        ("10⁶", "10^6"),
        ("cm²", "cm2"),
    ),
    *(
        ("T1- weighted", "T1 weighted"),
        ("**T2**", "T2"),
        ("<your answer>", "your answer"),
        ("mass -> left", "mass left"),
    ),
    *(("HIV +ve", "HIV positive"), ("HIV-ve", "HIV negative"), ("EGFR (+)", "EGFR+"), ("CT (+C)", "CT C+")),
    *(("2.5 x 10⁹/L", "2.5x10^9/L"), ("CT-C spine", "CT C spine"), ("(+)-catechin", "catechin")),
    *(("3 * 4 cm", "3 x 4 cm"), ("C5/6", "C5-6"), ("30°", "30 degrees"), ("1 → 2", "1 -> 2"), ("=> 5 mm", "≥ 5 mm")),
    *(
        ("pneumonia - right lower lobe", "pneumonia, right lower lobe"),
        ("HIV - a virus", "HIV, a virus"),
        ("37 °C", "37 C"),
    ),
    *(
        ("CT - contrast study", "CT, contrast study"),
        ("▲ mass", "mass"),
        ("CT - contrast", "CT without contrast"),
        ("Gram + cocci", "Gram+ cocci"),
    ),
    *(("T1+C", "T1 C+"), ("50 %", "50%"), ("CT + MRI", "CT MRI"), ("pre- and post-contrast", "pre and post contrast")),
]


@pytest.mark.parametrize(("one", "other"), ONE_SPELLING)
def test_one_spelling(one, other):
    assert normalize(one) == normalize(other)
    assert clinical(one, other) == clinical(other, one) == 1.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(
            ("1.5 L", "1500 ml"),
            ("1.5 liters", "1500 mL"),
            ("500 mg", "0.5 g"),
            ("15 mm", "1.5 cm"),
            ("3 µm", "0.003 mm"),
        ),
        *(
            ("5-7 cm", "5 to 7 cm"),
            ("left > right", "right < left"),
            ("↑T1 ↓T2", "T1↑ T2↓"),
            ("T1 signal ↑, T2 signal ↓", "T2 signal ↓, T1 signal ↑"),
            ("EGFR (-)", "EGFR negative"),
            ("CT -C", "CT without contrast"),
            ("Gram- rods", "Gram negative rods"),
            ("Gram - rods", "Gram-negative rods"),
            ("the tumor is HER2+", "HER2 positive tumor"),
            ("5 mm or more", "≥ 5 mm"),
            ("under 5 mm", "< 5 mm"),
            ("no more than 5 mm", "≤ 5 mm"),
            ("from L2 to L4", "from L4 to L2"),
            ("1 → 2", "2 ← 1"),
            ("HER2+", "HER2 positive"),
            ("C+", "with contrast"),
        ),
        *(("T1 ↑", "T1 increased"), ("ER-", "ER negative"), ("3 micrometers", "3 µm")),
    ],
)
def test_the_same_to_clinical_and_not_to_exact_match(one, other):
    assert clinical(one, other) == clinical(other, one) == 1.0
    assert exact(one, other) == 0.0


NUMBER = st.one_of(st.integers(0, 9_999).map(str), st.decimals(0, 999, places=2).map(str))
UNIT = st.sampled_from(["mm", "cm", "mL", "L", "HU", "mg", "kg", "%", "µm"])
SIGNED = st.sampled_from(["", "-", "−", "minus ", "<", ">", "≤ ", ">= ", "~", "± "])
MADE = st.tuples(SIGNED, NUMBER, st.sampled_from(["", " "]), UNIT).map("".join)
LOOSE = st.lists(
    st.sampled_from(
        [
            *(
                "1",
                "5",
                "0",
                "12",
                ",",
                ".",
                "/",
                "½",
                "⅓",
                "⁶",
                "⁻",
                "+",
                "-",
                "−",
                "<",
                ">",
                "=",
                "≠",
                "±",
                "↑",
                "→",
                "->",
                "°",
                "▲",
                "x",
                "×",
                "*",
            ),
            *(
                " ",
                "cm",
                "mL",
                "µm",
                "HU",
                "%",
                "HER2",
                "T1",
                "C",
                "a",
                "the",
                "left",
                "α",
                "μ",
                "^",
                "~",
                "(",
                ")",
                "minus",
            ),
        ]
    ),
    max_size=10,
)


@given(MADE)
def test_numbers_and_units_keep_their_spelling(text):
    once = normalize(text)
    assert normalize(once) == once and spell_signs(spell_signs(text)) == spell_signs(text)
    assert clinical(text, once) == 1.0


@given(
    NUMBER,
    UNIT,
    st.sampled_from(
        [("{n}{u}", "{n} {u}"), ("{n} {u}.", "{n} {u}"), ("−{n} {u}", "-{n} {u}"), ("({n} {u})", "{n}{u}")]
    ),
)
def test_round_trip_of_numbers_and_units(number, unit, forms):
    one, other = (form.format(n=number, u=unit) for form in forms)
    assert normalize(one) == normalize(other)


@given(st.integers(0, 999), st.integers(0, 99), st.sampled_from(["mm", "cm", "mL", "mg"]))
def test_a_decimal_comma_is_one_before_a_unit_alone(whole, part, unit):
    assert normalize(f"{whole},{part} {unit}") == normalize(f"{whole}.{part} {unit}")
    assert normalize(f"{whole},{part}") == normalize(f"{whole} {part}")
    assert normalize(f"{whole or 1},{part:03} {unit}") == normalize(f"{whole or 1}{part:03} {unit}")


@given(LOOSE.map("".join))
def test_signs_are_spelled_once_and_for_all(text):
    assert spell_signs(spell_signs(text)) == spell_signs(text)
    once = normalize(text)
    assert once == " ".join(once.split())
