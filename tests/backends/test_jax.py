"""JAX: its transformations, its 64-bit mode, several devices, and the corrections of its native calls."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import polylogit
from polylogit import errors
from polylogit._backends.jax import JaxBackend

OPERATIONS = ("softmax", "log_softmax", "sigmoid")
BACKEND = JaxBackend()


def logits(*shape: int, scale: float = 3.0, dtype: str = "float32") -> jax.Array:
    return jnp.asarray((np.random.default_rng(0).normal(size=shape) * scale).astype(dtype))


def primitives(function: object, *arguments: object) -> list[str]:
    """The operations of a jaxpr, those of inlined calls included."""
    return [equation.primitive.name for equation in jax.make_jaxpr(function)(*arguments).jaxpr.eqns]


# What seals the logits against inconsistent fusion; see `polylogit._backends.jax._sealed`.
SEAL = ["abs", "min", "stop_gradient", "add"]


@pytest.mark.contract(28)
class TestCompiled:
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_with_the_values_of_eager(self, operation: str) -> None:
        function, x = getattr(polylogit, operation), logits(4, 7)
        np.testing.assert_allclose(jax.jit(function)(x), function(x), rtol=1e-6)

    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    def test_the_jaxpr_holds_the_seal_and_the_native_operations(self, operation: str) -> None:
        x = logits(4, 7)
        native = primitives(jax.nn.softmax if operation == "softmax" else jax.jit(jax.nn.log_softmax, inline=True), x)
        got = primitives(getattr(polylogit, operation), x)
        assert [name for name in got if name not in SEAL] == [name for name in native if name not in SEAL]
        assert len(got) <= len(native) + len(SEAL)

    def test_the_jaxpr_of_sigmoid_is_the_native_one(self) -> None:
        assert primitives(polylogit.sigmoid, logits(4)) == ["logistic"]

    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    @pytest.mark.parametrize(
        ("shape", "scale"),
        [((8,), 1e10), ((3, 100), 1e10), ((3, 100), 1e30), ((64, 1000), 1e20), ((7, 3), 1e30), ((2, 5, 9), 1e20)],
    )
    def test_survives_fusion_with_what_made_its_input(
        self, operation: str, shape: tuple[int, ...], scale: float
    ) -> None:
        x, function = logits(*shape, scale=scale), getattr(polylogit, operation)
        for before in (lambda x: x / 0.7, lambda x: x * np.float32(1.43), lambda x: x * 1.7 + 3):
            # The input as XLA computes it on its own, then the operation on that.
            expected = function(jax.jit(before)(x))
            got = jax.jit(lambda x, before=before: function(before(x)))(x)
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
            gradient = jax.jit(jax.grad(lambda x, before=before: function(before(x))[..., 0].sum()))(x)
            assert np.isfinite(gradient).all()

    def test_the_native_call_still_fails_in_that_fusion(self) -> None:
        x = logits(3, 100, scale=1e10)
        assert np.isnan(jax.jit(lambda x: jax.nn.softmax(x / 0.7))(x)).any()

    def test_masks_axes_and_dtypes(self) -> None:
        x, mask = logits(2, 3, 4), logits(3, 1) > 0
        for axis in (None, (0, 2), (), 1):

            def masked(x: jax.Array, mask: jax.Array, axis: object = axis) -> jax.Array:
                return polylogit.log_softmax(x, axis, where=mask, dtype="bfloat16")

            np.testing.assert_array_equal(
                np.asarray(jax.jit(masked)(x, mask), np.float32), np.asarray(masked(x, mask), np.float32)
            )

    def test_eval_shape_takes_a_shape(self) -> None:
        shape = jax.ShapeDtypeStruct((3, 4), jnp.bfloat16)
        for operation in OPERATIONS:
            result = jax.eval_shape(getattr(polylogit, operation), shape)
            assert (result.shape, result.dtype) == ((3, 4), jnp.bfloat16)

    def test_a_first_call_may_be_inside_jit(self) -> None:
        code = """
        import jax, jax.numpy as jnp, polylogit
        print(jax.jit(polylogit.softmax)(jnp.zeros(2)))
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[0.5 0.5]"

    def test_ahead_of_time_and_donated(self) -> None:
        x = logits(4, 5)
        compiled = jax.jit(polylogit.softmax).lower(x).compile()
        np.testing.assert_allclose(compiled(x), polylogit.softmax(x), rtol=1e-6)
        expected = polylogit.softmax(x)
        np.testing.assert_allclose(jax.jit(polylogit.softmax, donate_argnums=0)(x), expected, rtol=1e-6)


