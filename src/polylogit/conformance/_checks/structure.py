"""Checks with the same rows in other arrangements: axes, memory layouts, shapes and batches."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance._case import Case, slug

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from polylogit.conformance._case import Setting

# Where most axes have one entry, and kernels guess which axis is meant.
_ONES = ((2, 3, 1, 1), (1, 1, 1, 9))


def _along(setting: Setting, shape: tuple[int, ...], axis: Any) -> Case:
    name = f"{slug(shape)}-axis-{axis}".replace(" ", "")
    return Case(name, setting.logits(shape), axis=axis, optional=True)


def _axes(setting: Setting, shape: tuple[int, ...]) -> Iterable[Any]:
    """Every axis, several jointly, and None; or one axis of each kind."""
    ndim = len(shape)
    if not setting.implementation.offers_axis:
        return (-1,)
    if shape not in setting.budget("shapes with every axis"):
        return dict.fromkeys((-ndim, min(1, ndim - 1), -1, None, (0, ndim - 1) if ndim > 1 else 0))
    several = ((-1, 0), tuple(range(ndim)), (-1,)) if ndim > 1 else ()
    return dict.fromkeys((*range(-ndim, ndim), None, *itertools.combinations(range(ndim), 2), *several))


def axes(setting: Setting) -> Iterator[Case]:
    """Every axis of arrays with one to five dimensions, several axes jointly, None, and the default."""
    if not setting.operation.takes_axis:
        return
    shapes = setting.budget("shapes with axes")
    for shape in shapes:
        for axis in _axes(setting, shape):
            yield _along(setting, shape, axis)
        if setting.implementation.default_axis:
            yield Case(f"{slug(shape)}-default", setting.logits(shape), axis_given=False, optional=True)
    if shapes:
        yield from _other_axes(setting)


def _other_axes(setting: Setting) -> Iterator[Case]:
    """Long and wide arrays, many dimensions, and axes most of which have size one."""
    offered = setting.implementation.offers_axis
    for shape, axis in (*setting.budget("long axes"), *setting.budget("wide arrays")) if offered else ():
        yield _along(setting, shape, axis)
    if offered:
        yield from _far_columns(setting)
        for shape in _ONES if setting.budget("axes of mostly ones") != 0 else ():
            one = setting.budget("axes of mostly ones") == 1
            for axis in (shape.index(1),) if one else range(len(shape)):
                yield _along(setting, shape, axis)
    for shape in setting.budget("many dimensions"):
        for axis in (-1, 0, 2) if offered else (-1,):
            yield _along(setting, shape, axis)
    for n in setting.budget("longest axis"):
        yield Case(f"{n}x2-axis-0", 5.0 * setting.rng("long axis").normal(size=(n, 2)), axis=0)


def _far_columns(setting: Setting) -> Iterator[Case]:
    """Axes other than the last: lanes so far apart that a maximum from a neighbouring lane shows; equal logits."""
    for shape, axis in setting.budget("far columns"):
        x = setting.rng("far columns", shape).normal(size=shape)
        x = x + np.resize([0.0, 1e4, -1e4, 200.0, -200.0], shape[-1])
        yield Case(f"far-columns-{slug(shape)}-axis-{axis}", x, axis=axis, optional=True)
    # Sixteen bits hold no sum of that many; in a wider one even additions one by one stay within the bound.
    if setting.dtype.dtype.itemsize == 2 and setting.budget("equal long axis"):
        yield Case("equal-66000x2-axis-0", np.zeros((66000, 2)), axis=0, optional=True)


def layouts(setting: Setting) -> Iterator[Case]:
    """The same values in every memory layout that the framework has: transposed, strided, reversed, read-only."""
    implementation = setting.implementation
    if not implementation.layouts:
        return
    # Few kernels tell byte orders apart, and their callers convert; a backend owes it.
    known = [layout for layout in implementation.layouts if not (setting.is_kernel and layout == "big-endian")]
    for shape in setting.budget("layouts"):
        x = setting.logits(shape)
        for layout, axis in itertools.product(known, (-1, 0, 1) if implementation.offers_axis else (-1,)):
            yield Case(f"{slug(shape)}-{layout}-axis-{axis}", x, axis=axis, layout=layout, optional=True)
    yield Case("strided-vector", setting.logits((33,)), layout="strided", optional=True)
    repeated = np.tile(setting.logits((1, 9), "broadcast"), (6, 1))
    for axis in (-1, 0) if implementation.offers_axis else (-1,):
        yield Case(f"broadcast-axis-{axis}", repeated, axis=axis, layout="broadcast", optional=True)
    if "reversed" in implementation.layouts:
        yield Case("reversed-vector", setting.logits((33,)), layout="reversed", optional=True)


def shapes(setting: Setting) -> Iterator[Case]:
    """Different numbers of rows, empty arrays, scalars, axes of size one."""
    batches = setting.budget("batches")
    if not batches:
        yield Case("2x3", setting.logits((2, 3)))
        return
    for shape in (*batches, *([(70000, 3)] if setting.dtype.name == "float32" else [])):
        yield Case(slug(shape), setting.logits(shape))
    for shape in setting.budget("far batches"):
        yield Case(f"{slug(shape)}-far", np.full(shape, -1e4))
    for shape in setting.budget("empty shapes"):
        yield Case(f"empty-{slug(shape)}", np.zeros(shape), optional=True)
    yield Case("empty-2x0x3-axis-1", np.zeros((2, 0, 3)), axis=1, optional=True)
    for axis in (-1, 0, None) if setting.implementation.offers_axis else (-1,):
        yield Case(f"scalar-axis-{axis}", np.array(1.25), axis=axis, optional=True)
    yield Case("vector", setting.logits((19,)), optional=True)
    # Falling and rising from row to row: whatever is kept from one row to the next shows.
    steps = np.linspace(-1.0, 1.0, 40)[:, None] * min(1e4, setting.dtype.max / 8)
    for name, step in (("rising", steps), ("falling", -steps)):
        yield Case(f"rows-{name}", setting.logits((40, 7)) + step)
