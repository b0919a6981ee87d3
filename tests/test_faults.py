"""A few seeded faults of each kind; benchmarks/faults.py has hundreds, and says what is counted."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "faults.py"
FEW = {"kills": 1, "cuts": 2, "flips": 2, "fills": 1, "pairs": 1}


def test_nothing_is_lost_and_nothing_is_silent(tmp_path):
    counts = [word for name, count in FEW.items() for word in (f"--{name}", str(count))]
    command = [sys.executable, SCRIPT, "--work", tmp_path, "--output", tmp_path / "faults.json", "--json", *counts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    facts = json.loads((tmp_path / "faults.json").read_text())
    assert facts["wrong"] == [] and {name: facts[name]["trials"] > 0 for name in FEW} == dict.fromkeys(FEW, True)
