"""Axes, memory layouts, shapes and batches: the same rows, asked for in other ways."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance import cases
from polylogit.conformance.context import Trial
from polylogit.conformance.layouts import first_row_repeated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from polylogit.conformance.context import Context
    from polylogit.conformance.judge import Outcome
    from polylogit.spec.dtypes import Array

__all__ = ["axes", "layouts", "shapes"]


def logits(context: Context, shape: tuple[int, ...], *what: object) -> Array:
    """Random logits whose scale and level differ from place to place, so that no two rows are alike."""
    rng = context.rng("logits", shape, *what)
    x = 2.0 * rng.normal(size=shape)
    for axis in range(len(shape)):
        level = rng.normal(size=[size if one == axis else 1 for one, size in enumerate(shape)])
        x = x + 3.0 * level
    return np.asarray(x)


def _some_axes(ndim: int) -> Iterator[Any]:
    yield from range(-ndim, ndim)
    yield None
    yield from itertools.combinations(range(ndim), 2)
    if ndim > 1:
        yield (-1, 0)
        yield tuple(range(ndim))
        yield (-1,)


# Of these every axis is asked for.
_EVERY_AXIS = ((3, 4, 5), (4, 6))


def _asked(context: Context) -> Iterator[tuple[tuple[int, ...], Iterable[Any]]]:
    """Shapes and their axes; where there is little time, or each is compiled, of most shapes one axis of each kind."""
    own, hasty = context.subject.own, context.hasty
    few = hasty or (not own and context.costly)
    shapes: tuple[tuple[int, ...], ...] = cases.SHAPES
    if context.light:
        shapes = ((4, 6),)
    elif few and not hasty and context.dtype.name != "float32":
        shapes = ((4, 6), (3, 4, 5), (2, 1, 3, 2, 3))
    elif hasty:
        shapes = ((8, 8), (3, 4, 5), (2, 3, 4, 5)) if own else ((15, 16, 18),)
    for shape in shapes:
        last = len(shape) - 1
        kinds = (-last - 1, min(1, last), -1, None, (0, last) if last else 0)
        every = not few or (shape in _EVERY_AXIS and context.dtype.name == "float32")
        asked = dict.fromkeys(_some_axes(len(shape)) if every else kinds)
        yield shape, asked if context.subject.offers_axis else (-1,)


def axes(context: Context) -> Iterator[Trial]:
    """Every axis of arrays of one to five dimensions, several together, None; the default."""
    own = context.subject.own
    if not context.operation.takes_axis or (context.hasty and context.light and not own):
        return
    for shape, asked in _asked(context):
        x = logits(context, shape)
        case = "x".join(map(str, shape))
        for axis in asked:
            yield Trial(
                f"{case}-axis-{axis}".replace(" ", ""),
                lambda x=x, axis=axis: context.values(x, axis, optional=True),  # type: ignore[misc]
            )
        if context.subject.default_axis:
            call = context.subject.function
            yield Trial(
                f"{case}-default",
                lambda x=x, call=call: context.values(x, -1, call=call, optional=True),  # type: ignore[misc]
            )
    longer = (((517, 9), 0), ((3, 517, 3), 1), ((130, 40), 0)) if context.subject.offers_axis else ()
    for shape, axis in (longer[:1] if context.light else longer[1:2]) if context.hasty else longer:
        x = logits(context, shape)
        yield Trial(
            f"{'x'.join(map(str, shape))}-axis-{axis}",
            lambda x=x, axis=axis: context.values(x, axis, optional=True),  # type: ignore[misc]
        )
    yield from _far_columns(context)
    for shape in cases.ONES if context.subject.offers_axis and not context.light else ():
        x = logits(context, shape)
        for axis in (shape.index(1),) if context.hasty and not own else range(len(shape)):
            yield Trial(
                f"{'x'.join(map(str, shape))}-axis-{axis}",
                lambda x=x, axis=axis: context.values(x, axis, optional=True),  # type: ignore[misc]
            )
    # A kernel of one's own may add up along a strided axis one by one, as NumPy does; a backend owes the bound there.
    if not context.subject.own and (context.level == "full" or context.dtype.name == "float32"):
        n = 65536 if context.level == "quick" else 128256
        x = 5.0 * context.rng("long axis").normal(size=(n, 2))
        yield Trial(f"{n}x2-axis-0", lambda: context.values(x, 0))


def _far_columns(context: Context) -> Iterator[Trial]:
    """Along other axes than the last: lanes so far apart that a maximum taken from a neighbour shows; equal logits."""
    if not context.subject.offers_axis:
        return
    some: tuple[tuple[tuple[int, ...], int], ...] = (((9, 70), 0), ((3, 9, 17), 1))
    if context.hasty or context.light:
        some = ((cases.LARGE, 0),)
    for shape, axis in some:
        x = context.rng("far columns", shape).normal(size=shape)
        x = x + np.resize([0.0, 1e4, -1e4, 200.0, -200.0], shape[-1])
        yield Trial(
            f"far-columns-{'x'.join(map(str, shape))}-axis-{axis}",
            lambda x=x, axis=axis: context.values(x, axis, optional=True),  # type: ignore[misc]
        )
    # Sixteen bits hold no sum of that many; in a wider one even additions one by one stay within the bound.
    if context.dtype.dtype.itemsize == 2 and not context.costly:  # noqa: PLR2004
        yield Trial("equal-66000x2-axis-0", lambda: context.values(np.zeros((66000, 2)), 0, optional=True))


def layouts(context: Context) -> Iterator[Trial]:
    """Views in every memory layout that the framework's arrays may have, with the same values."""
    if not context.subject.layouts:
        return
    shapes = (
        ((6, 9), (3, 4, 5), (40, 130)) if context.level == "quick" else ((6, 9), (3, 4, 5), (40, 130), (2, 3, 4, 5))
    )
    for shape in shapes if context.dtype.name == "float32" or context.level == "full" else shapes[:1]:
        x = logits(context, shape)
        whole = (-1, 0, 1) if context.subject.offers_axis else (-1,)
        # Few kernels of one's own tell byte orders apart, and their callers convert; a backend owes it.
        known = [layout for layout in context.subject.layouts if not (context.subject.own and layout == "big-endian")]
        for layout, axis in itertools.product(known, whole):
            yield Trial(
                f"{'x'.join(map(str, shape))}-{layout}-axis-{axis}",
                lambda x=x, layout=layout, axis=axis: context.values(x, axis, layout, optional=True),  # type: ignore[misc]
            )
    yield Trial("strided-vector", lambda: context.values(logits(context, (33,)), -1, "strided", optional=True))
    for axis in (-1, 0) if context.subject.offers_axis else (-1,):
        row = logits(context, (1, 9), "broadcast")
        yield Trial(f"broadcast-axis-{axis}", lambda axis=axis, row=row: _broadcast(context, row, axis))  # type: ignore[misc]
    if "reversed" in context.subject.layouts:
        yield Trial("reversed-vector", lambda: context.values(logits(context, (33,)), -1, "reversed", optional=True))


