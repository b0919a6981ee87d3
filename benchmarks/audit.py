"""How long the default audit takes, per reward, in seconds of CPU time and by the clock.

    python benchmarks/audit.py [--json] [--reward NAME …]

Claims: under 20 s for a reward without torch, under 60 s for `armed` with the packaged encoder, on two cores.
"""

from __future__ import annotations

import argparse
import json
import time

from medrft.audit import Settings, audit_rewards, default_material, load_subject

LIMITS = {"text": 20.0, "armed": 60.0}


def measure(name: str) -> dict[str, object]:
    clock, cpu = time.perf_counter(), time.process_time()
    summary = audit_rewards([load_subject(name)], default_material(seed=0, limit=240), Settings(), out=None)
    row = summary["rewards"][name]
    return {
        "reward": name,
        "encoder": row["encoder"],
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "clock_seconds": round(time.perf_counter() - clock, 1),
        "limit": LIMITS.get(name),
        "findings": [finding["name"] for finding in row["findings"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--reward", action="append")
    arguments = parser.parse_args()
    rows = [measure(name) for name in arguments.reward or LIMITS]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
