"""Right kernels, changed in one place by program: how many of them the kit lets pass, and which.

``python tests/conformance/mutants.py`` draws mutants of the kernels in `kernels.plain` and of the library's pure path,
runs each in a process that is ended when it takes too long, and prints the table of the documentation. What survives is
explained in `survivors.toml`: it is right (``equivalent``), or the kit has ``missed`` it. ``--update`` writes what is
printed to where the documentation takes it from.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import functools
import importlib
import multiprocessing
import random
import re
import sys
import time
import tomllib
import traceback
import types
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
EXPLAINED = HERE / "survivors.toml"
PRINTED = HERE.parents[1] / "build" / "mutants.txt"
SECONDS = 30.0  # without an answer, after which a mutant counts as caught in an endless loop; a right kernel takes two
PLAIN, PURE = 330, 70  # mutants that are drawn of some 1,600 and of the library's own path

KINDS = (
    "arithmetic",
    "cast",
    "comparison",
    "condition",
    "constant",
    "default",
    "function",
    "index",
    "initial value",
    "keyword",
    "loop",
    "reduction axis",
    "rounding",
    "statement",
)


# --- places and changes ----------------------------------------------------------------------------------------------


def expression(text: str, **parts: ast.expr) -> ast.expr:
    """The tree of an expression, in which names stand for other trees."""

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return copy.deepcopy(parts.get(node.id, node))

    return Fill().visit(ast.parse(text, mode="eval").body)


_COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq, ast.GtE),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
# Functions that are taken for one another, by the name of the attribute or method.
_FUNCTIONS = {
    "max": ("min", "nanmax"),
    "maximum": ("minimum", "fmax"),
    "minimum": ("maximum", "fmin"),
    "sum": ("mean", "nansum"),
    "exp": ("exp2", "expm1"),
    "exp2": ("exp",),
    "log": ("log2", "log1p"),
    "log1p": ("log",),
    "tanh": ("arctan",),
    "abs": ("negative", "positive"),
    "argmax": ("argmin", "nanargmax"),
    "any": ("all",),
    "isneginf": ("isinf", "isposinf"),
    "isnan": ("isinf",),
    "rint": ("floor", "trunc"),
    "fmax": ("maximum", "fmin"),
    "reciprocal": ("negative",),
}
_DTYPES = {"float32": ("float16",), "float64": ("float32",)}
_FLOOR = ("0", "-80", "-1e4", "-1e9", "np.finfo(np.float32).min")  # where -inf belongs


def _is_infinity(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "inf"


def _comparisons(node):
    for other in _COMPARISONS[type(node.ops[0])]:
        yield "comparison", ast.Compare(node.left, [other()], node.comparators)


def _conjunctions(node):
    yield "condition", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for value in node.values:
        yield "condition", value


def _choices(node):
    yield "condition", ast.IfExp(node.test, node.orelse, node.body)
    yield "condition", node.body
    yield "condition", node.orelse


def _signs(node):
    if _is_infinity(node.operand) and isinstance(node.op, ast.USub):
        for floor in _FLOOR:
            yield "initial value", expression(floor)
    else:
        yield "arithmetic" if isinstance(node.op, ast.USub) else "condition", node.operand


def _operations(node):
    if type(node.op) in _OPERATORS:
        yield "arithmetic", ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right)
    yield "arithmetic", node.left
    yield "arithmetic", node.right


def _constants(node):
    match node.value:
        case bool():
            yield "constant", ast.Constant(not node.value)
        case int():
            for other in (node.value + 1, node.value - 1):
                yield "constant", expression(repr(other))
        case float():
            for other in (node.value * 1.001, 0.0, -node.value):
                yield "constant", expression(repr(other))
        case str() if len(node.value) == 3:
            for letter in node.value:
                yield "constant", ast.Constant(node.value.replace(letter, ""))


def _dtypes(node):
    for other in _DTYPES.get(node.attr, ()):
        yield "cast", ast.Attribute(node.value, other, ast.Load())


def _slices(node):
    parts = {"lower": node.lower, "upper": node.upper, "step": node.step}
    for name in ("lower", "upper"):
        bound = parts[name]
        if bound is None:
            continue
        for text in () if _simple(bound) else ("bound + 1", "bound - 1"):
            yield "index", ast.Slice(**{**parts, name: expression(text, bound=bound)})
        yield "index", ast.Slice(**{**parts, name: None})


def _simple(node: ast.expr) -> bool:
    """An integer that is written out, which is changed as such."""
    return isinstance(node, ast.Constant) or (isinstance(node, ast.UnaryOp) and _simple(node.operand))


def _calls(node):
    func, arguments, keywords = node.func, node.args, node.keywords
    name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
    if name == "astype":
        yield "cast", func.value
    for other in _FUNCTIONS.get(name, ()) if isinstance(func, ast.Attribute) else ():
        yield "function", ast.Call(ast.Attribute(func.value, other, ast.Load()), arguments, keywords)
    if name == "exp" and len(arguments) == 1:
        yield "function", ast.Call(func, [expression("np.maximum(a, -80)", a=arguments[0])], keywords)
    if name == "where" and len(arguments) == 3:
        yield "condition", ast.Call(func, [arguments[0], arguments[2], arguments[1]], keywords)
        yield "condition", arguments[1]
        yield "condition", arguments[2]
    yield from _keywords(node)
    if isinstance(func, ast.Name):
        yield from _builtins(node, name)


def _keywords(node):
    for position, keyword in enumerate(node.keywords):
        rest = [*node.keywords[:position], *node.keywords[position + 1 :]]
        if keyword.arg == "axis":
            for axis in ("0", "-1", "None"):
                if ast.unparse(keyword.value) != axis:
                    changed = ast.keyword("axis", expression(axis))
                    yield "reduction axis", ast.Call(node.func, node.args, [*rest, changed])
        elif keyword.arg in ("initial", "dtype", "where"):
            yield "keyword", ast.Call(node.func, node.args, rest)


def _builtins(node, name):
    if name == "range":
        for text in ("call[1:]", "call[:-1]", "call[:1]", "call[::-1]"):
            yield "loop", expression(text, call=node)
    if name in ("max", "min"):
        yield "function", ast.Call(ast.Name("min" if name == "max" else "max", ast.Load()), node.args, [])
        for argument in node.args:
            yield "function", argument


# Of each kind of node what it is changed into: pairs of the kind of change and the new node.
_CHANGES = {
    ast.Compare: _comparisons,
    ast.BoolOp: _conjunctions,
    ast.IfExp: _choices,
    ast.UnaryOp: _signs,
    ast.BinOp: _operations,
    ast.Constant: _constants,
    ast.Attribute: _dtypes,
    ast.Slice: _slices,
    ast.Call: _calls,
}


def changes_of_statement(node, tree, takes_x):
    """Of a statement or of defaults: (kind, the node that is replaced, the new one)."""
    match node:
        case ast.arguments(defaults=defaults):
            for default in defaults:
                for other in ("0", "None", "-2") if ast.unparse(default) == "-1" else ():
                    yield "default", default, expression(other)
        case ast.Assign(value=value) | ast.AugAssign(value=value) | ast.Return(value=ast.expr() as value):
            if not isinstance(node, ast.Return):
                yield "statement", node, ast.Pass()
            for part in ast.walk(value) if takes_x else ():
                if isinstance(part, ast.BinOp | ast.Call):
                    yield "rounding", part, expression("rounded(part, x)", part=part)
        case ast.Expr(ast.Call()):
            yield "statement", node, ast.Pass()
        case ast.If(test, _, _) | ast.While(test):
            yield "condition", test, expression("not test", test=test)


def untouched(tree):
    """Nodes that are not changed: annotations, docstrings, and infinity below its sign, which is changed with it."""
    parts = [one.annotation for one in ast.walk(tree) if isinstance(one, ast.arg | ast.AnnAssign)]
    parts += [one.returns for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
    parts += [one for one in ast.walk(tree) if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)]
    return {id(one) for part in parts if part is not None for one in ast.walk(part)}


@dataclass
class Mutant:
    """One change: which function, of what kind, the lines before and after, and the source with it."""

    function: str
    kind: str
    old: str
    new: str
    source: str
    number: int = 1  # of those with the same lines
    found: str = ""  # what came of it
    by: str = ""  # the case that killed it
    fixed: bool | None = None  # whether fixed tolerances let it pass

    @property
    def name(self) -> str:
        """By which it is explained."""
        return f"{self.function}: {self.old} => {self.new}" + (f" ({self.number})" if self.number > 1 else "")


def replaced(tree: ast.AST, node: ast.AST, new: ast.AST | None) -> ast.AST:
    """A copy of the tree with another node, or without it."""

    class Replace(ast.NodeTransformer):
        def visit(self, one: ast.AST):
            return new if one is node else super().visit(one)

    # Not deep: nodes are recognised by what they are, so that the copy is made of the result.
    kept = copy.deepcopy(tree, {id(node): node})
    return ast.fix_missing_locations(copy.deepcopy(Replace().visit(kept)))


def mutants_of(tree: ast.FunctionDef) -> list[Mutant]:
    """Every mutant of one function."""
    before = ast.unparse(tree)
    kept, takes_x = untouched(tree), any(one.arg == "x" for one in tree.args.args)
    indices = {id(one) for node in ast.walk(tree) if isinstance(node, ast.Subscript) for one in ast.walk(node.slice)}
    found: dict[str, str] = {}  # sources, and the kinds of change
    for node in ast.walk(tree):
        if id(node) in kept:
            continue
        for kind, new in _CHANGES.get(type(node), lambda _: ())(node):
            in_place = "index" if kind == "constant" and id(node) in indices else kind
            found.setdefault(ast.unparse(replaced(tree, node, new)), in_place)
        for kind, part, new in changes_of_statement(node, tree, takes_x):
            found.setdefault(ast.unparse(replaced(tree, part, new)), kind)
    found.pop(before, None)
    seen: Counter[tuple[str, str]] = Counter()
    made = []
    for source, kind in found.items():
        lines = list(difflib.ndiff(before.splitlines(), source.splitlines()))
        old, new = (" / ".join(line[2:].strip() for line in lines if line.startswith(sign)) for sign in ("- ", "+ "))
        seen[old, new] += 1
        made.append(Mutant(tree.name, kind, old, new or "(nothing)", source, seen[old, new]))
    return made


# --- running one ------------------------------------------------------------------------------------------------------


class NoMutantError(Exception):
    """The change leaves no program, or changes nothing that there is."""


_narrowed = [False]


def rounded(value, x):
    """An intermediate result that is kept in the dtype of the logits."""
    dtype = getattr(value, "dtype", None)
    if dtype is None or dtype.kind != "f" or x.dtype.kind in "biu" or dtype == x.dtype:
        return value
    narrow = value.astype(x.dtype).astype(dtype)
    _narrowed[0] |= not np.array_equal(narrow, value, equal_nan=True)
    return narrow


def function_of(mutant):
    """A mutant of `plain` as a function."""
    from conformance.kernels import plain

    names = {**vars(plain), "rounded": rounded}
    try:
        exec(compile(mutant.source, f"<mutant of {mutant.function}>", "exec"), names)
    except SyntaxError as error:
        raise NoMutantError from error
    function = names[mutant.function]
    x = np.random.default_rng(0).normal(size=(3, 130)).astype(np.float16)
    _narrowed[0] = False
    try:
        with np.errstate(all="ignore"):
            function(x, *((x,) if mutant.function.endswith("_vjp") else ()))
    except NameError as error:
        raise NoMutantError from error
    except Exception:  # noqa: BLE001  it is soon killed
        return function
    if mutant.kind == "rounding" and not _narrowed[0]:
        raise NoMutantError
    return function


def subjects(mutant):
    """What is to be run: pairs of an implementation as the kit takes it and the checks; all of them by default."""
    from conformance.kernels import plain
    from polylogit.conformance._implementation import implementation_of

    if mutant.function in plain.PLAIN:
        operation, function = plain.PLAIN[mutant.function], function_of(mutant)
        if mutant.function.endswith("_vjp"):
            yield implementation_of("numpy", operation, getattr(plain, operation), function), ("vjp",)
        else:
            yield implementation_of("numpy", operation, function), None
        return
    import polylogit._backends.numpy as backend

    with backend.compiled.use("pure"):
        backend.pure = module_of(mutant)
        for operation in ("softmax", "log_softmax", "sigmoid"):
            yield implementation_of("numpy", operation), None


def module_of(mutant):
    """The library's pure path with a function changed, as a module."""
    functions, tree = pure_functions()
    changed = ast.parse(mutant.source).body[0]
    function = functions[mutant.function]
    for field in ("args", "body"):
        setattr(function, field, getattr(changed, field))
    module = types.ModuleType("polylogit._backends.numpy.pure")
    exec(compile(tree, f"<mutant of {mutant.function}>", "exec"), vars(module))
    return module


