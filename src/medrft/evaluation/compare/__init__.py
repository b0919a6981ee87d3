"""Two sides on the same questions: paired answers, differences with intervals, and which answers changed."""
