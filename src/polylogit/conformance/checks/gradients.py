"""Gradients against the closed forms: reverse mode, forward mode, and both kinds of second order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance import cases
from polylogit.conformance.autodiff import as_one_program
from polylogit.conformance.checks.structure import logits
from polylogit.conformance.checks.values import together
from polylogit.conformance.context import Trial
from polylogit.conformance.judge import Outcome
from polylogit.conformance.layouts import first_row_repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit.conformance.context import Context
    from polylogit.spec.dtypes import Array

    Run = Callable[..., Any]

__all__ = ["jvp", "second_order", "vjp"]

# Rows whose logits a first derivative is asked at; the rest of the table of rows adds nothing here.
_FEW = 400
_SHORT = 3


def vjp(context: Context) -> Iterator[Trial]:
    """The pullback, for cotangents of every kind, on every axis, with masks."""
    subject = context.subject
    if not subject.differentiates:
        message = f"{subject.backend.name} has no autodiff; pass vjp= to have the gradient checked"
        yield Trial("all", lambda: Outcome("unsupported", message=message))
        return
    run = _program(context, subject.pull)
    yield from _first(context, "vjp", subject.pull, run)
    for layout in ("strided", "transposed", "offset", "reversed"):
        if layout not in subject.layouts:
            continue
        x, g = logits(context, (6, 9)), logits(context, (6, 9), "cotangent")
        for which, place in (("cotangent", {"layout": layout}), ("logits", {"at": layout})):
            yield Trial(
                f"{which}-{layout}",
                lambda x=x, g=g, place=place: context.derivative(  # type: ignore[misc]
                    "vjp", x, [g], -1, subject.pull, optional=True, **place
                ),
            )
    yield from _broadcast(context)
    if subject.offers_where and subject.vjp is None and not context.light:
        yield from _masked(context, "vjp", run)
    if context.light and context.dtype.name != "float16":
        return
    yield from _many(context, run)
    if subject.own and context.dtype.dtype.itemsize > 2:  # noqa: PLR2004
        return  # the framework's own sum over that many, in its own precision, is not the kernel's doing
    n = 70000 if context.operation.takes_axis else 1000
    pull = run if context.light or context.hasty else subject.pull
    for name, g in (("ones", np.ones((1, n))), ("normal", context.rng("long g").normal(size=(1, n)))):
        if name == "normal" and context.subject.own and context.dtype.name != "float16":
            continue
        x = context.rng("long", name).normal(size=(1, n)) if name == "normal" else np.zeros((1, n))
        yield Trial(
            f"long-{name}",
            lambda x=x, g=g: context.derivative("vjp", x, [g], -1, pull, optional=subject.vjp is None),  # type: ignore[misc]
        )


def _many(context: Context, run: Run) -> Iterator[Trial]:
    """More entries than blocks hold, and not a multiple of anything; more rows than a grid has; 16-bit sums."""
    if not context.operation.takes_axis:
        return
    half = context.dtype.name == "float16"
    shapes = [(2, 10007)]
    if context.dtype.name == "float32" and not (context.hasty and not context.subject.own):
        shapes.append((70000, 3))
    for shape in shapes:
        x = context.rng("many", shape).normal(size=shape)
        # Large enough for the gradients of a long float16 row not to count as flushed.
        g = (32.0 if half else 1.0) * context.rng("many g", shape).normal(size=shape)
        yield Trial("x".join(map(str, shape)), lambda x=x, g=g: _pulled(context, x, g, run))  # type: ignore[misc]
    if half:
        yield Trial("equal-1x4099", lambda: _pulled(context, np.zeros((1, 4099)), np.full((1, 4099), -3.0), run))


def _pulled(context: Context, x: Array, g: Array, run: Run) -> Outcome:
    return context.derivative("vjp", x, [g], -1, run, optional=_may_refuse(context))


def jvp(context: Context) -> Iterator[Trial]:
    """The push-forward, likewise."""
    sparing = context.hasty and context.light and not context.subject.own and context.dtype.name != "float16"
    if context.subject.differentiates_forward and not sparing:
        run = _program(context, context.subject.push)
        yield from _first(context, "jvp", context.subject.push, run)
        if context.subject.offers_where and not context.light:
            yield from _masked(context, "jvp", run)


def second_order(context: Context) -> Iterator[Trial]:
    """The pullback of the pullback, and its push-forward."""
    subject = context.subject
    if not subject.differentiates_forward or (context.hasty and context.light):
        return
    for name, function in (("reverse", subject.pull_twice), ("forward", subject.push_pull)):
        run = _program(context, function)
        for n in (
            (3,)
            if context.light or context.hasty
            else (3, 17)
            if context.level == "quick" or context.costly
            else (2, 3, 8, 17, 130, 517)
        ):
            named = list(_points(context, n))
            x = np.stack([row for _, row in named])
            way = function if context.level == "full" and n <= _SHORT else run
            rng = context.rng("second", n)
            g, h = rng.normal(size=(2, *x.shape))
            yield Trial(
                f"{name}-n{n}",
                lambda x=x, g=g, h=h, way=way, named=named: context.derivative(  # type: ignore[misc]
                    "second", x, [g, h], -1, way, [one for one, _ in named], optional=True
                ),
            )
        x, g, h = (logits(context, cases.LARGE if context.hasty else (3, 4), what) for what in "xgh")
        some = ((0,) if name == "forward" or subject.own else ()) if context.hasty else (0, -1)
        for axis in some if subject.offers_axis and not context.light else ():
            yield Trial(
                f"{name}-axis-{axis}",
                lambda x=x, g=g, h=h, run=run, axis=axis: context.derivative(  # type: ignore[misc]
                    "second", x, [g, h], axis, run, optional=True
                ),
            )


def _points(context: Context, n: int) -> Iterator[tuple[str, Array]]:
    """Logits at which derivatives are taken: those whose values are numbers."""
    rng = context.rng("gradient rows", n)
    if context.operation.takes_axis:
        named = list(cases.rows(n, context.dtype, rng))
        if n > _FEW:
            named = named[:: max(1, len(named) // 8)]
        yield from named
        return
    for sign in (-1.0, 1.0):
        for size in (0.1, 5.0, 20.0, 60.0, 120.0):
            yield f"{sign * size:g}", sign * np.abs(size * rng.normal(size=n))
    edges = np.array(
        [0.0, -0.0, -9.0, -11.5, -17.0, 9.0, 17.0, -37.0, 37.0, -88.0, 88.0, -89.5, -104.0, 710.0, -746.0, 1e4, -1e4]
    )
    huge = np.array([-1.0, 1.0, -0.5, 0.5]) * context.dtype.max
    yield "edges", np.resize(edges, n)
    yield "more edges", np.resize(edges[::-1], n)
    yield "huge", np.resize(huge, n)


def _program(context: Context, run: Run) -> Run:
    """The derivative as most users run it; short rows and single cotangents go operation by operation as well.

    A kernel of one's own may not be one that can be compiled.
    """
    return run if context.subject.own else as_one_program(context.subject.backend, run)


def _first(context: Context, kind: str, eager: Run, run: Run) -> Iterator[Trial]:
    lengths = cases.GRADIENT_LENGTHS["quick" if context.costly else context.level]
    again = context.hasty and not context.subject.own and kind == "jvp"  # what the vjp was asked, in fewer shapes
    if context.costly:
        lengths = (1, 3, 17) if context.level == "quick" else (1, 2, 3, 8, 17, 64, 129, 517)
        lengths = lengths[1 : 2 if context.hasty else 3] if context.light or again else lengths
    for n in lengths:
        way = eager if context.level == "full" and n <= _SHORT else run
        yield Trial(f"n{n}", lambda n=n, way=way: _crossed(context, kind, way, n))  # type: ignore[misc]
    alone = run if context.hasty else eager
    for name, g in () if context.light or again else cases.cotangents(7, context.dtype, context.rng("alone g")):
        x = logits(context, (5, 7), "alone")
        yield Trial(
            f"alone-{name.replace(' ', '-')}",
            lambda x=x, g=g: context.derivative(  # type: ignore[misc]
                kind, x, [np.tile(g, (5, 1))], -1, alone, optional=_may_refuse(context)
            ),
        )
    if not context.operation.takes_axis or not context.subject.offers_axis:
        return
    shapes: tuple[tuple[int, ...], ...] = ((4, 6), (8, 8), (3, 4, 5), (4, 4, 4), (2, 3, 4, 5))
    own = context.subject.own
    if context.costly:
        shapes = ((4, 6), (4, 4, 4), (2, 3, 4)) if not context.hasty else ((2, 3, 4),) if own else (cases.LARGE,)
    # Where each axis is compiled anew, float32 alone is asked for it, and once for the two names that an axis has.
    compiled = context.costly and not own
    for shape in shapes if not (context.light or (compiled and context.dtype.name != "float32")) else ():
        x, g = logits(context, shape), logits(context, shape, "g")
        few = (-len(shape), 1, None) if own else (0,) if again else (0, None)
        every = (*range(-1 if compiled else -len(shape), len(shape) - compiled), None, (0, 1))
        for axis in few if context.hasty else every:
            yield Trial(
                f"{'x'.join(map(str, shape))}-axis-{axis}".replace(" ", ""),
                lambda x=x, g=g, axis=axis: context.derivative(kind, x, [g], axis, run, optional=True),  # type: ignore[misc]
            )


def _may_refuse(context: Context) -> bool:
    """Of a kernel that brings no gradient of its own, the framework may be unable to differentiate it."""
    return context.subject.own and context.subject.vjp is None


def _crossed(context: Context, kind: str, run: Run, n: int) -> Outcome:
    """Every kind of row with every kind of cotangent, in one array."""
    names: list[str] = []
    x: Any = []
    g: Any = []
    kinds = list(cases.cotangents(n, context.dtype, context.rng("cotangents", n)))
    for position, (name, row) in enumerate(_points(context, n)):
        some = kinds if n <= 20 else [kinds[(position + step) % len(kinds)] for step in (0, 3, 7)]  # noqa: PLR2004
        for other, cotangent in some:
            names.append(f"{name}; cotangent {other}")
            x.append(row)
            g.append(cotangent)
    x, g = (together(context, np.stack(rows)) for rows in (x, g))
    return context.derivative(kind, x, [g], -1, run, names, optional=_may_refuse(context))


def _broadcast(context: Context) -> Iterator[Trial]:
    """A cotangent that is a broadcast view, as the gradient of a sum is."""
    if not context.subject.layouts:
        return
    x = logits(context, (5, 7), "broadcast")
    row = logits(context, (1, 7), "broadcast g")

    def run(x: Any, g: Any, axis: Any) -> Any:
        return context.subject.pull(x, first_row_repeated(g), axis)

    yield Trial(
        "cotangent-broadcast", lambda: context.derivative("vjp", x, [np.tile(row, (5, 1))], -1, run, optional=True)
    )


def _masked(context: Context, kind: str, run: Run) -> Iterator[Trial]:
    rng = context.rng("masked gradient")
    for shape in (cases.LARGE if context.hasty else (6, 9),):
        x, g = logits(context, shape, "masked"), logits(context, shape, "masked g")
        mask = rng.random(shape) < 0.6  # noqa: PLR2004
        mask[0], mask[1], mask[2] = False, True, np.arange(shape[1]) == 4  # noqa: PLR2004
        yield Trial(
            f"where-{'x'.join(map(str, shape))}",
            lambda x=x, g=g, mask=mask: context.derivative(kind, x, [g], -1, run, optional=True, where=mask),  # type: ignore[misc]
        )
        dirty = np.where(mask, x, np.where(rng.random(shape) < 0.5, np.nan, np.inf))  # noqa: PLR2004
        yield Trial(
            "where-over-nan",
            lambda dirty=dirty, g=g, mask=mask: context.derivative(
                kind, dirty, [g], -1, run, optional=True, where=mask
            ),  # type: ignore[misc]
        )
