"""Curation, ARMed's data stage: frequent answers thinned, and a thought written and checked for each that is kept."""
