"""Does the model look, and does it listen? Blank and swapped pictures, negations, left and right, other words."""
