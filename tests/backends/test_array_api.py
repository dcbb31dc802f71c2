"""Any library of the array API standard, as array-api-strict holds it to the letter."""

from __future__ import annotations

import array_api_strict as xp
import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import polylogit
from polylogit import conformance, errors
from polylogit._backends.array_api import _Rows
from polylogit._cli import polylogit as commands
from polylogit._spec.bounds import additions

OPERATIONS = ("softmax", "log_softmax", "sigmoid")
NAN, INF = float("nan"), float("inf")


def values(array: object) -> np.ndarray:
    return np.from_dlpack(array)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 4, 5)) * 5


class TestValues:
    @pytest.mark.parametrize("axis", [-1, 0, None, (0, 2), ()])
    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    def test_are_those_of_numpy(self, operation: str, axis: object, x: np.ndarray) -> None:
        function = getattr(polylogit, operation)
        y = function(xp.asarray(x), axis)
        assert type(y) is type(xp.asarray(x))
        np.testing.assert_allclose(values(y), function(x, axis), rtol=1e-14, atol=1e-14)
        mask = np.random.default_rng(1).random((4, 1)) > 0.5
        masked = values(function(xp.asarray(x), axis, where=xp.asarray(mask)))
        np.testing.assert_allclose(masked, function(x, axis, where=mask), rtol=1e-14, atol=1e-14)

    def test_of_sigmoid_are_those_of_numpy(self) -> None:
        x = np.r_[np.linspace(-700, 700, 1001), NAN, INF, -INF]
        np.testing.assert_allclose(values(polylogit.sigmoid(xp.asarray(x))), polylogit.sigmoid(x), rtol=1e-15)

    def test_of_special_rows(self) -> None:
        rows = xp.asarray([[0.0, NAN, 1.0], [0.0, INF, 1.0], [-INF] * 3, [0.0, -INF, -INF]])
        y = values(polylogit.softmax(rows))
        assert np.isnan(y[:3]).all()
        assert y[3].tolist() == [1.0, 0.0, 0.0]
        hidden = polylogit.softmax(rows, where=xp.asarray([True, False, False]))
        assert values(hidden)[[0, 1, 3]].tolist() == [[1.0, 0.0, 0.0]] * 3

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_of_long_rows_sum_to_one(self, dtype: str) -> None:
        row = xp.asarray(np.r_[0.0, np.full(299_999, -0.1)].astype(dtype))
        total = values(polylogit.softmax(row)).astype(np.longdouble).sum()
        assert abs(total - 1) < np.finfo(dtype).eps * 40

    @pytest.mark.parametrize("length", [31, 256, 1000, 4096])
    def test_sum_to_one_where_the_library_adds_in_order(self, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
        def in_order(x: object, axis: int, *, keepdims: bool = False) -> object:
            total = np.cumsum(values(x), axis=axis)[..., -1]
            return xp.asarray(total[..., None] if keepdims else total)

        monkeypatch.setattr(xp, "sum", in_order)
        # Behind a 1 each of these terms is lost by itself, and the sum keeps only those that were first added up.
        row = np.r_[0.0, np.full(length - 1, np.log(np.finfo(np.float64).eps / 2) - 0.05)]
        total = values(polylogit.softmax(xp.asarray(row))).astype(np.longdouble).sum()
        assert abs(total - 1) <= np.finfo(np.float64).eps * (2 + additions(length) / 2)

    def test_of_integers_and_with_a_dtype(self) -> None:
        assert polylogit.softmax(xp.asarray([1, 2, 3], dtype=xp.uint8)).dtype == xp.float64
        assert polylogit.softmax(xp.asarray([1.0, 2.0]), dtype="float32").dtype == xp.float32
        assert polylogit.softmax(xp.asarray([1.0, 2.0]), dtype=xp.float32).dtype == xp.float32

    @pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 2), ()])
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_of_empty_and_0_d_arrays_keep_the_shape(self, operation: str, shape: tuple[int, ...]) -> None:
        assert getattr(polylogit, operation)(xp.zeros(shape)).shape == shape


class TestDerivatives:
    @pytest.mark.parametrize("operation", OPERATIONS)
    @pytest.mark.parametrize("masked", [False, True])
    def test_of_first_and_second_order_are_those_of_numpy(self, operation: str, masked: bool, x: np.ndarray) -> None:
        function = getattr(polylogit, operation)
        g, v = (np.random.default_rng(seed).normal(size=x.shape) for seed in (2, 3))
        mask = np.random.default_rng(1).random(x.shape) > 0.3
        ours, theirs = ({"where": xp.asarray(mask)}, {"where": mask}) if masked and operation != "sigmoid" else ({}, {})
        a, b, c = xp.asarray(x), xp.asarray(g), xp.asarray(v)
        pairs = [
            (polylogit.vjp(function, a, **ours)[1](b), polylogit.vjp(function, x, **theirs)[1](g)),
            (polylogit.jvp(function, a, b, **ours)[1], polylogit.jvp(function, x, g, **theirs)[1]),
        ]
        slopes = polylogit.gradient(function, b, **ours), polylogit.gradient(function, g, **theirs)
        pairs.append((polylogit.vjp(slopes[0], a)[1](c), polylogit.vjp(slopes[1], x)[1](v)))
        pairs.append((polylogit.jvp(slopes[0], a, c)[1], polylogit.jvp(slopes[1], x, v)[1]))
        for got, expected in pairs:
            np.testing.assert_allclose(values(got), expected, rtol=1e-12, atol=1e-14)

    def test_of_another_function_are_refused(self) -> None:
        with pytest.raises(errors.DifferentiationError, match="no autodiff"):
            polylogit.vjp(lambda x: x, xp.zeros(2))

    def test_a_cotangent_of_another_shape_is_refused(self) -> None:
        with pytest.raises(errors.DifferentiationError, match="shape"):
            polylogit.vjp(polylogit.softmax, xp.zeros(2))[1](xp.zeros(3))