@pytest.mark.contract(28)
class TestTransforms:
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_vmap_scan_and_checkpoint(self, operation: str) -> None:
        function, x = getattr(polylogit, operation), logits(5, 6)
        np.testing.assert_allclose(jax.vmap(function)(x), function(x), rtol=1e-6)
        np.testing.assert_allclose(jax.vmap(function, 1, 1)(x), function(x.T).T, rtol=1e-6)
        _, scanned = lax.scan(lambda carry, row: (carry, function(row)), 0, x)
        np.testing.assert_allclose(scanned, function(x), rtol=1e-6)
        gradient = jax.grad(jax.checkpoint(lambda x: function(x)[:, 0].sum()))(x)
        np.testing.assert_allclose(gradient, jax.grad(lambda x: function(x)[:, 0].sum())(x), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(lax.map(function, x), function(x), rtol=1e-6)

    def test_custom_batching(self) -> None:
        @jax.custom_batching.custom_vmap
        def head(x: jax.Array) -> jax.Array:
            return polylogit.softmax(x)

        @head.def_vmap
        def _(size: int, batched: list[bool], x: jax.Array) -> tuple[jax.Array, bool]:
            return polylogit.softmax(x), True

        x = logits(5, 6)
        np.testing.assert_allclose(jax.vmap(head)(x), polylogit.softmax(x), rtol=1e-6)

    def test_derivatives_of_every_order_and_mode(self, x64: None) -> None:
        from jax.test_util import check_grads

        x, mask = logits(3, 4, dtype="float64"), jnp.asarray([[True, False, True, True]])
        for operation in OPERATIONS:
            options = {} if operation == "sigmoid" else {"where": mask}

            # The checker evaluates at NumPy arrays.
            def finite(x: jax.Array, operation: str = operation, options: dict = options) -> jax.Array:
                y = getattr(polylogit, operation)(jnp.asarray(x), **options)
                return jnp.where(jnp.isfinite(y), y, 0.0)

            check_grads(finite, (x,), order=2, modes=["fwd", "rev"])

    def test_debug_nans_finds_none_under_a_mask(self) -> None:
        x, mask = jnp.asarray([[1.0, jnp.inf, 2.0], [jnp.nan] * 3]), jnp.asarray([[True, False, True], [False] * 3])
        with jax.debug_nans(True):
            gradient = jax.grad(lambda x: polylogit.softmax(x, where=mask)[:, 0].sum())(jnp.where(mask, x, 0.0))
        assert np.isfinite(gradient).all()

    def test_vjp_takes_the_user_s_own_function(self) -> None:
        x = logits(4, 7)
        y, pullback = polylogit.vjp(lambda x, scale: polylogit.softmax(x * scale).sum(0), x, scale=2.0)
        np.testing.assert_allclose(pullback(y), pullback(y))
        with pytest.raises(errors.DifferentiationError, match=r"\(4, 7\).*\(7,\)"):
            pullback(x)

    def test_several_devices(self) -> None:
        code = """
        import os
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
        import jax, jax.numpy as jnp, numpy as np, polylogit
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        mesh = Mesh(np.array(jax.devices()), ("i",))
        x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 12)).astype("f"))
        for operation in (polylogit.softmax, polylogit.log_softmax, polylogit.sigmoid):
            expected = operation(x)
            mapped = jax.shard_map(operation, mesh=mesh, in_specs=P("i"), out_specs=P("i"))
            np.testing.assert_allclose(jax.jit(mapped)(x), expected, rtol=1e-5)
            for spec in (P("i"), P(None, "i")):
                sharded = jax.device_put(x, NamedSharding(mesh, spec))
                np.testing.assert_allclose(operation(sharded), expected, rtol=1e-5)
                np.testing.assert_allclose(jax.jit(operation)(sharded), expected, rtol=1e-5)
            np.testing.assert_allclose(jax.pmap(operation)(x.reshape(4, 2, 12)).reshape(8, 12), expected, rtol=1e-5)
        print(len(jax.devices()))
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
        assert done.stdout.strip() == "4", done.stderr


class TestSixtyFourBits:
    @pytest.mark.contract(1)
    def test_integers_become_the_default_float_of_the_mode(self, x64: None) -> None:
        for operation in OPERATIONS:
            assert getattr(polylogit, operation)(jnp.arange(3)).dtype == jnp.float64
        with jax.enable_x64(False):
            for operation in OPERATIONS:
                assert getattr(polylogit, operation)(jnp.arange(3)).dtype == jnp.float32

    @pytest.mark.contract(4)
    def test_float64_without_the_mode_is_an_error_and_not_float32(self) -> None:
        with jax.enable_x64(False), pytest.raises(errors.DTypeError, match="jax_enable_x64"):
            polylogit.softmax(logits(3), dtype="float64")

    @pytest.mark.contract(4)
    def test_float64_with_the_mode(self, x64: None) -> None:
        assert polylogit.softmax(logits(3), dtype="float64").dtype == jnp.float64


@pytest.mark.contract(3)
class TestHalfPrecision:
    def test_the_native_calls_still_overflow(self) -> None:
        zeros = jnp.zeros(65_520, jnp.float16)
        assert (jax.nn.softmax(zeros) == 0).all()
        assert (jax.nn.log_softmax(zeros) == -jnp.inf).all()
        assert jax.nn.sigmoid(jnp.float16(-12)) == 0

    @pytest.mark.parametrize("compiled", [False, True])
    def test_polylogit_does_not(self, compiled: bool) -> None:
        jit = jax.jit if compiled else lambda function: function
        zeros = jnp.zeros(65_520, jnp.float16)
        assert jit(polylogit.softmax)(zeros)[0] == np.float16(1 / 65_520)
        assert jit(polylogit.log_softmax)(zeros)[0] == np.float16(-np.log(65_520))
        assert jit(polylogit.sigmoid)(jnp.float16(-12)) == np.float16(1 / (1 + np.exp(12.0)))


class TestTypes:
    @pytest.mark.contract(2)
    def test_prng_keys_are_refused(self) -> None:
        with pytest.raises(errors.DTypeError, match="key"):
            polylogit.softmax(jax.random.split(jax.random.key(0)))

    @pytest.mark.parametrize("name", BACKEND.dtypes())
    def test_every_dtype_goes_to_numpy_and_back(self, name: str) -> None:
        x = BACKEND.asarray([0.5, 1.0, -2.0], dtype=name)
        assert BACKEND.dtype_name(BACKEND.asarray(BACKEND.to_numpy(x))) == name
        assert polylogit.softmax(x).dtype == x.dtype


class TestNumPyArrays:
    def test_cross_without_a_compilation(self, caplog: pytest.LogCaptureFixture) -> None:
        with jax.log_compiles():
            x = BACKEND.asarray(np.zeros((3, 1, 4, 1, 5, 9), np.float32))
            assert not caplog.records
            polylogit.softmax(x)
        assert any("ompiling" in record.getMessage() for record in caplog.records)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool"])
    def test_are_copied(self, dtype: str) -> None:
        numbers = np.ones(4096, dtype=jnp.dtype(dtype))  # aligned as JAX would share it
        x = BACKEND.asarray(numbers)
        numbers[:] = 0
        assert (np.array(x) == 1).all()
        assert x.dtype == numbers.dtype
