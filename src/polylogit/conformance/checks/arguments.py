"""Masks, dtypes and errors: what the arguments beyond the logits may be, and what they must not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance import cases
from polylogit.conformance.checks.structure import logits
from polylogit.conformance.context import Trial, refusal
from polylogit.conformance.judge import Outcome
from polylogit.spec.dtypes import DTYPES, finfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit.conformance.context import Context
    from polylogit.spec.dtypes import Array

__all__ = ["dtypes", "errors", "masks"]

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
_FEW_INTEGERS = ("uint8", "int64", "bool")


def masks(context: Context) -> Iterator[Trial]:
    """``where=``: masked entries take no part, whatever they hold; rows without an entry; masks that broadcast."""
    if not context.subject.offers_where:
        return
    if context.hasty and context.light:
        return
    rng = context.rng("masks")
    x = logits(context, cases.LARGE if context.hasty else (7, 9))
    mask: Array = np.asarray(rng.random(x.shape) < 0.6)  # noqa: PLR2004
    mask[0], mask[1], mask[2] = False, True, np.arange(x.shape[1]) == 4  # noqa: PLR2004
    dirty = np.where(mask, x, np.where(rng.random(x.shape) < 0.5, np.nan, np.inf))  # noqa: PLR2004
    high = np.where(mask, x, 0.4 * context.dtype.max)
    low = np.where(mask, -0.4 * context.dtype.max, x)
    for name, values, where in (
        ("plain", x, mask),
        ("over-nan", dirty, mask),
        ("over-high", high, mask),
        ("under-all", low, mask),
        ("none-left", x, np.zeros_like(mask)),
        ("all", x, np.ones_like(mask)),
        ("broadcast-vector", x, mask[3]),
        *([] if context.hasty else [("broadcast-row", x, mask[3:4])]),
        ("broadcast-column", x, mask[:, :1]),
        *([] if context.hasty else [("one", x, np.array(True))]),
    ):
        for axis in (-1, 0, None) if context.subject.offers_axis and not context.light and not context.hasty else (-1,):
            yield Trial(
                f"{name}-axis-{axis}",
                lambda values=values, where=where, axis=axis: context.values(values, axis, where=where, optional=True),  # type: ignore[misc]
            )


def dtypes(context: Context) -> Iterator[Trial]:
    """Integers, which must not wrap; ``dtype=``, which is computed in at least that precision; complex refused."""
    if context.dtype.name == "float32":
        for name, rows in _INTEGERS.items():
            if context.hasty and name not in _FEW_INTEGERS:
                continue
            for number, row in enumerate(rows):
                yield Trial(
                    f"{name}-{number}",
                    lambda name=name, row=row: _integers(context, name, np.array([row, row[::-1]])),  # type: ignore[misc]
                )
        if not context.subject.own:
            yield Trial("complex", lambda: _refused(context, "complex64"))
    if context.subject.offers_dtype:
        for into in DTYPES.values():
            few = ("float32",) if context.light else ("float64", "float16")
            if context.hasty and not context.subject.own and into.name not in few:
                continue
            if context.subject.keeps(into) and not (into.computed_in and context.subject.own):
                x = logits(context, (130, 33), "into")
                yield Trial(f"into-{into.name}", lambda x=x, into=into: context.values(x, into=into, optional=True))  # type: ignore[misc]
                if into.precision >= context.dtype.precision:
                    continue
                # Logits that the narrower format cannot tell apart: they must not be rounded to it first.
                close = 2048.0 + context.rng("close").integers(0, 8, x.shape)
                yield Trial(
                    f"into-{into.name}-close",
                    lambda x=close, into=into: context.values(x, into=into, optional=True),  # type: ignore[misc]
                )


def _integers(context: Context, name: str, values: Array) -> Outcome:
    try:
        array = context.subject.array(values, name)
    except Exception as error:  # noqa: BLE001  the framework has no such dtype
        return Outcome("unsupported", message=f"{context.subject.backend.name} has no {name}: {error}")
    answer = context.subject.answer(array)
    bad = context.unusable(answer, values.shape, context.dtype, optional=True)
    if bad is not None:
        return bad
    dtype = finfo(answer.dtype)
    if dtype is None:
        return Outcome("failed", message=f"the result of {name} logits is {answer.dtype}; it should be floating")
    inner = type(context)(context.subject, context.operation, dtype, context.level, context.seed)
    return inner.judged(answer, values.astype(np.float64), -1)


def _refused(context: Context, name: str) -> Outcome:
    try:
        array = context.subject.backend.asarray(np.ones((2, 3), dtype=name))
    except Exception as error:  # noqa: BLE001  refused before it reaches the operation
        return Outcome(message=str(error))
    answer = context.subject.answer(array)
    if isinstance(answer.error, TypeError):
        return Outcome()
    got = answer.error if answer.error is not None else "a result"
    return Outcome("failed", message=f"{name} logits gave {got!r}; they should be a TypeError")


def errors(context: Context) -> Iterator[Trial]:
    """Axes that do not exist, are named twice or are no integers."""
    subject = context.subject
    if not subject.offers_axis or context.dtype.name not in ("float32", "float64") or context.light:
        return
    for shape, axis in (((2, 3), 2), ((2, 3), -3), ((2, 3), 5), ((2, 3), -7), ((3, 4, 5), 3), ((4,), 1), ((4,), -2)):
        yield Trial(
            f"{'x'.join(map(str, shape))}-axis-{axis}",
            lambda shape=shape, axis=axis: _must_raise(context, shape, axis, (ValueError, IndexError)),  # type: ignore[misc]
        )
    yield Trial("axis-named-twice", lambda: _must_raise(context, (2, 3), (0, 0), (ValueError,)))
    yield Trial("axis-named-twice-by-sign", lambda: _must_raise(context, (2, 3), (1, -1), (ValueError,)))
    yield Trial("axis-out-of-range-in-tuple", lambda: _must_raise(context, (2, 3), (0, 2), (ValueError, IndexError)))
    if not subject.own:
        wrong: tuple[Any, ...] = (True, 1.0, "0")
        for axis in wrong:
            yield Trial(f"axis-{axis!r}", lambda axis=axis: _must_raise(context, (2, 3), axis, (TypeError,)))  # type: ignore[misc]


def _must_raise(context: Context, shape: tuple[int, ...], axis: Any, wanted: tuple[type, ...]) -> Outcome:
    x = logits(context, shape)
    answer = context.subject.answer(context.subject.array(context.dtype.round(x), context.dtype.name), axis)
    if answer.error is None:
        return Outcome(
            "failed", message=f"axis={axis!r} of an array of shape {shape} gave a result instead of an error"
        )
    if context.subject.own or isinstance(answer.error, wanted) or refusal(answer.error, context.subject, optional=True):
        return Outcome()
    names = " or ".join(one.__name__ for one in wanted)
    return Outcome("failed", message=f"axis={axis!r} raised {answer.error!r}; a caller would catch {names}")
