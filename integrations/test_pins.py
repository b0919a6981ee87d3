"""The documentation names the version that was run, and every pin of the trainer that is not honoured here."""

from importlib.metadata import PackageNotFoundError, version

from contract import HERE
from medrft.rewards.contracts import CONTRACTS
from unmet import unmet

TRAINERS = {"openrlhf": "openrlhf", "verl": "verl", "ms-swift": "swift", "verifiers": "verifiers"}
VERSIONS = {package: CONTRACTS[name].version for package, name in TRAINERS.items()} | {"ray": "2.60.0"}
"""Ray comes last, because it is also installed beside trainers that stand on it."""


def test_the_docs_tell_what_was_left_out():
    page = (HERE.parent / "docs" / "integrations.md").read_text(encoding="utf-8")
    for package, documented in VERSIONS.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            continue
        assert found == documented and f"| {documented} |" in page
        missing = [line for line in unmet(package) if line.replace(": left out", "") not in page]
        assert not missing, f"docs/integrations.md does not name {missing} of {package} {found}"
        return
    raise AssertionError("no trainer is installed here")
