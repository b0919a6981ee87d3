"""Where the time of an optimizer step goes: measured while a stage trains, and read from its log afterwards.

clock      seconds of a step by part; on CUDA by events
flops      floating-point operations of a model's weights, counted while it runs
trainer    mixins for the trainers: when parts begin and end, and what is logged
slowest    from rows of `metrics.jsonl` to the slowest part and what would help; needs no torch
"""
