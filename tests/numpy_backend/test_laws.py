"""What holds of all logits: laws that hypothesis looks for exceptions to."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import polylogit

from .rows import OPERATIONS, call

logits = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    hnp.array_shapes(max_dims=4, max_side=6),
    elements=st.floats(-100, 100, width=16),
)


@settings(max_examples=200, deadline=None)
@given(x=logits, data=st.data())
def test_every_row_is_a_distribution(x: np.ndarray, data: st.DataObject) -> None:
    axes = data.draw(st.sets(st.integers(0, x.ndim - 1)).map(tuple))
    y = polylogit.softmax(x, axes)
    assert ((y >= 0) & (y <= 1)).all()
    n = np.prod([x.shape[axis] for axis in axes], initial=1)
    assert (np.abs(y.astype(float).sum(axis=axes) - 1) <= (n + 4) * np.finfo(x.dtype).eps).all()
    assert (polylogit.log_softmax(x, axes) <= 0).all()


@settings(max_examples=200, deadline=None)
@given(x=logits, data=st.data())
def test_the_order_of_entries_does_not_matter(x: np.ndarray, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, x.ndim - 1))
    order = data.draw(st.permutations(range(x.shape[axis])))
    for name in OPERATIONS:
        turned = call(name, x.take(order, axis), axis=axis)
        np.testing.assert_allclose(
            turned.astype(float),
            call(name, x, axis=axis).take(order, axis).astype(float),
            rtol=8 * float(np.finfo(x.dtype).eps),
            atol=float(np.finfo(x.dtype).smallest_normal),
        )


@settings(max_examples=200, deadline=None)
@given(x=logits)
def test_sigmoid_is_softmax_of_two(x: np.ndarray) -> None:
    pair = np.stack([x, np.zeros_like(x)], -1)
    np.testing.assert_allclose(
        polylogit.sigmoid(x).astype(float),
        polylogit.softmax(pair)[..., 0].astype(float),
        rtol=250 * float(np.finfo(x.dtype).eps) if x.dtype != np.float16 else 2e-3,
        atol=4 * float(np.finfo(x.dtype).smallest_normal),
    )


@settings(max_examples=200, deadline=None)
@given(x=logits, data=st.data())
def test_a_mask_is_the_same_as_leaving_entries_out(x: np.ndarray, data: st.DataObject) -> None:
    x = x.ravel()
    mask = data.draw(hnp.arrays(bool, x.shape))
    for name in OPERATIONS:
        masked = call(name, x, where=mask)
        left = call(name, x[mask])
        np.testing.assert_allclose(
            masked[mask].astype(float), left.astype(float), 8 * float(np.finfo(x.dtype).eps), 1e-7
        )
