"""Policies: loading, tiny random models, prompts and generation. Submodules are imported by name; this one is light."""
