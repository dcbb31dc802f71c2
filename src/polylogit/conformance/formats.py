"""The floating formats that results are judged in: precision, range and spacing.

Facts of arithmetic only; knows no operation and no framework. Values are held in float64, which contains all of these.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["FORMATS", "Array", "Format", "format_of"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """One binary floating format.

    Attributes
    ----------
    name : str
        As NumPy or ml_dtypes call it.
    precision : int
        Significant bits, the implicit one included.
    low, high : int
        Exponents of the smallest and the largest normal number.
    flushed : int
        Results below this many smallest normal numbers may be flushed to zero.
    infinite : bool
        Whether it has infinities; without them, what is too large becomes NaN, and the last number of the top binade is
        taken for that.
    through : str
        The format in which results are computed before they are rounded to this one; empty where that is its own.
    """

    name: str
    precision: int
    low: int
    high: int
    flushed: int = 4
    infinite: bool = True
    through: str = ""

    @property
    def eps(self) -> float:
        """Distance from 1 to the next number."""
        return 2.0 ** (1 - self.precision)

    @property
    def tiny(self) -> float:
        """Smallest normal number."""
        return 2.0**self.low

    @property
    def smallest(self) -> float:
        """Smallest subnormal number."""
        return float(np.ldexp(1.0, self.low - self.precision + 1))

    @property
    def largest(self) -> float:
        """Largest finite number."""
        return float(np.ldexp(2.0 - self.eps * (1.0 if self.infinite else 2.0), self.high))

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype; that of ml_dtypes where NumPy has none."""
        return _dtype(self.name)

    def ulp(self, values: Array) -> Array:
        """Spacing of the format at each value; that of the subnormals below the smallest normal number."""
        _, exponent = np.frexp(np.where(np.isfinite(values), values, 1.0))
        exponent = np.clip(exponent - 1, self.low, self.high)
        return np.asarray(np.ldexp(1.0, exponent - (self.precision - 1)))

    def round(self, values: Any) -> Array:
        """The nearest numbers of the format, as float64."""
        with np.errstate(all="ignore"):
            return np.asarray(values, dtype=np.float64).astype(self.dtype).astype(np.float64)

    def logits(self, values: Any) -> Array:
        """The same, but finite numbers stay finite, so that a row of a narrow format is not lost to one of them."""
        given = np.asarray(values, dtype=np.float64)
        return self.round(np.where(np.isfinite(given), np.clip(given, -self.largest, self.largest), given))


@functools.cache
def _dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes  # noqa: PLC0415  only these formats need it

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found


FORMATS = {
    known.name: known
    for known in (
        Format("float64", 53, -1022, 1023),
        Format("float32", 24, -126, 127),
        Format("float16", 11, -14, 15, flushed=1),
        Format("bfloat16", 8, -126, 127),
        # Storage formats: nobody computes in them, so that flushing to 0 has no reason either.
        Format("float8_e4m3fn", 4, -6, 8, flushed=0, infinite=False, through="float16"),
        Format("float8_e5m2", 3, -14, 15, flushed=0, through="float16"),
    )
}


def format_of(dtype: Any) -> Format | None:
    """The format of a dtype, or of its name; None where the kit does not know it."""
    return FORMATS.get(getattr(dtype, "name", None) or str(dtype))
