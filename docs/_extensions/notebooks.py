"""Read notebooks as pages: their Markdown, their code, and the outputs that are stored in them. Nothing is run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx


def markdown(text: str) -> str:
    """The page that a notebook's JSON is."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code":
            parts += [_fenced("{code-block} python", source), *map(_output, cell["outputs"])]
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "text/html" in data:
        return _fenced("{raw} html", f'<div class="cell-output">{"".join(data["text/html"])}</div>')
    return _fenced("{code-block} text\n:class: cell-output", "".join(data["text/plain"]).rstrip("\n"))


def _fenced(head: str, body: str) -> str:
    return f"````{head}\n\n{body}\n````"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the suffix ``.ipynb`` and its parser."""
    from myst_parser.parsers.sphinx_ import MystParser  # here: what comes before is tested without it

    class NotebookParser(MystParser):  # type: ignore[misc]
        """Parses a notebook as the Markdown that it amounts to."""

        supported = ("ipynb",)

        def parse(self, inputstring: str, document: nodes.document) -> None:
            super().parse(markdown(inputstring), document)

    app.add_source_suffix(".ipynb", "ipynb")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
