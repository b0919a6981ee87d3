"""How tiny models are built: one file for related families, with one function per family.

Each function takes sizes and texts and returns a config and its processor. `models/tiny.py` calls them.
"""
