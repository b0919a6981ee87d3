"""A study's picture: every arm with its figures, escaped, and not squashed by one that lies far out."""

import xml.etree.ElementTree as ET

import pytest

from medrft.report.forest import forest_plot, reach_of

EVIL = "<script>x</script>"


def difference(mean, width=0.03):
    return {"mean": mean, "low": mean - width, "high": mean + width, "per_seed": {"1": mean, "2": mean}, "n": 100}


def facts(**arms):
    rows = [{"arm": name, "difference": None if mean is None else difference(mean)} for name, mean in arms.items()]
    tables = [{"dataset": d, "kind": k, "metric": "truth", "rows": rows} for d in ("a", "b") for k in ("all", "open")]
    return {"study": EVIL, "primary": {"against": EVIL, "kind": "open"}, "tables": tables}


def test_every_arm_and_data_set_has_a_mark_and_its_figures():
    shown = forest_plot(facts(none=None, one=0.02, two=-0.04))
    root = ET.fromstring(shown)
    said = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert said.count("+2.0 [−1.0, +5.0]") == 2 and said.count("−4.0 [−7.0, −1.0]") == 2
    assert shown.count("<circle") == 4 and "<script" not in shown and "none" not in said


def test_an_arm_that_lies_far_out_is_an_arrow_and_leaves_the_scale_to_the_others():
    shown = forest_plot(facts(one=0.02, two=-0.04, three=0.01, far=-0.6))
    assert shown.count("<path") == 2 and shown.count("<circle") == 6 and "−60.0 [−63.0, −57.0]" in shown


def test_nothing_to_compare_is_no_picture():
    assert forest_plot(facts(none=None)) == ""


@pytest.mark.parametrize(
    ("ends", "reach"),
    [([], 0.01), ([0.0], 0.01), ([0.001], 0.01), ([0.2, -0.3], 0.3), ([0.02, -0.03, 0.05, -0.9], 0.05)],
)
def test_reach(ends, reach):
    assert reach_of(ends) == reach
