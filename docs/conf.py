"""Sphinx configuration: `sphinx-build -W docs docs/_build/html`."""

import re
from pathlib import Path
from types import GenericAlias

import pandas as pd

import nanostream
import nanostream.records

nanostream.records.pd = pd  # imported there for type checkers only: a start need not wait for it

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/nanostream/nanostream"

project = "nanostream"
author = "nanostream developers"
project_copyright = "2026, nanostream developers"
release = version = nanostream.__version__

extensions = [
    "myst_nb",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
]
exclude_patterns = ["_build", "paper/results.json"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = "nanostream"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_show_sourcelink = False
# Pages show code, they do not run it: tests/pipeline/test_readme.py runs every block,
# but for those marked "not run in CI", which take hours or need a microscope.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Links from a page to a file of the repository lead to the repository.
myst_url_schemes = ["http", "https", "mailto"]

default_role = "py:obj"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
# Of extras that `.[docs]` does not install; tests/unit/test_house.py says what is missing here.
autodoc_mock_imports = ["tensorflow", "keras", "onnx", "onnxruntime", "abtem", "ase", "matplotlib"]
autosummary_generate = True
numpydoc_show_class_members = False
suppress_warnings = ["autodoc.mocked_object", "ref.python"]


def _to_repository(app, docname, source):
    """Point links that leave the documentation at the repository."""
    page = Path(app.srcdir) / f"{docname}.md"

    def redirected(match):
        path, anchor = match["path"], match["anchor"] or ""
        target = (page.parent / path).resolve()
        if target.is_relative_to(app.srcdir) or not target.is_relative_to(ROOT):
            return match[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"]({REPOSITORY}/{kind}/main/{target.relative_to(ROOT).as_posix()}{anchor})"

    link = r"\]\((?P<path>\.\./[^)#\s]+)(?P<anchor>#[^)\s]*)?\)"
    source[0] = re.sub(link, redirected, source[0])


def _skip_foreign(app, what, name, item, skip, options):
    """Leave out aliases of built-in types and classes of other packages."""
    foreign = isinstance(item, type) and not item.__module__.startswith("nanostream")
    return True if foreign or isinstance(item, GenericAlias) else skip


def setup(app):
    """Register both."""
    app.connect("source-read", _to_repository)
    app.connect("autodoc-skip-member", _skip_foreign)