class TestNamedByItsModule:
    """``array_api:MODULE``: the same backend, with a library in which to make arrays."""

    def test_the_kit_agrees(self) -> None:
        report = conformance.run(["array_api:array_api_strict"], ["log_softmax"], level="quick")
        assert report.status == 0
        assert {result.dtype for result in report.results if result.verdict == "passed"} == {"float32", "float64"}

    def test_the_command_line_lists_the_cases(self) -> None:
        listed = CliRunner().invoke(
            commands, ["conform", "--namespace", "array_api_strict", "--level", "quick", "--list"]
        )
        assert "array_api:array_api_strict/sigmoid/values/float64/" in listed.output

    def test_numbers_and_arrays_are_served(self) -> None:
        here = {"backend": "array_api:array_api_strict"}
        assert values(polylogit.softmax([0.0, 0.0], **here)).tolist() == [0.5, 0.5]
        assert values(polylogit.softmax(xp.zeros(2), where=xp.asarray([True, False]), **here)).tolist() == [1.0, 0.0]
        with polylogit.use_backend(here["backend"]):
            assert isinstance(polylogit.sigmoid(0.0), type(xp.zeros(1)))

    def test_a_framework_with_a_backend_is_named_by_that(self) -> None:
        with pytest.raises(errors.UnknownBackendError, match="write that name"):
            polylogit.get_backend("array_api:numpy")

    def test_a_module_without_such_arrays_is_refused(self) -> None:
        with pytest.raises(errors.UnknownBackendError, match="name a library whose own arrays"):
            polylogit.get_backend("array_api:array_api_compat.numpy")

    def test_a_missing_library_says_so(self) -> None:
        report = conformance.run(["array_api:no_such_library"])
        assert [result.verdict for result in report.results] == ["missing"]


class TestUnknownSizes:
    @pytest.fixture
    def lazy(self, monkeypatch: pytest.MonkeyPatch, x: np.ndarray) -> object:
        """`x` where the backend sees no sizes; the library itself goes on knowing them."""
        monkeypatch.setattr(_Rows, "sizes_known", staticmethod(lambda _: False))
        return xp.asarray(x)

    @pytest.mark.parametrize("axis", [-1, 0, None, (0, 2), ()])
    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    def test_give_the_values_of_numpy(self, operation: str, axis: object, lazy: object, x: np.ndarray) -> None:
        function = getattr(polylogit, operation)
        np.testing.assert_allclose(values(function(lazy, axis)), function(x, axis), rtol=1e-14, atol=1e-14)
        mask = np.random.default_rng(1).random((4, 1)) > 0.5
        masked = values(function(lazy, axis, where=xp.asarray(mask)))
        np.testing.assert_allclose(masked, function(x, axis, where=mask), rtol=1e-14, atol=1e-14)

    def test_give_the_derivatives_of_numpy(self, lazy: object, x: np.ndarray) -> None:
        slope = polylogit.vjp(polylogit.log_softmax, lazy, axis=(0, 1))[1](lazy)
        np.testing.assert_allclose(
            values(slope), polylogit.vjp(polylogit.log_softmax, x, axis=(0, 1))[1](x), rtol=1e-12
        )


class TestBadInput:
    def test_sparse_arrays_are_refused(self) -> None:
        class Sparse:
            nnz = 1

            def __array_namespace__(self) -> object:
                return xp

        with pytest.raises(errors.UnsupportedArrayError, match="todense"):
            polylogit.softmax(Sparse())

    def test_complex_logits_and_integer_dtypes_are_refused(self) -> None:
        with pytest.raises(errors.DTypeError, match="complex128"):
            polylogit.softmax(xp.asarray([1j]))
        with pytest.raises(errors.DTypeError, match="int64"):
            polylogit.softmax(xp.asarray([1.0]), dtype="int64")

    def test_a_dtype_that_the_library_holds_and_does_not_know_is_refused(self) -> None:
        with pytest.raises(errors.DTypeError, match="bfloat16"):
            polylogit.softmax(ml_dtypes.bfloat16(1), backend="array_api")

    def test_an_array_of_no_library_cannot_be_made(self) -> None:
        with pytest.raises(errors.DTypeError, match="which library"):
            polylogit.softmax([1.0], backend="array_api")
