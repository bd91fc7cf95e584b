"""Sphinx: sphinx-build -W -n -b html docs docs/_build/html"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

project = "smtp_blinker"
author = "the authors of smtp_blinker"
version = release = re.search(  # type: ignore[union-attr]
    r'__version__ = "(.+)"', (ROOT / "smtp_blinker/__init__.py").read_text()
)[1]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
# Without the prompts of what is typed, and without what is answered.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
exclude_patterns = ["_build", "programs", "**/.*"]
html_theme = "furo"
html_title = f"smtp_blinker {version}"
myst_enable_extensions = ["attrs_block", "colon_fence", "deflist"]
myst_heading_anchors = 3

# What docstrings have in single backquotes is linked where it is a name of the library.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# Nothing is fetched to build the pages, so names of other packages can't be linked. Neither can
# words in backquotes that are not names: a folder, a value, an attribute.
nitpick_ignore_regex = [
    ("py:obj", r".*"),
    ("py:class", "WriteableBuffer"),  # of typeshed
    (
        "py:.*",
        r"(collections|datetime|email|enum|flask|functools|gevent|greenlet|http|ipaddress|logging|os|pathlib"
        r"|re|prometheus_client|ssl|threading|types|typing|unittest|blinker|gunicorn|_\w+)\..*",
    ),
    # Of the library, but no program needs them: type variables, protocols, the inner modules.
    ("py:.*", r"(smtp_blinker\.)?(\w+\.)*(_\w+|DataResult|\w+Hook|(Message|Piece)Source)"),
    ("py:.*", r"smtp_blinker\.(connection|options|threads)(\.\w+)+"),
]


def _repository_links(app: Any, name: str, source: list[str]) -> None:
    """Links of pages to files of the repository that aren't pages become their names."""
    up = re.escape("../" * (1 + name.count("/")))
    source[0] = re.sub(rf"\[([^\]]+)\]\({up}[^)]+\)", r"`\1`", source[0])


def setup(app: Any) -> None:
    app.connect("source-read", _repository_links)
