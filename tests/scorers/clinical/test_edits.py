from difflib import SequenceMatcher

from hypothesis import given
from hypothesis import strategies as st

from medrft.scorers.clinical.edits import SHARED, compare_in_order

WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=9).map(tuple)


@given(WORDS, WORDS)
def test_texts_are_compared_as_difflib_compares_them(mine, yours):
    matcher = SequenceMatcher(None, mine, yours, autojunk=False)
    alike, edits = compare_in_order(mine, yours, set(mine) & set(yours))
    if matcher.ratio() < SHARED:
        assert alike < SHARED
    else:
        assert alike == matcher.ratio()
        changed = [edit for edit in matcher.get_opcodes() if edit[0] != "equal"]
        assert [edit for edit in edits if edit[0] != "equal"] == changed
