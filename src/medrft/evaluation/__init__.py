"""What a model says on held-out examples, what that is worth, and the controls it is read against."""
