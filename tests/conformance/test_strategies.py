"""What is drawn: the dtype and shape asked for, arguments that NumPy takes, and every edge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylogit._spec.dtypes import DTYPES
from polylogit.conformance import strategies


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_have_the_dtype_and_the_shape_asked_for(dtype):
    @settings(max_examples=200, derandomize=True, deadline=None)
    @given(st.data())
    def drawn(data):
        shape = data.draw(strategies.shapes())
        x = data.draw(strategies.logits(dtype, shape))
        assert x.dtype == DTYPES[dtype].dtype
        assert x.shape == shape
        finite = data.draw(strategies.logits(dtype, special=False)).astype(float)
        assert np.isfinite(finite).all()
        assert data.draw(strategies.cotangents(shape, dtype)).shape == shape

    drawn()


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.data())
def test_axes_and_masks_are_ones_that_numpy_takes(data):
    shape = data.draw(st.one_of(st.just(()), strategies.shapes()))
    axis = data.draw(strategies.axes(shape))
    if shape:
        np.zeros(shape).sum(axis=axis)
    mask = data.draw(strategies.masks(shape))
    assert mask.dtype == bool
    assert np.broadcast_shapes(mask.shape, shape) == shape


EDGES = {
    "ties": lambda x, dtype: (x == x.max()).sum() > 1,
    "minus infinity": lambda x, dtype: np.isneginf(x).any(),
    "plus infinity": lambda x, dtype: np.isposinf(x).any(),
    "nan": lambda x, dtype: np.isnan(x).any(),
    "subnormal": lambda x, dtype: ((x != 0) & (np.abs(x) < dtype.smallest_normal)).any(),
    "the largest": lambda x, dtype: (x == dtype.max).any(),
    "a huge offset": lambda x, dtype: x.min() > min(1e6, dtype.max / 8) and np.ptp(x) > 0,
    "a long tail": lambda x, dtype: x.size > 1000 and np.ptp(x) > 0,
    "a drifting sum": lambda x, dtype: x.size > 50 and (x == dtype.round(-1.1)).sum() > 40 and x.max() > -1,
    "a gap beyond the exponential": lambda x, dtype: np.isfinite(x).all() and np.ptp(x) > 104,
    "small differences at a great height": lambda x, dtype: x.size > 1 and x.min() > 100 and 0 < np.ptp(x) < 8,
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_edges_are_reached(edge, dtype):
    dtype = DTYPES[dtype]

    def reached(call):
        with np.errstate(all="ignore"):
            return bool(EDGES[edge](call.x.ravel(), dtype))

    drawn = strategies.calls("softmax", dtype)
    assert strategies.smallest(drawn, reached, max_examples=6000) is not None


def test_masks_hide_some_and_none_and_all():
    for wanted in (np.all, lambda mask: not mask.any(), lambda mask: mask.any() and not mask.all()):
        drawn = strategies.masks((2, 3))
        assert strategies.smallest(drawn, lambda mask, wanted=wanted: bool(wanted(mask)), max_examples=300) is not None