def _broadcast(context: Context, row: Array, axis: int) -> Outcome:
    x = context.dtype.round(np.tile(row, (6, 1)))
    array = first_row_repeated(context.subject.array(x, context.dtype.name))
    return context.judged(context.subject.answer(array, axis), x, axis, optional=True)


def shapes(context: Context) -> Iterator[Trial]:
    """Numbers of rows, empty arrays, scalars, size-one axes."""
    if context.hasty and context.light:
        yield Trial("2x3", lambda: context.values(logits(context, (2, 3))))
        return
    if context.dtype.name not in ("float32", "float16") and context.level == "quick":
        many: tuple[int, ...] = (8, 17)
    else:
        many = cases.BATCHES if not context.costly else (1, 7, 16, 33)
    some = itertools.product(many, (1, 3, 6) if not context.costly else (1, 3))
    for batch, n in ((7, 3), (33, 1)) if context.hasty else some:
        x = logits(context, (batch, n))
        yield Trial(f"{batch}x{n}", lambda x=x: context.values(x))  # type: ignore[misc]
    if context.dtype.name == "float32":
        x = logits(context, (70000, 3))
        yield Trial("70000x3", lambda: context.values(x))
    for batch, n in ((7, 3), (33, 1)) if context.hasty else ((8, 1), (33, 1), (3, 1), (9, 2)):
        far = np.full((batch, n), -1e4)
        yield Trial(f"{batch}x{n}-far", lambda far=far: context.values(far))  # type: ignore[misc]
    for shape in ((0,), (3, 0), (0, 3), (2, 0, 3)) if not (context.light or context.hasty) else ((3, 0),):
        yield Trial(
            f"empty-{'x'.join(map(str, shape))}",
            lambda shape=shape: context.values(np.zeros(shape), -1, optional=True),  # type: ignore[misc]
        )
    yield Trial("empty-2x0x3-axis-1", lambda: context.values(np.zeros((2, 0, 3)), 1, optional=True))
    for axis in (-1, 0, None) if context.subject.offers_axis else (-1,):
        yield Trial(
            f"scalar-axis-{axis}",
            lambda axis=axis: context.values(np.array(1.25), axis, optional=True),  # type: ignore[misc]
        )
    yield Trial("vector", lambda: context.values(logits(context, (19,)), optional=True))
    # Falling and rising from row to row: whatever is kept from one row to the next shows.
    steps = np.linspace(-1.0, 1.0, 40)[:, None] * min(1e4, context.dtype.max / 8)
    for name, step in (("rising", steps), ("falling", -steps)):
        x = logits(context, (40, 7)) + step
        yield Trial(f"rows-{name}", lambda x=x: context.values(x))  # type: ignore[misc]
