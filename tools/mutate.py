"""Mutation testing: change one thing in a module, run the tests that reach the line, and see whether one notices.

``python tools/mutate.py bounds contract`` prints, for each module, how many changes were made and how many noticed, and
those that were not, with the reason from ``tools/mutants.toml`` where the change is no mistake. The changes are
cosmic-ray's, one replacement for each operator; annotations are left alone, since nothing evaluates them. The tests
run in copies of the working tree; nothing is written to it.

Needs cosmic-ray and the extra ``test``. A module takes from five minutes to an hour.
"""

from __future__ import annotations

import argparse
import ast
import collections
import concurrent.futures
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[1]
EXPLAINED = Path(__file__).with_name("mutants.toml")

TIMEOUT = 120  # seconds; a change that makes the tests hang is noticed
ENOUGH = 60.0  # seconds of tests for a change that none of them notices


class Target(NamedTuple):
    """What is changed, and where the tests are that should notice."""

    sources: tuple[str, ...]
    tests: str


TARGETS = {
    "registry": Target(("_registry.py",), "tests/test_registry.py tests/test_plugins.py"),
    "contract": Target(("_contract.py",), "tests/contract tests/test_remedies.py tests/numpy_backend/test_values.py"),
    "bounds": Target(("_spec/bounds.py",), "tests/spec"),
    "judge": Target(("conformance/_compare.py",), "tests/conformance/test_compare.py"),
    "porting-judge": Target(
        ("porting/_diagnosis/judge.py", "porting/_diagnosis/agreement.py", "porting/_diagnosis/verdict.py"),
        "tests/porting",
    ),
    "causes": Target(("porting/_diagnosis/faults/*.py",), "tests/porting"),
}