def _title(holder, function):
    return f"pure.{holder.name}.{function.name}" if isinstance(holder, ast.ClassDef) else f"pure.{function.name}"


def judged(mutant, level):
    """What the kit says: ("killed", id and message), ("reported", why) or ("survived", how it differs)."""
    from polylogit.conformance._results import DISAGREES, INACCURATE, Results
    from polylogit.conformance._run_checks import run_checks

    seen = []
    for subject, checks in subjects(mutant):
        for result in run_checks(subject, level, checks=checks):
            if result.verdict in DISAGREES or result.verdict == "inconclusive":
                return "killed", f"{result.id}: {result.message}"
            seen.append(result)
    if Results(seen).status:
        return "killed", "nothing could be concluded"
    if any(result.finding == INACCURATE for result in seen):
        return "reported", "less accurate"
    if Results(seen).rounded_once is False:
        return "reported", "rounded more than once"
    return "survived", differences(mutant, seen)


@functools.cache
def calls_of(name, level):
    """Every call that the kit makes of a right kernel, with its result; and the cases that the kernel refuses."""
    from conformance.kernels import plain
    from polylogit.conformance._implementation import implementation_of
    from polylogit.conformance._run_checks import run_checks

    calls, right, operation = [], getattr(plain, name), plain.PLAIN[name]

    @functools.wraps(right)
    def recorded(*given, **options):
        kept = [one.copy() for one in given]
        calls.append((kept, options, right(*(one.copy() for one in given), **options)))
        return right(*given, **options)

    gradient = name.endswith("_vjp")
    pair = (getattr(plain, operation), recorded) if gradient else (recorded, None)
    checks = ("vjp",) if gradient else None
    seen = list(run_checks(implementation_of("numpy", operation, *pair), level, checks=checks))
    return calls, {one.id for one in seen if one.verdict == "unsupported"}


