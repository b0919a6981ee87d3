"""A reward file for OpenRLHF: `--reward.remote_url examples/openrlhf_reward.py`.

`text` learns nothing. For `armed_clinical` fit a state first: medrft score ROWS.jsonl --reward armed_clinical --fit
state.json; then `make_reward_func("armed_clinical", state="state.json")`.
"""

from medrft.integrations.openrlhf import make_reward_func

reward_func = make_reward_func("text")
