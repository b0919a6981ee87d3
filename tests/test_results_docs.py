"""docs/results.md says what the committed result files say."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "results_docs.py"


def test_tables_agree_with_the_result_files():
    spec = importlib.util.spec_from_file_location("results_docs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text(encoding="utf-8")
    shipped = {path.stem for path in (module.ROOT / "recipes" / "studies").glob("*.yaml")}
    assert {name for _, name, _ in module.BLOCK.findall(page)} == shipped
    for path, text in module.files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python benchmarks/results_docs.py"
