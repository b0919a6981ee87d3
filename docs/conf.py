"""Sphinx's settings: the site in docs/, built by `make docs` without a network. CONTRIBUTING.md says why Sphinx."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import generate  # noqa: E402

from medrft import __version__  # noqa: E402

project = "medrft"
author = "The medrft developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "index"
exclude_patterns = ["reference/generated/_*"]  # parts of the pages beside them

# Markdown as GitHub reads it, so that the same files serve both: anchors of headings, tables, links to files.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "attrs_block"]

smartquotes = False  # "--option" in prose stays two hyphens

# Docstrings write code in single backticks.
default_role = "code"
autodoc_typehints = "signature"
autodoc_typehints_format = "fully-qualified"  # shorter ones show as `~pathlib.Path` in some signatures
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = f"medrft {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"


def setup(app):
    """Write the generated pages before Sphinx reads what there is, and turn links to the root's pages into ours."""
    generate.write_pages(HERE / "reference" / "generated")
    app.connect("source-read", on_source)


def on_source(app, name, source):
    """Links to CONTRIBUTING.md and its like lead to their pages on the site."""
    source[0] = generate.link_to_root_pages(source[0], name.count("/"))
