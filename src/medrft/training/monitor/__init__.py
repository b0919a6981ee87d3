"""Watches a GRPO stage: a batch's rewards become numbers (`measures`), and those become warnings (`watch`)."""
