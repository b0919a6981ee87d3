"""One-to-one pairs: the same sum as scipy's, and nothing twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrft.scorers.clinical.assignment import assign_pairs

tables = st.integers(1, 6).flatmap(
    lambda rows: st.integers(1, 6).flatmap(
        lambda columns: st.lists(
            st.lists(st.just(0.0) | st.floats(0, 1), min_size=columns, max_size=columns), min_size=rows, max_size=rows
        )
    )
)


@settings(deadline=None)
@given(tables)
def test_the_largest_sum(values):
    scipy = pytest.importorskip("scipy.optimize")
    pairs = assign_pairs(values)
    rows, columns = scipy.linear_sum_assignment(-np.array(values))
    assert sum(values[row][column] for row, column in pairs.items()) == pytest.approx(
        np.array(values)[rows, columns].sum()
    )
    assert len(set(pairs.values())) == len(pairs)
    assert all(values[row][column] > 0 for row, column in pairs.items())


def test_nothing_to_pair():
    assert assign_pairs([]) == assign_pairs([[]]) == {}