def differences(mutant, seen):
    """What tells a survivor from the right kernel: what it refuses, and the calls of the kit with other bits."""
    from conformance.kernels import plain

    if mutant.function not in plain.PLAIN:
        return ""
    calls, refused = calls_of(mutant.function, "quick")
    more = sorted({one.id for one in seen if one.verdict == "unsupported"} - refused)
    if more:
        return f"refuses {len(more)} more, {more[0]} among them"
    function, other = function_of(mutant), 0
    for given, options, result in calls:
        got = function(*(one.copy() for one in given), **options)
        other += got.dtype != result.dtype or not np.array_equal(
            *(y.astype(float) for y in (got, result)), equal_nan=True
        )
    return f"{other} of {len(calls)} results are others" if other else "the same numbers at every call"


def passes_fixed_tolerances(mutant):
    """Whether ``numpy.allclose`` lets it pass on random logits of float32 and float64; None of what is not asked."""
    from conformance.kernels import plain
    from conformance.measure import WIDE, tolerance_verdict

    if mutant.function not in plain.PLAIN:
        return None
    operation, function = plain.PLAIN[mutant.function], function_of(mutant)
    pair = (getattr(plain, operation), function) if mutant.function.endswith("_vjp") else (function, None)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tolerance_verdict(operation, *pair, WIDE)
    except Exception:  # noqa: BLE001  whatever a mutant raises, it would be seen
        return False


