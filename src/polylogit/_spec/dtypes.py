"""Facts about the floating dtypes of results, from ``ml_dtypes.finfo``: precision, range, spacing.

Values are held in float64, which contains them all. Knows no operation and no framework.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DTYPES", "Array", "Finfo", "dtypes_named", "finfo"]

Array = np.ndarray[Any, Any]

_HALF_THE_DIGITS = 1 << 12


@dataclass(frozen=True, slots=True)
class Finfo:
    """The facts of one binary floating dtype; attributes that `numpy.finfo` also has mean the same.

    Attributes
    ----------
    name : str
        The name in NumPy or ml_dtypes.
    dtype : numpy.dtype
        The dtype of ml_dtypes if NumPy has none.
    precision : int
        Significant bits, the implicit one included.
    minexp, maxexp : int
        Exponents of the smallest and the largest normal number.
    eps, smallest_normal, smallest_subnormal, max : float
    has_infinity : bool
        Whether it has infinities; without them, values that are too large become NaN.
    flushed : int
        Results below this many smallest normal numbers may be flushed to zero.
    computed_in : str
        The dtype in which results are computed before they are rounded to this one; empty if it is this one.
    in_order : int
        Sums of up to this many terms may be added in any order, in the worst case one by one; for longer sums, and for
        all sums if it is 0, `polylogit._spec.bounds.additions` states the order.
    """

    name: str
    dtype: np.dtype[Any]
    precision: int
    minexp: int
    maxexp: int
    eps: float
    smallest_normal: float
    smallest_subnormal: float
    max: float
    has_infinity: bool
    flushed: int
    computed_in: str
    in_order: int = 0

    @property
    def wide(self) -> Finfo:
        """The dtype in which the contract requires results of this one to be computed: at least float32."""
        wide = DTYPES["float32"] if self.precision < DTYPES["float32"].precision else self
        return replace(wide, in_order=self.in_order)

    def summed_in_any_order(self) -> Finfo:
        """The same, but allowing a sum of up to 4,096 terms in any order.

        Each addition loses at most half an eps, so at least half of the 24 bits of float32 remain right, for any order
        and any terms.
        """
        return replace(self, in_order=_HALF_THE_DIGITS)

    def ulp(self, values: Array) -> Array:
        """The spacing of the dtype at each value; below the smallest normal number and at 0, that of subnormals."""
        _, exponent = np.frexp(np.where(np.isfinite(values), values, 1.0))
        exponent = np.clip(np.where(np.equal(values, 0.0), self.minexp, exponent - 1), self.minexp, self.maxexp)
        return np.asarray(np.ldexp(1.0, exponent - (self.precision - 1)))

    def round(self, values: Any) -> Array:
        """The nearest numbers of the dtype, as float64."""
        with np.errstate(all="ignore"):
            return np.asarray(values, dtype=np.float64).astype(self.dtype).astype(np.float64)

    def logits(self, values: Any) -> Array:
        """The same, but finite numbers stay finite, so that an overflow does not spoil a row of a narrow dtype."""
        given = np.asarray(values, dtype=np.float64)
        return self.round(np.where(np.isfinite(given), np.clip(given, -self.max, self.max), given))


def _of(name: str, *, flushed: int = 4, computed_in: str = "") -> Finfo:
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name, name))
    facts = ml_dtypes.finfo(dtype)
    largest = float(facts.max)
    return Finfo(
        name,
        dtype,
        precision=int(facts.nmant) + 1,
        minexp=int(np.frexp(float(facts.smallest_normal))[1]) - 1,
        maxexp=int(np.frexp(largest)[1]) - 1,
        eps=float(facts.eps),
        smallest_normal=float(facts.smallest_normal),
        smallest_subnormal=float(facts.smallest_subnormal),
        max=largest,
        has_infinity=bool(np.isinf(np.array(np.inf).astype(dtype).astype(np.float64))),
        flushed=flushed,
        computed_in=computed_in,
    )


DTYPES = {
    known.name: known
    for known in (
        _of("float64"),
        _of("float32"),
        _of("float16", flushed=1),
        _of("bfloat16"),
        # Storage dtypes: nobody computes in them, so that flushing to 0 has no reason either.
        _of("float8_e4m3fn", flushed=0, computed_in="float16"),
        _of("float8_e5m2", flushed=0, computed_in="float16"),
    )
}


def finfo(dtype: Any) -> Finfo | None:
    """The facts of a dtype, given itself or its name; None if the kit does not know it."""
    return DTYPES.get(getattr(dtype, "name", None) or str(dtype))


def dtypes_named(names: Iterable[Any] | None, *, storage: bool = False) -> tuple[Finfo, ...]:
    """The facts of dtypes in any framework's spelling; for None all that are computed in, plus float8 with `storage`.

    Raises
    ------
    ConformanceError
        For one that the kit cannot judge.
    """
    if names is None:
        return tuple(one for one in DTYPES.values() if storage or not one.computed_in)
    given = [name if isinstance(name, str) else getattr(name, "name", None) or _spelled(name) for name in names]
    chosen = [name.rpartition(".")[2] for name in given]
    unknown = [name for name in chosen if name not in DTYPES]
    if unknown or not chosen:
        message = f"dtypes={list(names)!r} holds what the kit cannot judge; it knows {', '.join(DTYPES)}."
        raise ConformanceError(message)
    return tuple(DTYPES[name] for name in chosen)


def _spelled(dtype: Any) -> str:
    """A scalar type such as ``numpy.float32`` by its name, anything else as it is printed (``torch.float32``)."""
    return getattr(dtype, "__name__", None) or str(dtype)
