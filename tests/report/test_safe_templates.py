"""Rules that keep model output from being anything but text, held for every template and every drawn mark."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import medrft

PACKAGE = Path(medrft.__file__).parent
TEMPLATES = sorted((PACKAGE / "report" / "templates").glob("*.j2"))
SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_puts_nothing_in_as_code(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe\b|autoescape\s+false|Markup", text)
    for block in re.findall(r"<script.*?</script>", text, re.DOTALL):
        assert "{{" not in block and "{%" not in block
    for name, value in re.findall(r"\s(href|src|action|formaction|srcdoc)\s*=\s*\"([^\"]*)\"", text):
        inside = "{{" in value
        # An address is a place on this page, or a picture that medrft encoded itself; never text from a file. The pages
        # that a server of ours shows also name its own routes, with text in the query alone.
        own = re.match(r"(text)?\?\{\{|image/\{\{ sha256 \}\}$", value)
        picture = name == "src" and re.fullmatch(r"\{\{ (uri|image) \}\}", value)
        assert not inside or value.startswith("#") or own or picture
    assert not re.search(r"<[a-z][^>{]*\son[a-z]+\s*=", text)
    assert not re.search(r"=\{\{", text)  # an attribute without quotes ends at a space


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_page_forbids_the_network_to_itself(path):
    text = path.read_text(encoding="utf-8")
    if "<head>" in text:
        assert "Content-Security-Policy\" content=\"default-src 'none'" in text


def test_marks_are_made_of_constants():
    """`Markup(f"…{text}…")` and `Markup(text)` would trust text; `Markup("…{}").format(text)` escapes it."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = getattr(node, "func", None)
            if isinstance(node, ast.Call) and getattr(called, "id", getattr(called, "attr", "")) == "Markup":
                names = [part.id for given in node.args for part in ast.walk(given) if isinstance(part, ast.Name)]
                assert all(name.isupper() or name in ("shape", "head") for name in names), (path, ast.unparse(node))
            if isinstance(node, ast.keyword) and node.arg == "autoescape":
                assert isinstance(node.value, ast.Constant) and node.value.value is True, path


def test_nothing_listens_on_the_network():
    """Only `medrft serve` does, on loopback unless it has a token, and the rollout viewer, on loopback and with a key.

    What both share is in listening.py; the extra that they need is named in errors.py.
    """
    for path in SOURCES:
        if path.parent.name in ("serve", "view") or path.name in ("serve.py", "errors.py", "listening.py"):
            continue
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"HTTPServer|socketserver|uvicorn|create_server\(|\.listen\(", text), path
