"""Curation, ARMed's data stage: thins frequent answers, and has a thought written and checked for each pair kept."""