# One replacement for each operator of Python is enough to see whether a test depends on it.
REPLACED = {
    *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul", "Pow_Mul", "BitAnd_BitOr", "BitOr_BitAnd"),
    *("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_Gt", "Gt_Lt", "Is_IsNot", "IsNot_Is"),
    *("USub_Nothing", "Not_Nothing", "Invert_Nothing"),
}
SINGLE = {
    *("AddNot", "NumberReplacer", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse"),
    *("ReplaceFalseWithTrue", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop"),
}


class Change(NamedTuple):
    """One change of a file: cosmic-ray's operator, which of the places it knows, and the line."""

    path: str
    operator: str
    occurrence: int
    line: int


def wanted(operator: str) -> bool:
    """Whether an operator of cosmic-ray is used: ``core/ReplaceBinaryOperator_Add_Sub``."""
    name = operator.removeprefix("core/")
    return name in SINGLE or name.partition("_")[2] in REPLACED


def unevaluated(source: str) -> Iterator[tuple[int, int, int, int]]:
    """The places of annotations and of what only type checkers read: first line, column, last line, column."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield node.lineno, 0, node.end_lineno or node.lineno, 10_000
        for name in ("annotation", "returns"):
            if isinstance(found := getattr(node, name, None), ast.expr):
                yield found.lineno, found.col_offset, found.end_lineno or found.lineno, found.end_col_offset or 0


def changes(path: str) -> Iterator[Change]:
    """All changes of a file."""
    import cosmic_ray.plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    source = (ROOT / path).read_text()
    skipped = list(unevaluated(source))
    tree = get_ast(source)
    for name in cosmic_ray.plugins.operator_names():
        if not wanted(name):
            continue
        operator = cosmic_ray.plugins.get_operator(name)()
        places = (start for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node))
        for occurrence, start in enumerate(places):
            if not any((first, column) <= start <= (last, end) for first, column, last, end in skipped):
                yield Change(path, name, occurrence, start[0])


def copied(folder: Path) -> Path:
    """A copy of the tracked files and of the compiled kernels."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in tracked.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for built in (ROOT / "src").rglob("*.so"):
        shutil.copy2(built, folder / built.relative_to(ROOT))
    return folder


def environment(copy: Path) -> dict[str, str]:
    """The environment in which the tests of a copy run: its sources come first."""
    found = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    found.pop("PYTEST_ADDOPTS", None)
    return found


def reach(copy: Path, target: Target) -> tuple[dict[str, dict[int, set[str]]], dict[str, float]]:
    """By which tests each line is run, file by file; and how many seconds each test takes."""
    from coverage import CoverageData

    report, data = copy / "times.xml", copy / "reach.coverage"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--cov=polylogit", "--cov-context=test"]
    command += ["--cov-report=", f"--junitxml={report}", "-o", "junit_family=xunit1", *shlex.split(target.tests)]
    subprocess.run(command, cwd=copy, env={**environment(copy), "COVERAGE_FILE": str(data)}, check=True)
    times = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("classname", "").rpartition(".")[2]
        file = case.get("file", "")
        inner = f"{name}::" if name and not file.endswith(f"{name}.py") else ""
        times[f"{file}::{inner}{case.get('name')}"] = float(case.get("time", "0"))
    found = CoverageData(str(data))
    found.read()
    lines: dict[str, dict[int, set[str]]] = {}
    for measured in found.measured_files():
        path = Path(measured).relative_to(copy).as_posix()
        contexts = found.contexts_by_lineno(measured)
        lines[path] = {line: {one.partition("|")[0] for one in names if one} for line, names in contexts.items()}
    return lines, times


_copy: Path


def begin(base: str) -> None:
    """In each process: a copy of its own."""
    global _copy
    _copy = copied(Path(tempfile.mkdtemp(dir=base)))
    os.chdir(_copy)


def changed(change: Change) -> tuple[str, str]:
    """The file with the change, and its line before and after."""
    import cosmic_ray.plugins
    from cosmic_ray.mutating import mutate_code

    source = (ROOT / change.path).read_text()
    text = mutate_code(source, cosmic_ray.plugins.get_operator(change.operator)(), change.occurrence)
    pairs = [(a, b) for a, b in zip(source.split("\n"), text.split("\n"), strict=False) if a != b]
    return text, " -> ".join(line.strip() for line in pairs[0]) if pairs else ""


def attempt(change: Change, tests: list[str]) -> tuple[bool, str]:
    """Whether the tests notice a change, and the change."""
    file = _copy / change.path
    source = file.read_text()
    text, diff = changed(change)
    (_copy / "tests.txt").write_text("\n".join(tests))
    file.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", "@tests.txt"]
    try:
        ended = subprocess.run(command, cwd=_copy, env=environment(_copy), capture_output=True, timeout=TIMEOUT)
        noticed = ended.returncode != 0
    except subprocess.TimeoutExpired:
        noticed = True
    finally:
        file.write_text(source)
    return noticed, diff


def statement(source: str, line: int) -> int:
    """The first line of the statement in a function that a line belongs to; 0 where the import runs it."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    within = [one for node in functions for body in node.body for one in ast.walk(body) if isinstance(one, ast.stmt)]
    return max((one.lineno for one in within if one.lineno <= line <= (one.end_lineno or 0)), default=0)


def chosen(change: Change, lines: dict[str, dict[int, set[str]]], times: dict[str, float]) -> list[str]:
    """The tests that run the statement of a change, quickest first; all that use the file where the import runs it."""
    of_file = lines.get(change.path, {})
    first = statement((ROOT / change.path).read_text(), change.line)
    names = of_file.get(first, set()) if first else set().union(*of_file.values())
    left, enough = [], ENOUGH
    for name in sorted(names & times.keys(), key=times.__getitem__):
        enough -= times[name]
        if enough < 0 and left:
            break
        left.append(name)
    return left


def examine(name: str, target: Target, *, jobs: int, sample: int, again: set[str]) -> dict[str, Any]:
    """Make the changes of a target, or those of them that are to be made again, and count those that are noticed."""
    paths = [path for pattern in target.sources for path in sorted((ROOT / "src/polylogit").glob(pattern))]
    work = [change for path in paths for change in changes(path.relative_to(ROOT).as_posix())]
    made = len(work)
    if again:
        work = [change for change in work if changed(change)[1] in again]
    if sample and sample < made:
        work = sorted(random.Random(0).sample(work, sample))
    with tempfile.TemporaryDirectory() as base:
        lines, times = reach(copied(Path(tempfile.mkdtemp(dir=base))), target)
        survivors = []
        with concurrent.futures.ProcessPoolExecutor(jobs, initializer=begin, initargs=(base,)) as pool:
            running = {pool.submit(attempt, one, tests): one for one in work if (tests := chosen(one, lines, times))}
            unreached = [one for one in work if one not in set(running.values())]
            for done, future in enumerate(concurrent.futures.as_completed(running), 1):
                noticed, diff = future.result()
                if not noticed:
                    survivors.append((running[future], diff))
                    print(f"{name}: {done} of {len(running)}: not noticed: {diff}", file=sys.stderr, flush=True)
    source = {path: (ROOT / path).read_text().split("\n") for path in {one.path for one in work}}
    survivors += [(one, f"{source[one.path][one.line - 1].strip()} -> no test runs it") for one in unreached]
    rows = [{"file": one.path, "line": one.line, "change": diff} for one, diff in sorted(survivors)]
    return {"changes": len(work), "of": made, "noticed": len(work) - len(rows), "survivors": rows}


def explained() -> dict[str, str]:
    """Changes that are no mistakes, as pattern -> reason."""
    with EXPLAINED.open("rb") as file:
        return {one["change"]: one["reason"] for one in tomllib.load(file)["explained"]}


def reason(change: str, reasons: dict[str, str]) -> str:
    """Why a change is no mistake; empty where nobody has said."""
    return next((why for pattern, why in reasons.items() if re.fullmatch(pattern, change)), "")


def told(name: str, result: dict[str, Any], reasons: dict[str, str]) -> Iterable[str]:
    """The result in lines."""
    why = [reason(row["change"], reasons) for row in result["survivors"]]
    left = [row for row, known in zip(result["survivors"], why, strict=True) if not known]
    part = f" (a sample of {result['of']})" if result["changes"] < result["of"] else ""
    yield (
        f"{name}: {result['changes']} changes{part}, {result['noticed']} noticed, "
        f"{sum(map(bool, why))} explained, {len(left)} not"
    )
    for text, count in collections.Counter(one for one in why if one).most_common():
        yield f"  {count:>3} {text}"
    for row in left:
        yield f"  {row['file']}:{row['line']}: {row['change']}"


def main() -> None:
    """Parse the arguments, examine, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--sample", type=int, default=0, help="changes for each target, chosen at random; 0: all")
    parser.add_argument("--json", type=Path, help="a file for the results")
    parser.add_argument("--again", type=Path, help="such a file: only the changes that nothing noticed there")
    options = parser.parse_args()
    before = json.loads(options.again.read_text()) if options.again else {}
    results = {}
    for name in options.targets or TARGETS:
        again = {row["change"] for row in before.get(name, {}).get("survivors", [])}
        results[name] = examine(name, TARGETS[name], jobs=options.jobs, sample=options.sample, again=again)
        print("\n".join(told(name, results[name], explained())), flush=True)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
