from __future__ import annotations

from pathlib import Path

import pytest
from made_run import make_run


@pytest.fixture(scope="session")
def phantom_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on data that the phantom's oracle knows."""
    return make_run(tmp_path_factory.mktemp("runs") / "phantom")
