"""A group's prompt and image computed once in TRL's GRPO trainer: how, whether it is right, and when it is not done."""
