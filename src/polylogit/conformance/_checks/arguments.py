"""Checks of the arguments other than the logits: masks, dtypes and errors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.dtypes import DTYPES, finfo
from polylogit.conformance._case import Case, slug
from polylogit.conformance._compare import Comparison
from polylogit.conformance._data import rows
from polylogit.conformance._request import EndedError, Request
from polylogit.conformance._run_case import compared, refusal, unusable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.dtypes import Array
    from polylogit.conformance._case import Setting

_INTEGERS: dict[str, tuple[tuple[int, ...], ...]] = {
    "uint8": ((1, 2, 3), (0, 255, 250), (10, 9, 8)),
    "uint16": ((1, 2, 3), (40000, 39998, 0)),
    "uint32": ((3, 2, 1),),
    "uint64": ((1, 2, 3),),
    "int8": ((1, 2, 3), (-128, 127, 125), (-1, -2, -3)),
    "int16": ((1, 2, 3), (-30000, -29999, 30000)),
    "int32": ((1, 2, 3), (-3, 0, 5)),
    "int64": ((1, 2, 3), (-7, 0, 5)),
    "bool": ((0, 1, 1),),
}
_NO_AXES = (((2, 3), 2), ((2, 3), -3), ((2, 3), 5), ((2, 3), -7), ((3, 4, 5), 3), ((4,), 1), ((4,), -2))


def partly_masked(rng: np.random.Generator, x: Array) -> tuple[Array, Array]:
    """A mask with an empty row, a full row and a row with one entry; and `x` with NaN and +inf where masked."""
    mask: Array = np.asarray(rng.random(x.shape) < 0.6)
    mask[0], mask[1], mask[2] = False, True, np.arange(x.shape[1]) == 4
    return mask, np.where(mask, x, np.where(rng.random(x.shape) < 0.5, np.nan, np.inf))


def _special_kept(x: Array) -> tuple[Array, Array]:
    """NaN and infinities at entries that count, next to masked entries."""
    x, where = x.copy(), np.ones(x.shape, dtype=bool)
    where[:, 1::3] = False
    for row, value in enumerate((np.nan, np.inf, -np.inf)):
        x[row, 2] = value
    x[3], x[4] = np.where(where[3], -np.inf, x[3]), np.where(where[4], -np.inf, np.nan)
    return x, where


def masks(setting: Setting) -> Iterator[Case]:
    """``where=``: masked entries have no influence, whatever they hold; fully masked rows; masks that broadcast."""
    shape = setting.budget("masked shape")
    if not (setting.implementation.offers_where and shape):
        return
    x = setting.logits(shape)
    mask, dirty = partly_masked(setting.rng("masks"), x)
    broadcast = {"vector": mask[3], "row": mask[3:4], "column": mask[:, :1], "one": np.array(True)}
    kinds = [
        ("plain", x, mask),
        ("over-nan", dirty, mask),
        ("over-high", np.where(mask, x, 0.4 * setting.dtype.max), mask),
        ("under-all", np.where(mask, -0.4 * setting.dtype.max, x), mask),
        ("none-left", x, np.zeros_like(mask)),
        ("all", x, np.ones_like(mask)),
        *(
            (kind if kind == "one" else f"broadcast-{kind}", x, where)
            for kind, where in broadcast.items()
            if kind in setting.budget("masks that broadcast")
        ),
    ]
    axes = setting.budget("masked axes") if setting.implementation.offers_axis else (-1,)
    for name, values, where in kinds:
        for axis in axes:
            yield Case(f"{name}-axis-{axis}", values, axis=axis, where=where, optional=True)
    for shape in setting.budget("masked in three dimensions"):
        cube, rng = setting.logits(shape), setting.rng("masks", shape)
        for axis in range(-3, 0) if setting.implementation.offers_axis else (-1,):
            where = np.asfortranarray(rng.random(shape) < 0.6)  # not laid out as the logits are
            yield Case(f"{slug(shape)}-axis-{axis}", cube, axis=axis, where=where, optional=True)
        square = cube[:, : shape[0], : shape[0]][0][: shape[0]]
        if square.shape[0] == square.shape[1]:
            where = np.asfortranarray(rng.random(square.shape) < 0.6)
            yield Case(f"square-{slug(square.shape)}", square, where=where, optional=True)
    special, where = _special_kept(x)
    yield Case("special-kept", special, where=where, optional=True)
    # Whole tiles masked out while all others lie far down or far up; what is masked out lies between.
    for n in setting.budget("masked tiles"):
        named = list(rows.emptied_rows(n, setting.dtype, setting.rng("masked tiles", n)))
        x = np.stack([row for _, row in named])
        names = [name for name, _ in named]
        hidden = np.where(np.isneginf(x), -3.0, x)
        yield Case(f"tiles-n{n}", hidden, where=~np.isneginf(x), names=names, optional=True)


def dtypes(setting: Setting) -> Iterator[Case]:
    """Integers must not wrap; ``dtype=`` is computed in at least that precision; complex numbers are refused."""
    implementation = setting.implementation
    if setting.dtype.name == "float32":
        for name in setting.budget("integers") or _INTEGERS:
            for number, row in enumerate(_INTEGERS[name]):
                values = np.array([row, row[::-1]])
                yield Case(f"{name}-{number}", behaviour=_integers, arguments=(name, values))
        if not setting.is_kernel:
            yield Case("complex", behaviour=_refused, arguments=("complex64",))
    if not implementation.offers_dtype:
        return
    for into in map(DTYPES.__getitem__, setting.budget("dtypes asked for") or DTYPES):
        if implementation.keeps(into) and not (into.computed_in and setting.is_kernel):
            x = setting.logits((130, 33), "into")
            yield Case(f"into-{into.name}", x, into=into, optional=True)
            if into.precision < setting.dtype.precision:
                # Logits that the narrower dtype cannot tell apart: they must not be rounded to it first.
                close = np.asarray(2048.0 + setting.rng("close").integers(0, 8, x.shape))
                yield Case(f"into-{into.name}-close", close, into=into, optional=True)


def _integers(setting: Setting, name: str, values: Array) -> Comparison:
    implementation = setting.implementation
    try:
        answer = implementation.ask(Request(values, name))
    except EndedError:
        raise
    except Exception as error:  # noqa: BLE001  the framework has no such dtype
        return Comparison("unsupported", message=f"{implementation.backend.name} has no {name}: {error}")
    bad = unusable(setting, answer, values.shape, setting.dtype, optional=True)
    if bad is not None:
        return bad
    dtype = finfo(answer.dtype)
    if dtype is None:
        return Comparison("failed", message=f"the result of {name} logits is {answer.dtype}; it should be floating")
    return compared(replace(setting, dtype=dtype), answer, values.astype(np.float64))


def _refused(setting: Setting, name: str) -> Comparison:
    try:
        answer = setting.implementation.ask(Request(np.ones((2, 3)), name))
    except Exception as error:  # noqa: BLE001  refused before it reaches the operation
        return Comparison(message=str(error))
    if isinstance(answer.error, TypeError):
        return Comparison()
    got = answer.error if answer.error is not None else "a result"
    return Comparison("failed", message=f"{name} logits gave {got!r}; they should be a TypeError")


def errors(setting: Setting) -> Iterator[Case]:
    """Axes that do not exist, appear twice or are not integers must raise an error."""
    if not (setting.implementation.offers_axis and setting.budget("errors")):
        return
    outside = (ValueError, IndexError)
    asked: list[tuple[str, tuple[int, ...], Any, tuple[type, ...]]] = [
        *((f"{slug(shape)}-axis-{axis}", shape, axis, outside) for shape, axis in _NO_AXES),
        ("axis-named-twice", (2, 3), (0, 0), (ValueError,)),
        ("axis-named-twice-by-sign", (2, 3), (1, -1), (ValueError,)),
        ("axis-out-of-range-in-tuple", (2, 3), (0, 2), outside),
    ]
    if not setting.is_kernel:
        wrong: tuple[Any, ...] = (True, 1.0, "0")
        asked += [(f"axis-{axis!r}", (2, 3), axis, (TypeError,)) for axis in wrong]
    for name, *arguments in asked:
        yield Case(name, behaviour=_must_raise, arguments=tuple(arguments))


def _must_raise(setting: Setting, shape: tuple[int, ...], axis: Any, wanted: tuple[type, ...]) -> Comparison:
    implementation, x = setting.implementation, setting.dtype.round(setting.logits(shape))
    error = implementation.ask(Request(x, setting.dtype.name, axis=axis)).error
    if error is None:
        message = f"axis={axis!r} of an array of shape {shape} gave a result instead of an error"
        return Comparison("failed", message=message)
    if setting.is_kernel or isinstance(error, wanted) or refusal(error, implementation, optional=True):
        return Comparison()
    names = " or ".join(one.__name__ for one in wanted)
    return Comparison("failed", message=f"axis={axis!r} raised {error!r}; a caller would catch {names}")