def work(pipe, level):
    """What a process does: judge the mutants that come until none does."""
    prepare()
    while (mutant := pipe.recv()) is not None:
        try:
            with np.errstate(all="ignore"):
                found = judged(mutant, level)
            pipe.send((*found, passes_fixed_tolerances(mutant)))
        except NoMutantError:
            pipe.send(("none", "", None))
        except MemoryError:
            pipe.send(("killed", "memory was exhausted", False))
        except Exception:  # noqa: BLE001  of this program, which must not count as a mutant's
            pipe.send(("broken", traceback.format_exc(), None))


class Worker:
    """A process that judges mutants, begun anew after one that hangs or kills it."""

    def __init__(self, level="quick", seconds=SECONDS):
        self.level, self.seconds, self.process = level, seconds, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def judge(self, mutant):
        """(what was found, by what, whether fixed tolerances let it pass)."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, other = context.Pipe()
            self.process = context.Process(target=work, args=(other, self.level), daemon=True)
            self.process.start()
            other.close()
        try:
            self.pipe.send(mutant)
            if self.pipe.poll(self.seconds):
                return self.pipe.recv()
            found = "killed", f"no end within {self.seconds:g} s", False
        except (EOFError, BrokenPipeError, ConnectionResetError):
            found = "killed", "the process died", False
        self.end()
        return found

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def prepare():
    """The package of this program can be imported, wherever it is run."""
    if str(HERE.parent) not in sys.path:
        sys.path.insert(0, str(HERE.parent))


def plain_tree():
    """The source of the kernels in `kernels.plain`."""
    from conformance.kernels import plain

    return ast.parse(Path(plain.__file__).read_text())


def plain_mutants():
    """Those of the kernels in `kernels.plain`."""
    return [mutant for one in plain_tree().body if isinstance(one, ast.FunctionDef) for mutant in mutants_of(one)]


def pure_functions():
    """Functions and methods of the library's pure NumPy path, by name, and the tree that holds them."""
    pure = importlib.import_module("polylogit._backends.numpy.pure")  # as it stands, whatever is in its place
    tree = ast.parse(Path(pure.__file__).read_text())
    holders = (tree, *(one for one in tree.body if isinstance(one, ast.ClassDef)))
    functions = [(holder, one) for holder in holders for one in holder.body if isinstance(one, ast.FunctionDef)]
    return {_title(holder, one): one for holder, one in functions}, tree


