"""How each tiny family is built: one file per kin of families, each a function from sizes and texts to a config and its
processor. `models/tiny.py` is the door."""
