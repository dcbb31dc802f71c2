"""The parts of the kit know each other one way, and none knows a framework."""

import ast
from pathlib import Path

import pytest

import polylogit

ROOT = Path(polylogit.__file__).parent
FILES = {
    ".".join(("polylogit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for folder in ("conformance", "spec")
    for path in (ROOT / folder).rglob("*.py")
}
FACE = "polylogit.conformance"  # finds what is asked of it only when it is asked


def imported(name):
    """The modules that one imports, anywhere in it but for types alone."""

    def visit(node):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
        for child in ast.iter_child_nodes(node):
            visit(child)

    found = set()
    visit(ast.parse(FILES[name].read_text()))
    return found


def test_there_is_no_circle():
    graph = {name: imported(name) & set(FILES) - {FACE, name} for name in FILES}
    while graph:
        leaves = {name for name, known in graph.items() if not known & set(graph)}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {name: known for name, known in graph.items() if name not in leaves}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("polylogit.spec")])
def test_what_is_right_calls_nothing_that_computes_it(name):
    above = (
        "polylogit.backends",
        "polylogit.conformance",
        "polylogit.porting",
        "polylogit.registry",
        "polylogit.functions",
    )
    assert not [one for one in imported(name) if one.startswith(above) or one == "polylogit.softmax"]


@pytest.mark.parametrize("name", FILES)
def test_no_framework_is_known_by_name(name):
    frameworks = {"torch", "tensorflow", "jax"}
    tree = ast.parse(FILES[name].read_text())
    said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not said & frameworks
    assert not {one.partition(".")[0] for one in imported(name) if one} & frameworks