def pure_mutants():
    """Those of the library's pure NumPy path."""
    found = []
    for name, function in pure_functions()[0].items():
        mutants = mutants_of(function)
        for mutant in mutants:
            mutant.function = name
        found.extend(mutants)
    return found


def unchanged(name):
    """The function as it stands, as a mutant."""
    trees = [one for one in plain_tree().body if isinstance(one, ast.FunctionDef)]
    source = next((one for one in trees if one.name == name), None) or pure_functions()[0][name]
    return Mutant(name, "none", "", "", ast.unparse(source))


def drawn(mutants, count, seed=0):
    """So many of them, in their order."""
    chosen = set(random.Random(seed).sample(range(len(mutants)), min(count, len(mutants))))
    return [mutant for place, mutant in enumerate(mutants) if place in chosen]


# --- what is told -----------------------------------------------------------------------------------------------------


def explanations():
    """(pattern of names, verdict, why): the first whose pattern fits speaks for a survivor."""
    groups = tomllib.loads(EXPLAINED.read_text())["survivors"]
    return [(pattern, group["verdict"], group["why"]) for group in groups for pattern in group["mutants"]]


def outcome(mutant, explained):
    """The column of the table: what a survivor is, by what it refuses or is explained as."""
    if mutant.found != "survived":
        return mutant.found
    if mutant.by.startswith("refuses"):
        return "refuses"
    return next((verdict for pattern, verdict, _ in explained if re.search(pattern, mutant.name)), "missed")


