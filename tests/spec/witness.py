"""The operations as plainly as can be, in mpmath, and correct rounding: a witness beside the reference."""

import mpmath
import numpy as np

from polylogit._spec import doubledouble as dd

_DIGITS = 60


def softmax(row, i):
    return 1 / mpmath.fsum(mpmath.exp(x - row[i]) for x in row)


def log_softmax(row, i):
    most = max(row)
    others = mpmath.fsum(mpmath.exp(x - most) for j, x in enumerate(row) if j != row.index(most))
    return (row[i] - most) - mpmath.log1p(others)


def sigmoid(row, i):
    return 1 / (1 + mpmath.exp(-row[i]))


FORMULAS = {"softmax": softmax, "log_softmax": log_softmax, "sigmoid": sigmoid}


def truth(name, row, index):
    """The value of one element, with many digits."""
    with mpmath.workdps(_DIGITS + 2 * int(np.log10(np.nanmax(np.abs(row[np.isfinite(row)]), initial=1.0)) + 1)):
        return +FORMULAS[name]([mpmath.mpf(float(value)) for value in row], index)


def rounded(value, dtype, exactly):
    """A double-double correctly rounded to a dtype; ``exactly(index)`` is asked where its error could decide."""
    with np.errstate(all="ignore"):
        out = value.hi.copy() if dtype.precision == 53 else dtype.round(value.hi)
        half = 0.5 * dtype.ulp(value.hi)
        off = np.abs((value.hi - out) + value.lo)
        unsure = np.isfinite(out) & (np.abs(off - half) <= np.abs(value.hi) * dd.RADIUS + half * 2.0**-50)
        unsure |= (np.abs(value.hi) < 2.0**-960) & (value.hi != 0)
    for position in zip(*np.nonzero(unsure), strict=True):
        out[position] = round_one(exactly(position), dtype)
    return out


def round_one(value, dtype):
    if value == 0:
        return 0.0
    _, exponent = mpmath.frexp(value)
    spacing = max(int(exponent) - 1, dtype.minexp) - (dtype.precision - 1)
    scaled = mpmath.nint(mpmath.ldexp(value, -spacing))  # ties to even
    return float(np.ldexp(float(scaled), spacing))
