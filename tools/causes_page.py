"""Write ``docs/porting/causes.md`` from the table of faults and from how each framework's users spell the remedy.

    python tools/causes_page.py

Needs the frameworks, whose spellings are read from their backends.
tests/docs/test_causes_page_torch_tensorflow_jax.py fails while the committed page differs from this.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from polylogit._registry import get_backend
from polylogit.porting._diagnosis.faults import FAMILIES, listing

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).resolve().parents[1] / "docs" / "porting" / "causes.md"
TITLES = {"numpy": "NumPy", "torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX"}
SIZE, CELL = 8, 7  # of a drawn mask: entries, and pixels for each

INTRODUCTION = """\
<!-- Made by tools/causes_page.py from src/polylogit/porting/_diagnosis/faults; change that. -->

# All causes

What `comparison.cause` can be, {count} of them: the name, what is said of it, and the line to write instead. *Words in
italics* are what a comparison finds. `x` are logits or what a layer is computed from, `p` probabilities. Where
frameworks spell the remedy differently, each has its own line; a comparison shows that of the candidate's.

A cause is named only if undoing it makes the two sides agree, and nothing else does nearly as well. Everything else is
`unknown`, with the explanations that came nearest.
"""

WORDS = {
    "axes": "Normalised over the wrong axes",
    "functions": "One function too many, too few, or another one",
    "logits": "Other logits",
    "epsilons": "Epsilons, sinks and underflow",
    "order": "The wrong order",
    "masks": "Masks, empty rows and dropout",
    "attention": "Masks and biases of attention",
    "layers": "Layers that are not softmax",
    "weights": "Weights that are not the original's",
    "precision": "16 bits",
    "backward": "Gradients",
}


# --- pictures: the reference's mask and the candidate's ---------------------------------------------------------------


def _seen(low: int, high: int, keys: range) -> Callable[[int, int], bool]:
    return lambda query, key: low <= key - query <= high and key in keys


_ALL, _PADDED = range(SIZE), range(SIZE - 3)
PICTURES = {
    "causal-off-by-one": (_seen(-SIZE, 0, _ALL), _seen(-SIZE, 1, _ALL)),
    "causal-missing": (_seen(-SIZE, 0, _PADDED), _seen(-SIZE, SIZE, _PADDED)),
    "padding-missing": (_seen(-SIZE, 0, _PADDED), _seen(-SIZE, 0, _ALL)),
    "padding-side": (_seen(-SIZE, SIZE, _PADDED), _seen(-SIZE, SIZE, range(3, SIZE))),
    "sliding-window": (_seen(-SIZE, 0, _ALL), _seen(-2, 0, _ALL)),
}


def _picture(name: str) -> list[str]:
    """Two grids of queries (down) and keys (across); what is filled is seen."""
    if name not in PICTURES:
        return []
    side = SIZE * CELL
    cells = []
    for index, seen in enumerate(PICTURES[name]):
        for query in range(SIZE):
            for key in range(SIZE):
                opacity = "0.75" if seen(query, key) else "0.1"
                x, y = index * (side + 24) + key * CELL, query * CELL
                cells.append(f'<rect x="{x}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" fill-opacity="{opacity}"/>')
    words = f"The reference's mask and the candidate's with {name}: queries down, keys across."
    head = f'<svg width="{2 * side + 24}" height="{side}" fill="currentColor" role="img" aria-label="{words}">'
    return [head + "".join(cells) + "</svg>", ""]


# --- the page --------------------------------------------------------------------------------------------------------


def _italic(sentence: str) -> str:
    sentence = re.sub(r"(?<=\w)<\w+>", "", sentence.replace("**", r"\*\*"))  # what is said there only at times
    return re.sub(r"<(\w+)>", lambda found: f"*{found[1].replace('_', ' ')}*", sentence)


def _fixes(lines: dict[str, str]) -> list[str]:
    """One item for each way to write it, with the frameworks that do."""
    ways: dict[str, list[str]] = {}
    for framework, line in lines.items():
        ways.setdefault(line, []).append(TITLES[framework])
    if len(ways) == 1:
        return [f"Write `{next(iter(ways))}`."]
    return [f"- {', '.join(frameworks)}: `{line}`" for line, frameworks in ways.items()]


def page() -> str:
    """The text of the page."""
    rows = {name: listing(get_backend(name).spelling) for name in TITLES}
    fixes = {name: {row[0]: row[2] for row in found} for name, found in rows.items()}
    sentences = {name: sentence for name, sentence, _ in rows["numpy"]}
    lines = [INTRODUCTION.format(count=len(sentences))]
    for family, names in FAMILIES.items():
        lines += [f"## {WORDS[family]}", ""]
        for name in names:
            spelled = {framework: fixes[framework][name] for framework in TITLES}
            lines += [f"### {name}", "", _italic(sentences[name]), "", *_picture(name), *_fixes(spelled), ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