def table(mutants, explained):
    """By kind: how many there are, and what came of them."""
    titles = ("mutants", "killed", "reported", "refuses", "equivalent", "missed", "np.allclose")
    lines = [f"{'':16}" + "".join(f"{title:>12}" for title in titles)]
    counted = Counter()
    for mutant in mutants:
        column = outcome(mutant, explained)
        for kind in (mutant.kind, "all"):
            counted[kind, "mutants"] += 1
            counted[kind, column] += 1
            counted[kind, "np.allclose"] += mutant.fixed is True
    for kind in (*KINDS, "all"):
        if counted[kind, "mutants"]:
            lines.append(f"{kind:16}" + "".join(f"{counted[kind, title]:>12}" for title in titles))
    return "\n".join(lines) + "\n"


def survivors(mutants, explained):
    """Those that are explained, by explanation, with an example each; and those that are not."""
    lines, groups = [], {}
    for mutant in mutants:
        if outcome(mutant, explained) in ("equivalent", "missed"):
            why = next((why for pattern, _, why in explained if re.search(pattern, mutant.name)), "Not explained.")
            groups.setdefault((outcome(mutant, explained), why), []).append(mutant)
    for (verdict, why), some in sorted(groups.items(), key=lambda group: (group[0][0], -len(group[1]))):
        lines += [f"{len(some)} {verdict}: {why}", f"    in {some[0].function}"]
        lines += [f"    - {some[0].old}", f"    + {some[0].new}"]
    return "\n".join(lines) + "\n"


def run(mutants, level="quick", told=print):
    """Judge them; those that are none are left out."""
    with Worker(level) as worker:
        names = {mutant.function.partition(".")[0]: mutant.function for mutant in mutants}  # of the library's path one
        for name in names.values():
            found, by, _ = worker.judge(unchanged(name))
            if found != "survived":
                raise SystemExit(f"{name} is to be right as it stands, and is {found}: {by}")
        for place, mutant in enumerate(mutants):
            mutant.found, mutant.by, mutant.fixed = worker.judge(mutant)
            if mutant.found == "broken":
                raise SystemExit(f"{mutant.name}:\n{mutant.by}")
            if mutant.found not in ("killed", "none"):
                told(f"[{place + 1}/{len(mutants)}] {mutant.found:9} {mutant.kind:14} {mutant.name}\n    {mutant.by}")
    return [mutant for mutant in mutants if mutant.found != "none"]


def main():
    prepare()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--level", default="quick", choices=("quick", "full"))
    parser.add_argument("--only", default="", help="mutants whose name matches this regular expression")
    parser.add_argument("--every", action="store_true", help="all of them, and no sample")
    parser.add_argument("--list", action="store_true", help="name them and run none")
    parser.add_argument("--update", action="store_true", help="write it to build/mutants.txt too")
    asked = parser.parse_args()
    plain, pure = plain_mutants(), pure_mutants()
    mutants = [*plain, *pure] if asked.every else [*drawn(plain, PLAIN), *drawn(pure, PURE)]
    mutants = [one for one in mutants if re.search(asked.only, one.name)]
    if asked.list:
        for one in mutants:
            print(f"{one.kind:14} {one.name}")
        return
    start = time.monotonic()
    mutants = run(mutants, asked.level, lambda line: print(line, flush=True))
    told = f"{table(mutants, explanations())}\n{survivors(mutants, explanations())}"
    print(told)
    print(f"{time.monotonic() - start:.0f} s")
    if asked.update:
        PRINTED.write_text(told)


if __name__ == "__main__":
    main()
