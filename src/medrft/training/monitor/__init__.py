"""What a GRPO stage's numbers say while it trains, and why it goes wrong."""
