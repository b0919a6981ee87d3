"""The reward audit: rewards and answers to try them on go in; measurements and findings come out.

It asks four things: does a reward tell right from wrong, can GRPO learn from it, can it be hacked, is it sound code?

subjects = [load_subject("armed"), load_subject("my_reward.py:score", style="trl")]
summary = audit_rewards(subjects, default_material(seed=0, limit=300), Settings(), out=Path("audit"))

Loads no torch, unless a reward has an encoder. No policy model is needed.
"""

from medrft.audit.finding import SEVERITIES, Finding
from medrft.audit.perform import Settings, at_least, audit_rewards, audit_run_reward, people_summary
from medrft.audit.sources import Material, default_material
from medrft.audit.subject import check_subject, load_subject
from medrft.audit.verdict import THRESHOLDS, set_thresholds

__all__ = [
    "SEVERITIES",
    "THRESHOLDS",
    "Finding",
    "Material",
    "Settings",
    "at_least",
    "audit_rewards",
    "audit_run_reward",
    "check_subject",
    "default_material",
    "load_subject",
    "people_summary",
    "set_thresholds",
]
