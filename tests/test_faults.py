"""Some seeded faults; benchmarks/faults.py has hundreds, and says what is counted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "few",
    [{"cuts": 1, "flips": 2}, {"kills": 5, "cuts": 6, "flips": 4, "fills": 2, "pairs": 3}],
    ids=["few", "more"],
)
def test_nothing_is_lost_and_nothing_is_silent(tmp_path, few):
    counts = {**dict.fromkeys(("kills", "cuts", "flips", "fills", "pairs"), 0), **few}
    words = ["--strings", "0"]  # tests/text/test_reader_faults.py reads them
    words += [word for name, count in counts.items() for word in (f"--{name}", str(count))]
    command = [sys.executable, SCRIPT, "--work", tmp_path, "--output", tmp_path / "faults.json", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    facts = json.loads((tmp_path / "faults.json").read_text())
    assert facts["wrong"] == [] and all(facts[name]["trials"] >= 1 for name in few)
