"""From a table of values to the one-to-one pairs with the largest sum (the assignment problem).

`scipy.optimize.linear_sum_assignment` does the same, but rewards must install without scipy.
"""

from __future__ import annotations

from collections.abc import Sequence


def assign_pairs(values: Sequence[Sequence[float]]) -> dict[int, int]:
    """Row -> column of the pairs whose values have the largest sum; each row and column is in one pair at most.

    `values` has shape (rows, columns). Pairs worth nothing are left out. By the Hungarian method with potentials
    (Kuhn 1955, Munkres 1957), in rows^2 x columns steps.

    >>> assign_pairs([[0.9, 0.8], [0.8, 0.1]])
    {0: 1, 1: 0}
    """
    rows, columns = len(values), len(values[0]) if values else 0
    if not rows or not columns:
        return {}
    if rows > columns:
        turned = assign_pairs([[values[row][column] for row in range(rows)] for column in range(columns)])
        return dict(sorted((row, column) for column, row in turned.items()))
    above, beside = [0.0] * (rows + 1), [0.0] * (columns + 1)
    row_of = [0] * (columns + 1)
    for row in range(1, rows + 1):
        row_of[0], column = row, 0
        least = [float("inf")] * (columns + 1)
        before, done = [0] * (columns + 1), [False] * (columns + 1)
        while row_of[column]:
            done[column], current = True, row_of[column]
            step, following = float("inf"), 0
            for other in range(1, columns + 1):
                if done[other]:
                    continue
                slack = -values[current - 1][other - 1] - above[current] - beside[other]
                if slack < least[other]:
                    least[other], before[other] = slack, column
                if least[other] < step:
                    step, following = least[other], other
            for other in range(columns + 1):
                if done[other]:
                    above[row_of[other]] += step
                    beside[other] -= step
                else:
                    least[other] -= step
            column = following
        while column:
            row_of[column] = row_of[before[column]]
            column = before[column]
    pairs = {row_of[column] - 1: column - 1 for column in range(1, columns + 1) if row_of[column]}
    return {row: pairs[row] for row in sorted(pairs) if values[row][pairs[row]] > 0}
