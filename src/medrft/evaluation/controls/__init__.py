"""Controls: does the model use the picture, and does it read the question? The same examples, changed in one way."""
