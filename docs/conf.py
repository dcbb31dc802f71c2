"""How the site is built: ``sphinx-build -W -b html docs docs/_build/html``. Nothing is fetched."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from polylogit import __version__

project = "polylogit"
author = "The polylogit developers"
copyright = "2026, the polylogit developers"  # noqa: A001
version = release = __version__

extensions = [
    "mathml",
    "myst_parser",
    "notebooks",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "_extensions", "_templates"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Every reference is found but these: parameters and terms of formulas, which numpydoc writes like references.
nitpicky = True
_NAMES = """
among apply atol axis axis_name backends broadcast budget cap device digits dtype fill function g i ignore_index inputs
kind longest lse m mask masked max_dims modules name names normalised other out remove rtol s scale shift some target
tokens x y
"""
nitpick_ignore = [("py:obj", name) for name in _NAMES.split()]

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's Parameters sections say the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
default_role = "py:obj"

html_theme = "pydata_sphinx_theme"
html_title = f"polylogit {version}"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["polylogit.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": f"polylogit {version}"},
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "navbar_center": [],  # every page is in the sidebar
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"**": ["sidebar-global"]}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
