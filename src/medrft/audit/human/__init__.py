"""How far a reward agrees with people: files of ratings, labels or orders go in, figures come out.

    judged = read_human("radpref:CRIMSON/RadPref")
    found = compare_with_people([load_subject("clinical")], [judged], against=[load_subject("bleu1")])

Ratings are compared by Kendall's tau-b, labels by the AUROC, orders by how many a reward keeps.
"""

from medrft.audit.human.measure import FIGURES, compare_with_people
from medrft.audit.human.read import READERS, read_human
from medrft.audit.human.rows import HumanSet, Order, Rated

__all__ = ["FIGURES", "READERS", "HumanSet", "Order", "Rated", "compare_with_people", "read_human"]
