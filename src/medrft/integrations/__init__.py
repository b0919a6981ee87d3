"""Our rewards in other trainers: completions and columns in, the same numbers as in our training out. Torch-free.

reward = ForeignReward("armed_clinical", state="state.json")
reward(items_of(completions, {"reference": references, "question": questions}))
"""

from medrft.integrations.foreign import ForeignReward
from medrft.integrations.rows import items_of

__all__ = ["ForeignReward", "items_of"]
