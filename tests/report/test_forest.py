"""A study's picture: every arm with its figures, escaped, and not squashed by one that lies far out."""

import xml.etree.ElementTree as ET

import pytest

from medrft.report.forest import Dot, Panel, dot_plot, forest_plot, reach_of

EVIL = "<script>x</script>"


def difference(mean, width=0.03):
    return {"mean": mean, "low": mean - width, "high": mean + width, "per_seed": {"1": mean, "2": mean}, "n": 100}


def share(value):
    return {
        "share": value,
        "low": None if value is None else value - 0.1,
        "high": None if value is None else value + 0.1,
    }


def facts(shares=None, **arms):
    rows = [
        {
            **{"arm": name, "mean": 0.4 + (mean or 0), "low": 0.35 + (mean or 0), "high": 0.45 + (mean or 0)},
            "difference": None if mean is None else difference(mean),
            "share": (shares or {}).get(name),
        }
        for name, mean in arms.items()
    ]
    tables = [
        {"dataset": d, "kind": k, "metric": "truth", "source": "none", "rows": rows}
        for d in ("a", "b")
        for k in ("all", "open")
    ]
    return {"study": EVIL, "primary": {"against": "none", "dataset": "b", "kind": "open"}, "tables": tables}


def said_in(picture):
    root = ET.fromstring(picture)
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_every_arm_and_data_set_has_a_mark_and_its_figures():
    shown = forest_plot(facts(one=0.02, none=None, two=-0.04))
    said = said_in(shown)
    assert said.count("+2.0 [−1.0, +5.0]") == 2 and said.count("−4.0 [−7.0, −1.0]") == 2
    assert said.count("42.0") == said.count("40.0") == said.count("36.0") == 2
    assert shown.count("<circle") == 2 * 3 + 2 * 2 and "<script" not in shown
    assert said.index("● b, open") < said.index("● a, open")  # the primary data set first
    assert said.index("none") < said.index("one") < said.index("two")  # the baseline first


def test_shares_of_the_oracle_stand_where_the_differences_would():
    told = {"one": share(0.62), "two": share(None)}
    said = said_in(forest_plot(facts(told, none=None, oracle=0.3, one=0.18, two=0.02)))
    assert "share of the oracle's gain" in said and "minus none, points" not in said
    assert said.count("62 % [52, 72]") == 2 and said.count("not determined") == 2
    assert said.count("+30.0 points") == 2  # what 100 % is
    undetermined = said_in(forest_plot(facts({"one": share(None)}, none=None, one=0.02)))
    assert "minus none, points" in undetermined


def test_an_arm_that_lies_far_out_is_an_arrow_and_leaves_the_scale_to_the_others():
    shown = forest_plot(facts(none=None, one=0.02, two=-0.04, three=0.01, far=-0.3))
    assert shown.count("<path") == 2 and "−30.0 [−33.0, −27.0]" in shown


def test_nothing_to_compare_is_no_picture():
    assert forest_plot(facts(none=None)) == "" == forest_plot(facts())


def test_a_picture_of_dots_escapes_and_takes_values_without_an_interval():
    dots = [[Dot(mean=0.5, low=None, high=None, says=EVIL)], [None]]
    panel = Panel(title=EVIL, left=140, right=700, figures=756, low=0.0, high=1.0, dark=[0.5], write=str, dots=dots)
    shown = dot_plot([EVIL, "b"], [panel], legend=[EVIL], says=EVIL)
    assert "<script" not in shown and shown.count("<circle") == 1 and 'class="whisker' not in shown
    assert said_in(shown).count(EVIL) == 3


@pytest.mark.parametrize(
    ("ends", "reach"),
    [([], 0.01), ([0.0], 0.01), ([0.001], 0.01), ([0.2, -0.3], 0.3), ([0.02, -0.03, 0.05, -0.9], 0.05)],
)
def test_reach(ends, reach):
    assert reach_of(ends) == reach
