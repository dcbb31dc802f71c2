"""What `polylogit.backends` returns is a tuple, and a table at a prompt and in a notebook."""

from __future__ import annotations

import pickle
import re

import polylogit
from polylogit._info import BackendInfo, Backends

HERE = BackendInfo("here", True, "1.2", True, None, "pip install here")
GONE = BackendInfo("<gone> & co", False, None, False, "gone is not installed", 'pip install "polylogit[gone]"')
TABLE = Backends((HERE, GONE))


def test_it_is_a_tuple_of_one_entry_for_each_backend() -> None:
    found = polylogit.backends()
    assert isinstance(found, tuple)
    assert found == tuple(found)
    assert pickle.loads(pickle.dumps(found)) == found
    assert all(isinstance(info, BackendInfo) for info in found)


def test_a_prompt_shows_a_line_for_each_with_what_to_install() -> None:
    assert repr(TABLE).splitlines() == [
        "backend      version  status",
        "here         1.2      imported",
        '<gone> & co           gone is not installed; pip install "polylogit[gone]"',
    ]


def test_a_notebook_shows_the_same_table_and_no_text_becomes_a_tag() -> None:
    page = TABLE._repr_html_()
    assert page.count("<tr>") == 3
    assert "&lt;gone&gt; &amp; co" in page
    assert set(re.findall(r"<(\w+)", page)) == {"table", "thead", "tbody", "tr", "th", "td"}


def test_the_table_sets_no_colour_and_so_suits_a_light_and_a_dark_notebook() -> None:
    assert "color" not in TABLE._repr_html_()
    assert "background" not in TABLE._repr_html_()
