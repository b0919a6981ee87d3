"""Small result files of a study, as `write_outcome` makes them, from a list of right and wrong answers."""


def made(arm, seed, truths, *, blank=None, key="k", steps=3, tokens=100):
    """A result file as `write_outcome` makes them."""
    bits = "".join(str(int(value)) for value in truths)
    values = {"none": {"truth": bits}, **({"blank": {"truth": blank}} if blank else {})}
    n = len(truths)
    answers = {"prefix": "phantom/test/", "ids": " ".join(map(str, range(n))), "kinds": "lo" * (n // 2)}
    clusters = {
        "images": " ".join(f"{seed}x{i}" for i in range((n + 1) // 2)),  # each seed draws its own
        "clusters": " ".join(str(i // 2) for i in range(n)),
    }
    own = {"stage": "grpo", "kind": "grpo", "shared": None, "steps": steps, "seconds": 2.0, "tokens": tokens, "seen": 4}
    return {
        **{"arm": arm, "seed": seed, "key": key, "encoder": "e", "form": None, "pass_at": {}, "curves": {}},
        "answers": {"phantom": {**answers, **clusters, "values": values}},
        **{"metrics": {}, "cost": [own], "evaluation_seconds": 1.0},
    }


def begun(arm, seed, truths, *, shared, trained, passed=None):
    """A result that began from a shared stage."""
    result = made(arm, seed, truths)
    stage = {"stage": "sft", "kind": "sft", "shared": shared, "steps": 1, "seconds": 1.0}
    own = {"stage": "grpo", "kind": "grpo", "shared": None, "steps": 1, "seconds": 1.0}
    return {**result, "cost": [stage, own] if trained else [stage], "pass_at": {"phantom": passed} if passed else {}}
