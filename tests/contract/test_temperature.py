"""Row 30: logits over a temperature, as exact as without one; and the derivative with respect to the temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest

import polylogit

from .conftest import Subject, expected_value, reduced
from .exact import Expected, Reference, SigmoidReference, check, computed_in, precision, ulp

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]

pytestmark = pytest.mark.contract(30)
nan, inf = np.nan, np.inf
# Of each dtype a level at which its logits are still a few units apart.
LEVELS = {"float32": 1e6, "float64": 1e14, "float16": 300.0, "bfloat16": 1e3}

# Powers of two and others, a number of NumPy's and a sequence.
NUMBERS = (2, 0.5, 0.7, 1e-3, 1e3, np.float32(1 / 3), [[0.7], [1.3], [3.0]])


def exactly(x: Any, temperature: Any) -> Array:
    """``x / temperature`` with 200 bits, as an array of objects."""
    mpmath.mp.prec = 200
    pairs = np.broadcast_arrays(np.asarray(x).astype(np.float64), np.asarray(temperature, np.float64))
    quotients = [mpmath.mpf(float(a)) / mpmath.mpf(float(b)) for a, b in zip(*(one.flat for one in pairs), strict=True)]
    return np.array([*quotients, None], dtype=object)[:-1].reshape(pairs[0].shape)


def narrow(subject: Subject, dtype: str) -> bool:
    """Whether the quotient is computed in float32: JAX without its 64-bit mode has nothing wider."""
    return subject.name == "jax" and dtype != "float64" and subject.default_float() == "float32"


class Over(Reference):
    """The rows of x / T. A distance is off by two roundings more in float32, which is that of T and of its inverse."""

    def __init__(self, subject: Subject, x: Array, temperature: Any, axis: Any = -1, where: Any = None) -> None:
        z = exactly(x, temperature)
        super().__init__(z, reduced(x.shape, axis), where)
        self.result = self.given = precision(x.dtype.name)
        self.compute = precision(computed_in(x.dtype.name, x.dtype.name))
        self.slope = 4 if narrow(subject, x.dtype.name) else 2
        shape = np.shape(temperature)
        along = [axis - x.ndim for axis in (a % x.ndim for a in reduced(x.shape, axis))]
        self.several = any(-axis <= len(shape) and shape[axis] > 1 for axis in along)
        working = "float32" if narrow(subject, x.dtype.name) else "float64"
        # Nothing is subtracted first where a row has several temperatures: each quotient is rounded as it is.
        size = np.abs(np.where(self.live, self.rows.x, self.zero)).astype(np.float64)
        with np.errstate(over="ignore"):
            self.rounded = (
                precision(working).eps / self.compute.eps * 2 * (size + size.max(1, initial=0, keepdims=True))
            )

    @property
    def _growth(self) -> Array:
        units: Array = 4 + self.slope * self.d + 2 * np.log2(self.n) + (2 * self.rounded if self.several else 0)
        return units

    def log_softmax(self) -> Expected:
        exact = super().log_softmax()
        more = self.compute.eps * self.rounded / 2 if self.several else np.zeros_like(self.rounded)
        return exact._replace(tolerance=exact.tolerance + self.rows.back(more))


def expected(subject: Subject, operation: str, x: Array, temperature: Any, **kwargs: Any) -> Expected:
    if operation == "sigmoid":
        reference = SigmoidReference(exactly(x, temperature))
        reference.result = reference.given = precision(x.dtype.name)
        reference.compute = precision(computed_in(x.dtype.name, x.dtype.name))
        exact = reference.sigmoid()
        if narrow(subject, x.dtype.name):  # the roundings of the argument
            distance = np.maximum(0, -reference.plain).reshape(x.shape)
            more = ulp(exact.value, reference.compute) * 3 * distance
            exact = exact._replace(tolerance=exact.tolerance + more)
        return exact
    rows: Expected = getattr(Over(subject, x, temperature, **kwargs), operation)()
    return rows


def logits(dtype: str, level: float = 0.0, shape: tuple[int, ...] = (3, 4), seed: int = 0) -> Array:
    backend = polylogit.get_backend("numpy")
    x: Array = backend.asarray(level + 4 * np.random.default_rng(seed).normal(size=shape), dtype=dtype)
    return x


# --- values ----------------------------------------------------------------------------------------------------------


def test_the_values_keep_the_bounds(subject: Subject, operation: str) -> None:
    numbers = NUMBERS if subject.mode == "eager" else (0.7,)
    cases = [(logits(dtype, seed=7), one) for dtype in LEVELS for one in numbers]
    if operation != "sigmoid":  # distances that x / T, rounded first, does not have any more
        cases += [(logits(dtype, level), one) for dtype, level in LEVELS.items() for one in (0.7, 1e3)[: len(numbers)]]
    with subject.all64():
        made = subject.calls([(operation, x, {"temperature": one}) for x, one in cases])
        for got, (x, one) in zip(made, cases, strict=True):
            want = expected(subject, operation, x, one)
            check(subject.numpy(got, x.dtype.name), want, f"{subject}, {operation} of {x.dtype}, T = {one}")


def test_axes_and_masks_without_64_bits(subject: Subject, row_operation: str) -> None:
    x = logits("float32", 1e5, (3, 4, 5))
    mask = np.random.default_rng(1).random((3, 4, 5)) < 0.6
    mask[0] = False
    cases = [
        (x, {"axis": axis, "temperature": 0.7})
        for axis in ((-1, (0, 2), None) if subject.mode == "eager" else ((0, 2),))
    ]
    spoiled = np.where(mask, x, np.float32(nan))
    cases += [(spoiled, {**kwargs, "where": mask}) for _, kwargs in cases]
    made = subject.calls([(row_operation, a, kwargs) for a, kwargs in cases])
    for got, (a, kwargs) in zip(made, cases, strict=True):
        check(subject.numpy(got), expected(subject, row_operation, a, **kwargs), f"{subject}, {kwargs}")
    if subject.mode == "eager":
        ones = subject.call(row_operation, x, axis=(), temperature=0.7)
        assert (ones == (1 if row_operation == "softmax" else 0)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_array_of_temperatures_broadcasts(eager: Subject, operation: str, dtype: str) -> None:
    x = logits(dtype, 100.0)
    for shape, axis in (((), -1), ((3, 1), -1), ((4,), -1), ((4,), 0), ((3, 4), None)):
        temperature = np.random.default_rng(3).uniform(0.2, 3, size=shape).astype(dtype)
        kwargs = {} if operation == "sigmoid" else {"axis": axis}
        with eager.all64():
            given = eager.array(temperature)
            got = getattr(polylogit, operation)(eager.array(x), temperature=given, **kwargs)
            want = expected(eager, operation, x, temperature, **kwargs)
            check(eager.numpy(got, dtype), want, f"{eager}, {operation}, {shape}, {kwargs}")


def test_a_power_of_two_is_exact(eager: Subject, operation: str) -> None:
    x = logits("float32")
    for power in (-3, 0, 4):
        got = eager.call(operation, x, temperature=2.0**power)
        check(got, expected_value(operation, (x / 2.0**power).astype("float32")), f"{eager}, 2 ** {power}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_overflows_inside(eager: Subject, row_operation: str, dtype: str) -> None:
    top = float(np.finfo(dtype).max)
    with eager.all64():
        x = np.array([[-top, 0.0, top], [top / 2, -top / 2, 0.0]], dtype)
        for temperature in (1.5, top / 2):
            got = eager.call(row_operation, x, temperature=temperature)
            check(got, expected(eager, row_operation, x, temperature), f"{eager}, T = {temperature}")
        one, none = (1, 0) if row_operation == "softmax" else (0, -inf)
        got = eager.call(row_operation, x, temperature=0.25)  # the quotients themselves are beyond the largest
        np.testing.assert_array_equal(got, [[none, none, one], [one, none, none]])


def test_infinities_and_nan_are_as_without(subject: Subject, operation: str) -> None:
    x = np.array([[1, 2, -inf], [-inf, -inf, -inf], [0, nan, 1], [inf, 1, 2], [-inf, inf, 0]], "float32")
    over, plain = subject.calls([(operation, x, {"temperature": 0.7}), (operation, x, {})])
    over, plain = subject.numpy(over), subject.numpy(plain)
    np.testing.assert_array_equal(np.isnan(over), np.isnan(plain))
    np.testing.assert_array_equal(over == 0, plain == 0)
    np.testing.assert_array_equal(np.isneginf(over), np.isneginf(plain))


def test_the_result_has_the_dtype_of_the_logits_or_the_one_that_was_asked_for(eager: Subject, operation: str) -> None:
    function = getattr(polylogit, operation)
    given = eager.array(np.full((3, 1), 2.0))
    assert eager.backend.dtype_name(function(eager.array(logits("float16")), temperature=given)) == "float16"
    asked = function(eager.array(logits("float32")), temperature=given, dtype="float16")
    assert eager.backend.dtype_name(asked) == "float16"
    whole = function(eager.array(np.array([1, 2, 3])), temperature=2)
    assert eager.backend.dtype_name(whole) == eager.default_float()
    assert function(eager.array(np.zeros((0, 3), "float32")), temperature=2.0).shape == (0, 3)
    assert function(eager.array(np.zeros((2, 0), "float32")), temperature=2.0).shape == (2, 0)
    assert eager.numpy(function(eager.array(np.float32(3.0)), temperature=2.0)).shape == ()


# --- derivatives -----------------------------------------------------------------------------------------------------


def over(exact: Expected, temperature: Any, dtype: str) -> Expected:
    """The derivative in z as one in x = z T, which is divided, and rounded, once more."""
    compute, given = (precision(name) for name in (computed_in(dtype, dtype), dtype))
    by = np.asarray(temperature, np.float64)
    value = exact.value / (by.astype(object) if exact.value.dtype == object else by)
    rounding = 2 * ulp(value, compute) + 2 * ulp(value, given)
    return Expected(value, exact.tolerance / by.astype(np.longdouble) + rounding, exact.flush / float(by.min()))


GRADIENTS = [("float32", 0.7), ("float64", 0.7), ("float16", 2.0)]


@pytest.mark.parametrize(("dtype", "temperature"), GRADIENTS)
def test_the_gradient_of_the_logits(eager: Subject, row_operation: str, dtype: str, temperature: float) -> None:
    with eager.all64():
        x = logits(dtype)
        g = np.random.default_rng(1).normal(size=x.shape).astype(dtype)
        rows = Over(eager, x, temperature)
        for kind in ("vjp", "jvp"):
            name = "softmax_derivative" if row_operation == "softmax" else f"log_softmax_{kind}"
            want = over(getattr(rows, name)(g), temperature, dtype)
            got = eager.derivative(kind, row_operation, x, g, temperature=temperature)
            assert got.dtype == x.dtype
            check(got, want, f"{eager}, {kind} of {row_operation}, {dtype}, T = {temperature}")


def test_the_second_derivative(eager: Subject, row_operation: str) -> None:
    dtype = "float64"
    with eager.all64():
        x = logits(dtype)
        c, u = (np.random.default_rng(seed).normal(size=x.shape).astype(dtype) for seed in (1, 2))
        slope = polylogit.gradient(getattr(polylogit, row_operation), eager.array(c), temperature=0.7)
        second = getattr(Over(eager, x, 0.7), f"{row_operation}_second")(c, u)
        want = over(over(second, 0.7, dtype), 0.7, dtype)
        for kind in ("vjp", "jvp"):
            check(eager.derivative(kind, slope, x, u), want, f"{eager}, {kind} of the gradient")


def test_the_derivative_of_sigmoid(eager: Subject) -> None:
    x = logits("float32")
    g = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    reference = SigmoidReference(exactly(x, 0.7))
    reference.result = reference.given = reference.compute = precision("float32")
    want = over(reference.derivative(g), 0.7, "float32")
    for kind in ("vjp", "jvp"):
        check(eager.derivative(kind, "sigmoid", x, g, temperature=0.7), want, f"{eager}, {kind}")


def gradient_of_temperature(subject: Subject, function: Callable[[Any, Any], Any], x: Any, t: Any, g: Any) -> Array:
    """By the framework's own means, of both at once as a training step does it."""
    x, t, g = (subject.array(one) for one in (x, t, g))
    if subject.name == "torch":
        import torch

        def both(x: Any, t: Any, g: Any) -> Any:
            return torch.func.vjp(function, x, t)[1](g)
    elif subject.name == "jax":
        import jax

        def both(x: Any, t: Any, g: Any) -> Any:
            return jax.vjp(function, x, t)[1](g)
    else:
        import tensorflow as tf

        def both(x: Any, t: Any, g: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch((x, t))
                y = function(x, t)
            return tape.gradient(y, (x, t), output_gradients=g)

    return subject.numpy(subject.compiled(both)(x, t, g)[1])


@pytest.mark.parametrize("shape", [(), (3, 1), (4,)])
def test_the_gradient_of_the_temperature(subject: Subject, operation: str, shape: tuple[int, ...]) -> None:
    if subject.name == "numpy" or (subject.mode != "eager" and (shape or operation != "softmax")):
        return
    x = logits("float32")
    temperature = np.random.default_rng(2).uniform(0.5, 2, size=shape).astype("float32")
    g = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    got = gradient_of_temperature(
        subject, lambda x, t: getattr(polylogit, operation)(x, temperature=t), x, temperature, g
    )
    assert got.shape == shape
    z = exactly(x, temperature)
    if operation == "sigmoid":
        reference = SigmoidReference(z)
        reference.result = reference.given = reference.compute = precision("float32")
        slope = reference.derivative(g)
    else:
        rows = Over(subject, x, temperature)
        slope = rows.softmax_derivative(g) if operation == "softmax" else rows.log_softmax_vjp(g)
    # dL/dT is - sum (dL/dz) z / T. Each term carries the error of dL/dz, four roundings and those of the sum.
    terms = -slope.value * z / exactly(temperature, 1.0)
    added = tuple(range(x.ndim - len(shape))) + tuple(
        axis for axis in range(x.ndim) if axis >= x.ndim - len(shape) and shape[axis - x.ndim + len(shape)] == 1
    )
    size = np.abs(z).astype(np.longdouble) / temperature
    # Of a row with one temperature it is z - max z that the framework multiplies, of at most twice the size.
    widest = 2 * np.broadcast_to(size.max(-1, keepdims=True), x.shape)
    error = slope.tolerance * widest + 2.0**-23 * np.abs(slope.value).astype(np.longdouble) * widest * (4 + x.size)
    value = terms.sum(axis=added, keepdims=True).reshape(shape)
    check(got, Expected(np.asarray(value), error.sum(axis=added, keepdims=True).reshape(shape), 0.0), f"{subject}")


def test_no_nan_comes_back_to_the_temperature(subject: Subject, operation: str) -> None:
    if subject.name == "numpy" or (subject.mode != "eager" and operation != "log_softmax"):
        return
    x = np.array([[1, 2, -inf], [0, nan, 1], [3, 4, 5]], "float32")
    mask = np.array([[True, True, True], [True, False, True], [False, False, False]])
    if operation == "sigmoid":
        x[1] = [inf, 0, 1]
    given = {} if operation == "sigmoid" else {"where": subject.array(mask)}
    call = lambda x, t: getattr(polylogit, operation)(x, temperature=t, **given)  # noqa: E731
    got = gradient_of_temperature(subject, call, x, np.float32(0.7), np.ones((3, 3), "float32"))
    assert np.isfinite(got), f"{subject}, {got}"


# --- what is no temperature ------------------------------------------------------------------------------------------


def test_a_temperature_is_refused_while_a_function_is_traced(refusing: Subject) -> None:
    with pytest.raises(polylogit.errors.TemperatureError, match="positive"):
        refusing.call("softmax", np.zeros((2, 3), "float32"), temperature=0.0)


def test_a_temperature_that_is_not_positive_and_finite(eager: Subject, operation: str) -> None:
    for bad in (0, 0.0, -1.0, nan, inf, -inf, 1e-320, 10**400, np.float32(-2), [1.0, 0.0, 2.0]):
        with pytest.raises(polylogit.errors.TemperatureError, match="positive") as caught:
            eager.call(operation, np.zeros((2, 3), "float32"), temperature=bad)
        assert isinstance(caught.value, ValueError)


def test_a_temperature_that_is_no_real_number(eager: Subject, operation: str) -> None:
    for bad in (True, 1j, [True, False, True], np.bool_(True), np.complex64(1)):
        with pytest.raises(polylogit.errors.DTypeError, match="temperature="):
            eager.call(operation, np.zeros((2, 3), "float32"), temperature=bad)


def test_an_array_of_another_kind_or_shape(eager: Subject, operation: str) -> None:
    function, x = getattr(polylogit, operation), eager.array(np.zeros((2, 3), "float32"))
    for shape in ((2,), (4, 3), (1, 2, 3), (0,)):
        with pytest.raises(polylogit.errors.TemperatureError, match="does not broadcast") as caught:
            function(x, temperature=eager.array(np.ones(shape, "float32")))
        assert str(shape) in str(caught.value)
    with pytest.raises(polylogit.errors.DTypeError, match="temperature= has dtype"):
        function(x, temperature=eager.array(np.ones(3, bool)))


def test_an_array_of_another_framework(eager: Subject, operation: str) -> None:
    if eager.name == "numpy":
        return
    x = eager.array(np.zeros((2, 3), "float32"))
    with pytest.raises(polylogit.errors.MixedBackendsError, match="temperature="):
        getattr(polylogit, operation)(x, temperature=np.ones(3))
    with pytest.raises(polylogit.errors.MixedBackendsError, match="temperature="):
        getattr(polylogit, operation)(np.zeros((2, 3)), temperature=x)
    moved = getattr(polylogit, operation)(np.zeros((2, 3)), temperature=np.ones(3), backend=eager.name)
    assert polylogit.get_backend(moved).name == eager.name


def test_what_a_registered_function_does_not_know_is_served_by_the_backend() -> None:
    with polylogit.register_implementation("softmax", "numpy", lambda x, axis=-1: np.zeros_like(x)):
        assert polylogit.softmax(np.zeros(2), temperature=2.0).tolist() == [0.5, 0.5]


def test_numpy_checks_a_temperature_in_a_derivative_too() -> None:
    with pytest.raises(polylogit.errors.TemperatureError):
        polylogit.vjp(polylogit.softmax, np.zeros(2), temperature=0.0)
