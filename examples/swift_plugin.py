"""A plugin for ms-swift: `--external_plugins examples/swift_plugin.py --reward_funcs medrft`.

`text` learns nothing. For `armed_clinical` fit a state first: medrft score ROWS.jsonl --reward armed_clinical --fit
state.json; then `register_reward("medrft", "armed_clinical", state="state.json")`.
"""

from medrft.integrations.swift import register_reward

register_reward("medrft", "text")
