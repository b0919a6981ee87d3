"""From a reference and an answer to a clinical score in [0, 1], without a model.

Each text becomes findings with facets (`reader`), and the two are compared facet by facet (`compare`).

>>> from medrft.scorers.clinical import explain
>>> explain("no pneumothorax", "Pneumothorax is absent.").score
1.0
>>> round(explain("mild cardiomegaly", "severely enlarged heart").score, 2)
0.05
"""

from medrft.scorers.clinical.explain import Explanation, FacetLine, FindingLine, explain, explain_best
from medrft.scorers.clinical.reader import read_findings
from medrft.scorers.clinical.reading import Finding, Reading
from medrft.scorers.clinical.score import score_pair
from medrft.scorers.clinical.scorer import Clinical

__all__ = [
    "Clinical",
    "Explanation",
    "FacetLine",
    "Finding",
    "FindingLine",
    "Reading",
    "explain",
    "explain_best",
    "read_findings",
    "score_pair",
]
