"""A softmax compiled by Numba as a universal function of rows: the third example on the kernels' page. Needs numba.

polylogit check numba_softmax:softmax --operation softmax
"""

import numba
import numpy as np


@numba.guvectorize(["(float32[:], float32[:])"], "(n)->(n)", nopython=True)
def softmax(x, y):
    """The softmax of one row; Numba loops over the rows, along any axis."""
    top = -np.inf
    for value in x:
        if not value <= top:  # in this form NaN passes, too
            top = value
    total = 0.0  # a float64: a running sum of float32 would drift
    for i in range(x.size):
        y[i] = np.exp(x[i] - top)
        total += y[i]
    for i in range(x.size):
        y[i] /= total
