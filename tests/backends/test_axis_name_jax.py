"""`axis_name`: a row that goes on over a mapped axis, which one device can show; several are in tests/distributed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import polylogit
from polylogit import errors

OPERATIONS = ("softmax", "log_softmax")
PARTS = 4


def logits(*shape: int, scale: float = 5.0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=shape) * scale, jnp.float32)


def split(x: jax.Array) -> jax.Array:
    """The last axis in parts, the parts first."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], PARTS, -1), -2, 0)


def joined(parts: jax.Array) -> jax.Array:
    whole = jnp.moveaxis(parts, 0, -2)
    return whole.reshape(*whole.shape[:-2], -1)


def across(operation: str, x: jax.Array, mask: Any = None, **options: Any) -> jax.Array:
    function = getattr(polylogit, operation)
    if mask is None:
        return joined(jax.vmap(lambda part: function(part, axis_name="parts", **options), axis_name="parts")(split(x)))
    call = jax.vmap(lambda part, mask: function(part, where=mask, axis_name="parts", **options), axis_name="parts")
    return joined(call(split(x), split(mask)))


@pytest.mark.parametrize("operation", OPERATIONS)
class TestARowInParts:
    def test_has_the_value_of_the_whole(self, operation: str) -> None:
        x = logits(3, 64)
        expected = getattr(polylogit, operation)(x)
        np.testing.assert_allclose(across(operation, x), expected, rtol=1e-5, atol=1e-6)

    def test_is_differentiated_as_the_whole_both_ways(self, operation: str) -> None:
        x, direction, whole = logits(3, 64), logits(3, 64, scale=1.0), getattr(polylogit, operation)
        parts = lambda x: across(operation, x)  # noqa: E731
        for got, expected in (
            (jax.vjp(parts, x)[1](direction)[0], jax.vjp(whole, x)[1](direction)[0]),
            (jax.jvp(parts, (x,), (direction,))[1], jax.jvp(whole, (x,), (direction,))[1]),
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)

    def test_keeps_masked_entries_out_whatever_they_hold(self, operation: str) -> None:
        mask = jnp.asarray(np.random.default_rng(2).random((3, 64)) < 0.5).at[1].set(False).at[2, :16].set(False)
        x = jnp.where(mask, logits(3, 64), jnp.nan)
        expected = getattr(polylogit, operation)(x, where=mask)
        np.testing.assert_allclose(across(operation, x, mask), expected, rtol=1e-5, atol=1e-6)
        slope = jax.grad(lambda x: jnp.where(mask, across(operation, x, mask), 0.0).sum())(x)
        assert np.isfinite(slope).all()
        assert (np.asarray(slope)[~np.asarray(mask)] == 0).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_is_nan_in_every_part_where_one_has_no_number(self, operation: str, value: float) -> None:
        x = logits(2, 64).at[0, 40].set(value)
        got = across(operation, x)
        assert np.isnan(got[0]).all()
        assert np.isfinite(got[1]).all()

    def test_of_nothing_but_minus_infinity_is_nan(self, operation: str) -> None:
        assert np.isnan(across(operation, jnp.full((1, 64), -jnp.inf))).all()

    def test_of_sixteen_bits_is_rounded_once(self, operation: str) -> None:
        x = logits(3, 64).astype(jnp.bfloat16)
        got = across(operation, x)
        wide = getattr(polylogit, operation)(x.astype(jnp.float32))
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(got.astype(jnp.float32), wide, rtol=2**-8 * 1.01)

    def test_whose_parts_have_no_entries_is_empty(self, operation: str) -> None:
        assert across(operation, jnp.zeros((3, 0))).shape == (3, 0)

    def test_is_served_by_the_backend_itself(self, operation: str) -> None:
        x = logits(2, 64)
        with polylogit.register_implementation(operation, "jax", lambda x, axis, **_: x):
            assert (across(operation, x) < 1).all()


def test_entries_may_be_the_parts() -> None:
    x = logits(8)
    got = jax.vmap(lambda entry: polylogit.softmax(entry, None, axis_name="entries"), axis_name="entries")(x)
    np.testing.assert_allclose(got, polylogit.softmax(x), rtol=1e-5)


def test_several_names_are_one_row() -> None:
    x = logits(2, 4, 8)
    inner = jax.vmap(lambda part: polylogit.softmax(part, axis_name=("a", "b")), axis_name="a")
    got = jax.vmap(inner, axis_name="b")(x)
    np.testing.assert_allclose(got, polylogit.softmax(x, axis=None), rtol=1e-5)


def test_a_name_that_is_not_mapped_is_refused_with_the_way_to_map_it() -> None:
    with pytest.raises(
        errors.AxisError, match=r"axis_name='rows' names no axis .* jax.vmap\(function, axis_name='rows"
    ):
        polylogit.softmax(logits(4), axis_name="rows")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_has_no_named_axes_says_so(operation: str) -> None:
    with pytest.raises(errors.AxisError, match=r"an array of numpy, which has no mapped axes .* Leave axis_name out"):
        getattr(polylogit, operation)(np.zeros(3), axis_name="rows")
