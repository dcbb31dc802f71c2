"""A comparison as text, as JSON and as a page to look at.

Files are written beside their place and moved there, so that an interrupted run leaves the old one or none.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from polylogit.porting.compare import Activation, Comparison
    from polylogit.porting.diagnose import Diagnosis

__all__ = ["as_dict", "summary", "write_html", "write_json"]

SCHEMA = "polylogit.comparison/1"
VERDICTS = {
    "agrees": "The candidate agrees with the reference.",
    "disagrees": "The candidate does not agree with the reference.",
    "inconclusive": "Inconclusive: what was compared could not have differed (constant values or zero gradients).",
}
MOST_ROWS, MOST_COLUMNS = 5, 12


# --- text ------------------------------------------------------------------------------------------------------------


def summary(comparison: Comparison) -> str:
    """The verdict, the cause and the fix in a few lines."""
    lines = [VERDICTS[comparison.status]]
    if comparison.first_divergence is not None:
        lines.append(f"first divergence: {comparison.first_divergence}")
    cause = comparison.cause
    if cause is not None:
        lines += [f"cause: {cause.name}", f"  {cause.explanation}", f"  fix: {cause.fix}", f"  {_residuals(cause)}"]
    for one in comparison.activations:
        lines.append(f"{one.status:>12}  {one.name}: {_number(one.verdict.agreement.level)} apart")
    return "\n".join(lines)


def _residuals(cause: Diagnosis) -> str:
    if cause.name == "unknown":
        tried = ", ".join(f"{one.name} {_number(one.residual)}" for one in cause.evidence)
        return f"difference {_number(cause.difference)}; nearest explanations leave {tried or 'nothing comparable'}"
    text = f"difference {_number(cause.difference)}, left once undone {_number(cause.residual)}"
    if cause.runner_up is not None:
        text += f"; the runner-up, {cause.runner_up.name}, leaves {_number(cause.runner_up.residual)}"
    return text


def _number(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "∞"


# --- JSON ------------------------------------------------------------------------------------------------------------


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """What the JSON file holds; numbers that JSON lacks are None."""
    return {
        "schema": SCHEMA,
        "status": comparison.status,
        "agrees": comparison.agrees,
        "first_divergence": comparison.first_divergence,
        "framework": comparison.framework,
        "cause": None if comparison.cause is None else _cause(comparison.cause),
        "activations": [_activation(one) for one in comparison.activations],
        "unmatched": list(comparison.unmatched),
    }


def _cause(cause: Diagnosis) -> dict[str, Any]:
    runner_up = cause.runner_up
    return {
        "name": cause.name,
        "explanation": cause.explanation,
        "fix": cause.fix,
        "residual": _plain(cause.residual),
        "difference": _plain(cause.difference),
        "runner_up": None if runner_up is None else {"name": runner_up.name, "residual": _plain(runner_up.residual)},
        "parameters": _plain(cause.parameters),
        "evidence": [{"name": one.name, "residual": _plain(one.residual)} for one in cause.evidence],
    }


def _activation(one: Activation) -> dict[str, Any]:
    found = one.verdict.agreement
    return {
        "name": one.name,
        "candidate_name": one.candidate_name,
        "status": one.status,
        "gradient": one.gradient,
        "shape": list(one.reference.shape),
        "candidate_shape": list(one.candidate.shape),
        "dtype": one.reference.dtype.name,
        "candidate_dtype": one.candidate.dtype.name,
        "difference": _plain(found.level),
        "largest_difference": _plain(found.peak),
        "cause": None if one.verdict.cause is None else one.verdict.cause.name,
    }


def _plain(value: Any) -> Any:
    """Numbers, lists and dicts that JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write the comparison as JSON."""
    _write(path, json.dumps(as_dict(comparison), indent=2, allow_nan=False) + "\n")


def _write(path: str | os.PathLike[str], text: str) -> None:
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# --- HTML ------------------------------------------------------------------------------------------------------------


def write_html(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write one self-contained page."""
    _write(path, render(comparison))


def render(comparison: Comparison) -> str:
    """The page: the diagnosis on top, the error of each activation drawn, the worst rows side by side."""
    import jinja2

    source = resources.files("polylogit.porting").joinpath("comparison.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    failing = [one for one in comparison.activations if one.status == "disagrees"]
    return environment.from_string(source).render(
        comparison=comparison,
        verdict=VERDICTS[comparison.status],
        cause=comparison.cause,
        residuals=_residuals(comparison.cause) if comparison.cause else "",
        bars=[_bar(one) for one in comparison.activations],
        failing=[(one, _worst_rows(one)) for one in failing[:3]],
    )


def _bar(one: Activation) -> dict[str, Any]:
    """How far the bar of an activation reaches: 0 at 1e-9 and 100 at 1, logarithmic."""
    level, peak = one.verdict.agreement.level, one.verdict.agreement.peak

    def reach(value: float) -> float:
        if not math.isfinite(value):
            return 100.0
        return min(100.0, max(0.5, (9.0 + math.log10(max(value, 1e-30))) / 9.0 * 100.0))

    cause = one.verdict.cause
    return {
        "one": one,
        "level": _number(level),
        "peak": _number(peak),
        "width": round(reach(level), 1),
        "tip": round(reach(peak), 1),
        "cause": cause.name if cause else "",
    }


def _worst_rows(one: Activation) -> list[dict[str, Any]]:
    """The rows (along the last axis) that differ most, with what to show of them."""
    if one.reference.shape != one.candidate.shape or not one.reference.size:
        return []
    r = one.reference.astype(np.float64).reshape(-1, one.reference.shape[-1] if one.reference.ndim else 1)
    c = one.candidate.astype(np.float64).reshape(r.shape)
    with np.errstate(all="ignore"):
        difference = np.where((r == c) | (np.isnan(r) & np.isnan(c)), 0.0, np.abs(c - r))
        difference = np.nan_to_num(difference, nan=np.inf)
        worst = np.argsort(-difference.max(axis=1), kind="stable")[:MOST_ROWS]
    rows = []
    for index in worst:
        if not difference[index].any():
            continue
        columns = np.sort(np.argsort(-difference[index], kind="stable")[:MOST_COLUMNS])
        top = difference[index][np.isfinite(difference[index])].max(initial=0.0) or 1.0
        place = np.unravel_index(int(index), one.reference.shape[:-1]) if one.reference.ndim > 1 else ()
        cells = [
            {
                "column": int(column),
                "reference": f"{r[index, column]:.5g}",
                "candidate": f"{c[index, column]:.5g}",
                "heat": round(min(1.0, float(difference[index, column]) / top), 3),
            }
            for column in columns
        ]
        rows.append({"place": ", ".join(str(int(part)) for part in place), "cells": cells, "of": r.shape[1]})
    return rows
