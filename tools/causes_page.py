"""Write ``docs/porting/causes.md`` from the table of faults and each framework's spelling of the remedy.

    python tools/causes_page.py

Needs the frameworks, because it reads the spellings from their backends.
tests/docs/test_causes_page_torch_tensorflow_jax.py fails if the committed page differs.
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
SIZE, CELL = 8, 7  # entries along each side of a mask picture, and pixels for each

INTRODUCTION = """\
<!-- Made by tools/causes_page.py from src/polylogit/porting/_diagnosis/faults; change that. -->

# All causes

`comparison.cause` can be one of these {count}. Each has a name, an explanation, and the line to write instead. A
comparison fills in the *words in italics*. `x` are logits or the input of a layer, `p` probabilities. If frameworks
spell the remedy differently, each has its own line; a comparison shows that of the candidate's framework.

A cause is named only if undoing it makes the two sides agree, and nothing else does nearly as well. Every other
difference is `unknown`, listed with the explanations that came nearest.
"""

WORDS = {
    "axes": "Normalised over the wrong axes",
    "functions": "A missing, repeated or different function",
    "logits": "Wrong logits",
    "epsilons": "Epsilons, sinks and underflow",
    "order": "Wrong order",
    "masks": "Masks, empty rows and dropout",
    "attention": "Attention masks and biases",
    "layers": "Layers other than softmax",
    "weights": "Wrong weights",
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
    """Two grids of queries (down) and keys (across); a query attends to the filled keys."""
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
    sentence = re.sub(r"(?<=\w)<\w+>", "", sentence.replace("**", r"\*\*"))  # words that only some explanations have
    return re.sub(r"<(\w+)>", lambda found: f"*{found[1].replace('_', ' ')}*", sentence)


def _fixes(lines: dict[str, str]) -> list[str]:
    """One item for each spelling, with the frameworks that use it."""
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
