"""Each test runs with a reward that learns nothing and with one that was fitted."""

import pytest

from contract import Case, make_case


@pytest.fixture(params=["stateless", "fitted"])
def case(request: pytest.FixtureRequest, tmp_path) -> Case:
    return make_case(request.param, tmp_path)
