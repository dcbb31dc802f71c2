"""Checks of gradients against the closed forms: reverse mode, forward mode, and both kinds of second order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance._case import Case, slug
from polylogit.conformance._checks.arguments import partly_masked
from polylogit.conformance._compare import Comparison
from polylogit.conformance._data import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.dtypes import Array
    from polylogit.conformance._case import Setting

_FEW = 400  # longer rows come in fewer kinds
_EVERY = 20  # rows up to this length meet every cotangent


def vjp(setting: Setting) -> Iterator[Case]:
    """Reverse mode, for cotangents of every kind, on every axis, with masks."""
    implementation, dtype = setting.implementation, setting.dtype
    if not implementation.differentiates:
        yield Case("all", behaviour=_no_autodiff)
        return
    yield from _first(setting, "vjp")
    for layout in ("strided", "transposed", "offset", "reversed"):
        if layout in implementation.layouts:
            x, g = setting.logits((6, 9)), setting.logits((6, 9), "cotangent")
            for which, places in (("cotangent", ("contiguous", layout)), ("logits", (layout, "contiguous"))):
                yield _pulled(f"{which}-{layout}", x, g, layout=places[0], directions_layout=places[1], eager=True)
    if implementation.layouts:  # a cotangent that is a broadcast view, as the gradient of a sum is
        x, g = setting.logits((5, 7), "broadcast"), np.tile(setting.logits((1, 7), "broadcast g"), (5, 1))
        yield _pulled("cotangent-broadcast", x, g, directions_layout="broadcast", eager=True)
    yield from _unusual(setting)
    if implementation.offers_vjp_where:
        yield from _masked(setting, "vjp")
    elif implementation.offers_where and setting.budget("masked derivatives"):
        yield Case("where", behaviour=_no_mask)
    yield from _many(setting)
    if not setting.budget("long cotangents") or (setting.is_kernel and dtype.dtype.itemsize > 2):
        return  # the framework's own sum over that many, in its own precision, is not the kernel's doing
    shape = (1, 70000 if setting.operation.takes_axis else 1000)
    options = {"eager": not setting.budget("long cotangents compiled"), "optional": implementation.vjp is None}
    yield _pulled("long-ones", np.zeros(shape), np.ones(shape), **options)
    if not setting.is_kernel or dtype.name == "float16":
        x, g = setting.rng("long", "normal").normal(size=shape), setting.rng("long g").normal(size=shape)
        yield _pulled("long-normal", x, g, **options)


def _unusual(setting: Setting) -> Iterator[Case]:
    """NaN in the cotangent, which must stay in its row; no rows; no entries; a separate pullback without an axis."""
    optional = _may_refuse(setting)
    g = setting.logits((5, 7), "nan g")
    g[1, 3] = np.nan
    yield Case("cotangent-nan", setting.logits((5, 7), "nan"), "vjp", [g], eager=True, optional=optional)
    for shape in ((3, 0), (0, 5)):
        nothing = np.zeros(shape)
        yield Case(f"empty-{slug(shape)}", nothing, "vjp", [nothing], eager=True, optional=True)
    if setting.implementation.offers_axis and setting.implementation.default_vjp_axis:
        cube = (3, 4, 5)
        x, g = setting.logits(cube, "default"), setting.logits(cube, "default g")
        yield Case(f"{slug(cube)}-default", x, "vjp", [g], axis_given=False)


def _no_autodiff(setting: Setting) -> Comparison:
    message = f"{setting.implementation.backend.name} has no autodiff; pass vjp= to have the gradient checked"
    return Comparison("unsupported", message=message)


def _no_mask(_setting: Setting) -> Comparison:
    message = "the gradient takes no where=; give it a parameter where=None to have it checked under masks"
    return Comparison("unsupported", message=message)


def _pulled(name: str, x: Array, g: Array, **options: Any) -> Case:
    return Case(name, x, "vjp", [g], **{"optional": True, **options})


def _may_refuse(setting: Setting) -> bool:
    """Whether the framework may be unable to differentiate a kernel that has no gradient of its own."""
    return setting.implementation.composed


def _many(setting: Setting) -> Iterator[Case]:
    """More entries than blocks hold, in odd sizes; more rows than a grid has; 16-bit sums."""
    if not setting.operation.takes_axis:
        return
    half = setting.dtype.name == "float16"
    shapes, optional = setting.budget("many rows"), _may_refuse(setting)
    for shape in shapes:
        x = setting.rng("many", shape).normal(size=shape)
        # Large enough for the gradients of a long float16 row not to count as flushed.
        g = (32.0 if half else 1.0) * setting.rng("many g", shape).normal(size=shape)
        yield _pulled(slug(shape), x, g, optional=optional)
    if half and shapes:
        yield _pulled("equal-1x4099", np.zeros((1, 4099)), np.full((1, 4099), -3.0), optional=optional)


def jvp(setting: Setting) -> Iterator[Case]:
    """Forward mode, for tangents of every kind, on every axis, with masks."""
    if setting.implementation.differentiates_forward and setting.budget("jvp"):
        yield from _first(setting, "jvp")
        yield from _masked(setting, "jvp")


def second_order(setting: Setting) -> Iterator[Case]:
    """Second derivatives: the gradient of the gradient, in reverse and in forward mode."""
    implementation = setting.implementation
    for kind in ("reverse", "forward") if implementation.differentiates_forward else ():
        for n in setting.budget("second lengths"):
            named = list(_points(setting, n))
            x = np.stack([row for _, row in named])
            directions = list(setting.rng("second", n).normal(size=(2, *x.shape)))
            names, eager = [name for name, _ in named], n <= setting.budget("longest eager")
            yield Case(f"{kind}-n{n}", x, kind, directions, names=names, eager=eager, optional=True)
        x, g, h = (setting.logits(setting.budget("second shape"), what) for what in "xgh")
        for axis in setting.budget("second axes", kind) if implementation.offers_axis else ():
            yield Case(f"{kind}-axis-{axis}", x, kind, [g, h], axis, optional=True)


def _points(setting: Setting, n: int) -> Iterator[tuple[str, Array]]:
    """Logits at which derivatives are taken: those with finite values."""
    rng = setting.rng("gradient rows", n)
    if setting.operation.takes_axis:
        named = list(rows.rows(n, setting.dtype, rng))
        yield from named[:: max(1, len(named) // 8)] if n > _FEW else named
        return
    for sign in (-1.0, 1.0):
        for size in (0.1, 5.0, 20.0, 60.0, 120.0):
            yield f"{sign * size:g}", sign * np.abs(size * rng.normal(size=n))
    edges = np.array(
        [0.0, -0.0, -9.0, -11.5, -17.0, 9.0, 17.0, -37.0, 37.0, -88.0, 88.0, -89.5, -104.0, 710.0, -746.0, 1e4, -1e4]
    )
    yield "edges", np.resize(edges, n)
    yield "more edges", np.resize(edges[::-1], n)
    yield "huge", np.resize(np.array([-1.0, 1.0, -0.5, 0.5]) * setting.dtype.max, n)


def _first(setting: Setting, kind: str) -> Iterator[Case]:
    optional = _may_refuse(setting)
    for n in setting.budget("derivative lengths", kind):
        yield _crossed(setting, kind, n)
    if setting.budget("cotangents alone", kind):
        x, eager = setting.logits((5, 7), "alone"), not setting.budget("cotangents alone compiled")
        for name, g in rows.cotangents(7, setting.dtype, setting.rng("alone g")):
            yield Case(f"alone-{slug(name)}", x, kind, [np.tile(g, (5, 1))], eager=eager, optional=optional)
    if not setting.implementation.offers_axis:
        return
    for shape in setting.budget("derivative shapes"):
        x, g, ndim = setting.logits(shape), setting.logits(shape, "g"), len(shape)
        sets = {"every": range(-ndim, ndim), "once": range(-1, ndim - 1), "first": (-ndim,)}
        for group in setting.budget("derivative axes", kind):
            for axis in sets.get(group, (group,)):
                name = f"{slug(shape)}-axis-{axis}".replace(" ", "")
                yield Case(name, x, kind, [g], axis, optional=True)


def _crossed(setting: Setting, kind: str, n: int) -> Case:
    """Every kind of row with every kind of cotangent, in one array."""
    names, x, g = [], [], []
    kinds = list(rows.cotangents(n, setting.dtype, setting.rng("cotangents", n)))
    for position, (name, row) in enumerate(_points(setting, n)):
        some = kinds if n <= _EVERY else [kinds[(position + step) % len(kinds)] for step in (0, 3, 7)]
        for other, cotangent in some:
            names.append(f"{name}; cotangent {other}")
            x.append(row)
            g.append(cotangent)
    x_rows, g_rows = (setting.padded(np.stack(one)) for one in (x, g))
    eager, optional = n <= setting.budget("longest eager"), _may_refuse(setting)
    return Case(f"n{n}", x_rows, kind, [g_rows], names=names, eager=eager, optional=optional)


def _masked(setting: Setting, kind: str) -> Iterator[Case]:
    shape = setting.budget("masked derivatives")
    if setting.implementation.offers_where and shape:
        x, g = setting.logits(shape, "masked"), setting.logits(shape, "masked g")
        mask, dirty = partly_masked(setting.rng("masked gradient"), x)
        yield Case(f"where-{slug(shape)}", x, kind, [g], where=mask, optional=True)
        yield Case("where-over-nan", dirty, kind, [g], where=mask, optional=True)
