from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.report.charts import (
    HEIGHT,
    POINTS,
    WIDTH,
    Series,
    axis_ticks,
    frame_of,
    interval_mark,
    line_chart,
    smooth_values,
    thin_series,
)

numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 6))
lists = st.lists(numbers, min_size=1, max_size=60)


def series(values, *, spread=None, name="train"):
    return Series(name=name, steps=list(range(len(values))), values=values, spread=spread)


@given(lists, st.booleans())
def test_any_series_makes_well_formed_svg_inside_its_frame(values, banded):
    line = series(values, spread=[0.5] * len(values) if banded else None)
    svg = line_chart([line], label="x", at_least=0.1)
    root = ElementTree.fromstring(str(svg))
    for node in root.iter("polyline"):
        for point in node.get("points").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH and 0 <= y <= HEIGHT
    assert len(list(root.iter("title"))) == len(values)


@given(lists)
def test_smoothing_stays_within_the_values(values):
    smoothed = smooth_values(values)
    assert len(smoothed) == len(values)
    assert min(values) - 1e-6 <= min(smoothed) and max(smoothed) <= max(values) + 1e-6


@given(numbers, st.floats(1e-6, 1e6), st.integers(2, 6))
def test_ticks_are_few_even_and_inside(low, width, count):
    found = axis_ticks(low, low + width, count=count)
    assert len(found) <= count + 1
    slack = width * 1e-6 + abs(low) * 1e-12
    assert all(low - slack <= tick <= low + width + slack for tick in found)


def test_a_constant_is_not_blown_up():
    frame = frame_of([series([0.5, 0.5001, 0.4999])], at_least=0.2)
    assert frame.y1 - frame.y0 > 0.199


@pytest.mark.parametrize(("values", "low", "high"), [([0.0, 0.01], 0.0, 0.2), ([0.99, 1.0], 0.8, 1.0), ([0, 1], 0, 1)])
def test_shares_stay_between_0_and_1(values, low, high):
    frame = frame_of([series(values)], at_least=0.2, floor=0.0, ceiling=1.0)
    assert (frame.y0, frame.y1) == (pytest.approx(low), pytest.approx(high))


def test_long_series_are_thinned_and_keep_their_mean():
    line = series([float(i % 10) for i in range(10_000)])
    thinned = thin_series(line)
    assert len(thinned.values) <= POINTS
    assert sum(thinned.values) / len(thinned.values) == pytest.approx(4.5, abs=0.1)


def test_names_are_escaped():
    svg = line_chart([series([1.0, 2.0], name='<script>"x"</script>')], label='"><script>', at_least=0.1)
    assert "<script" not in svg


def test_an_interval_mark_clips_to_its_scale():
    svg = str(interval_mark(2.0, -3.0, 9.0, scale=(0, 1), says="x", zero=True))
    ElementTree.fromstring(svg)
    assert all(0 <= float(x) <= 100 for x in re.findall(r'x\d?="([\d.]+)%"', svg))


def test_an_unknown_interval_draws_no_whisker():
    assert "whisker" not in interval_mark(0.5, None, None, scale=(0, 1), says="x")
