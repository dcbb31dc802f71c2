"""Rows 23 to 27: what is taken for an array, and which framework serves it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import polylogit
from frameworks import INSTALLED
from polylogit import errors

from .conftest import Subject, expected_value
from .exact import check

PYTHON_VALUES = [
    3,
    -2.5,
    True,
    10**19,
    [1, 2, 3],
    (1.0, 2.0),
    [[1, 2], [3, 4]],
    [(1.0, 2), [True, 4]],
    [True, False],
    range(4),
]


def exact(operation: str, value: Any, dtype: str) -> Any:
    return expected_value(operation, np.asarray(value).astype(dtype))


@pytest.mark.contract(23)
@pytest.mark.parametrize("value", PYTHON_VALUES, ids=str)
def test_python_values_go_to_numpy_in_float64(operation: str, value: Any) -> None:
    got = getattr(polylogit, operation)(value)
    assert isinstance(got, (np.ndarray, np.float64))
    assert got.dtype == np.float64
    check(got, exact(operation, value, "float64"))


@pytest.mark.contract(23)
@pytest.mark.parametrize("value", PYTHON_VALUES, ids=str)
def test_python_values_go_to_the_backend_that_is_named_or_in_use(eager: Subject, operation: str, value: Any) -> None:
    function = getattr(polylogit, operation)
    for_name = function(value, backend=eager.name)
    with polylogit.use_backend(eager.name):
        in_use = function(value)
    for got in (for_name, in_use):
        assert polylogit.get_backend(got).name == eager.name
        check(eager.numpy(got, eager.default_float()), exact(operation, value, eager.default_float()))


@pytest.mark.contract(23)
def test_sequences_of_numpy_arrays_and_scalars_are_rows(eager: Subject, operation: str) -> None:
    rows = [np.array([1.0, 2.0]), np.array([3.0, 5.0])]
    for value in (rows, tuple(rows), [[np.float64(1), 2.0], [3.0, np.float64(5)]]):
        got = eager.numpy(getattr(polylogit, operation)(value, backend=eager.name))
        check(got, exact(operation, rows, got.dtype.name))


@pytest.mark.contract(23)
@pytest.mark.parametrize("value", [[[1.0, 2.0], [3.0]], [1.0, [2.0]], [[], [1.0]]], ids=str)
def test_ragged_sequences_are_refused(eager: Subject, operation: str, value: Any) -> None:
    with pytest.raises(errors.ConversionError, match="equal lengths"):
        getattr(polylogit, operation)(value, backend=eager.name)


@pytest.mark.contract(23)
@pytest.mark.parametrize("value", [np.float32(2), np.float64(-3), np.int8(4), np.bool_(True), np.float16(1)], ids=repr)
def test_numpy_scalars_are_0d_arrays(operation: str, value: Any) -> None:
    got = getattr(polylogit, operation)(value)
    assert got.shape == ()
    check(got, exact(operation, value, value.dtype.name if value.dtype.kind == "f" else "float64"))


# --- rows 24 and 25 --------------------------------------------------------------------------------------------------


@pytest.mark.contract(24)
def test_a_numpy_array_is_converted_to_the_backend_that_is_named(eager: Subject, operation: str) -> None:
    for dtype in ("float32", "float16", "int32", "uint8", "bool"):
        x = np.array([[1, 2, 0], [0, 5, 1]]).astype(dtype)
        got = getattr(polylogit, operation)(x, backend=eager.name)
        assert polylogit.get_backend(got).name == eager.name
        name = dtype if dtype.startswith("float") else eager.default_float()
        check(eager.numpy(got, name), exact(operation, x, name))


@pytest.mark.contract(24)
def test_an_array_of_the_backend_that_is_named_stays(eager: Subject, operation: str) -> None:
    x = eager.array(np.float32([1, 2]))
    assert type(getattr(polylogit, operation)(x, backend=eager.name)) is type(x)


PAIRS = [pair for pair in itertools.permutations(INSTALLED, 2) if pair[0] != "numpy"]


@pytest.mark.contract(24)
@pytest.mark.parametrize(("owner", "named"), PAIRS)
def test_a_device_frameworks_array_is_never_moved_silently(operation: str, owner: str, named: str) -> None:
    x = polylogit.get_backend(owner).asarray([1.0, 2.0])
    with pytest.raises(TypeError) as caught:
        getattr(polylogit, operation)(x, backend=named)
    assert isinstance(caught.value, errors.MixedBackendsError)
    assert f'polylogit.convert(x, "{named}")' in str(caught.value)
    assert owner in str(caught.value)
    for sequence in ([x, x], (x, [1.0, 2.0])):
        with pytest.raises(TypeError):
            getattr(polylogit, operation)(sequence, backend=named)
    with polylogit.use_backend(named):
        assert polylogit.get_backend(getattr(polylogit, operation)(x)).name == owner


@pytest.mark.contract(24)
@pytest.mark.parametrize("named", ["nonsense", "", 3, "Torch"])
def test_a_backend_that_does_not_exist_is_an_error_that_names_those_that_do(operation: str, named: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        getattr(polylogit, operation)([1.0], backend=named)
    assert isinstance(caught.value, errors.PolylogitError)
    assert repr(named) in str(caught.value)
    assert "numpy" in str(caught.value)


@pytest.mark.contract(25)
@pytest.mark.parametrize(("owner", "other"), list(itertools.permutations(INSTALLED, 2)))
def test_logits_and_mask_of_two_frameworks_are_refused_naming_both(row_operation: str, owner: str, other: str) -> None:
    x = polylogit.get_backend(owner).asarray([1.0, 2.0])
    mask = polylogit.get_backend(other).asarray([True, False])
    with pytest.raises(TypeError) as caught:
        getattr(polylogit, row_operation)(x, where=mask)
    assert isinstance(caught.value, errors.MixedBackendsError)
    assert owner in str(caught.value)
    assert other in str(caught.value)
    assert f'polylogit.convert(where, "{owner}")' in str(caught.value)


@pytest.mark.contract(25)
def test_a_numpy_mask_is_converted_with_a_backend_that_is_named(eager: Subject, row_operation: str) -> None:
    x, mask = np.float32([1, np.nan, 3]), np.array([True, False, True])
    got = getattr(polylogit, row_operation)(x, where=mask, backend=eager.name)
    check(eager.numpy(got), expected_value(row_operation, x, where=mask))


# --- row 26 ----------------------------------------------------------------------------------------------------------


@pytest.mark.contract(26)
@pytest.mark.requires("torch")
def test_pytorchs_parameters_and_subclasses_are_served_as_by_pytorch(operation: str) -> None:
    import torch

    class Mine(torch.Tensor):
        pass

    class Wrapped(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return super().__torch_function__(func, types, args, kwargs or {})

    native = {"softmax": lambda x: torch.softmax(x, -1), "log_softmax": lambda x: torch.log_softmax(x, -1)}
    values = torch.tensor([[1.0, 2.0, 3.0]])
    for x in (
        torch.nn.Parameter(values),
        torch.nn.Buffer(values),
        values.as_subclass(Mine),
        values.as_subclass(Wrapped),
    ):
        got = getattr(polylogit, operation)(x)
        assert type(got) is type(native.get(operation, torch.sigmoid)(x))
        check(got.detach().as_subclass(torch.Tensor).numpy(), expected_value(operation, values.numpy()))
        for kwargs in (
            {"dtype": "float16"},
            *([] if operation == "sigmoid" else [{"axis": None}, {"where": values > 1}]),
        ):
            assert type(getattr(polylogit, operation)(x, **kwargs)) is type(got)
    parameter = torch.nn.Parameter(values)
    getattr(polylogit, operation)(parameter)[0, 0].backward()
    assert torch.isfinite(parameter.grad).all()


@pytest.mark.contract(26)
@pytest.mark.requires("torch")
def test_fake_and_meta_tensors_keep_their_shapes(operation: str) -> None:
    import torch
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    for dtype, shape in itertools.product((torch.float32, torch.float16, torch.int8), ((3, 4), (3, 5000))):
        with FakeTensorMode():
            fake = getattr(polylogit, operation)(torch.empty(shape, dtype=dtype))
        assert type(fake) is FakeTensor
        meta = getattr(polylogit, operation)(torch.empty(shape, dtype=dtype, device="meta"))
        assert meta.device.type == "meta"
        assert fake.shape == meta.shape == shape


@pytest.mark.contract(26)
@pytest.mark.requires("tensorflow")
def test_tensorflows_variables_are_served(operation: str) -> None:
    import tensorflow as tf

    x = np.float32([[1, 2, 3]])
    for dtype in ("float32", "float16"):
        variable = tf.Variable(x.astype(dtype))
        got = getattr(polylogit, operation)(variable)
        assert isinstance(got, tf.Tensor)
        check(got.numpy(), expected_value(operation, x.astype(dtype)))
    if operation != "sigmoid":
        got = getattr(polylogit, operation)(tf.Variable(x), where=tf.Variable([True, False, True]))
        check(got.numpy(), expected_value(operation, x, where=np.array([True, False, True])))


@pytest.mark.contract(26)
@pytest.mark.requires("tensorflow")
@pytest.mark.parametrize("shape", [None, [None], [None, 3], [2, None], [None, None]], ids=str)
def test_symbolic_tensors_of_unknown_shape_are_served(operation: str, shape: Any) -> None:
    import tensorflow as tf

    x = np.float32([[1, 2, 3], [np.nan, 0, 1]])
    x = x[0] if shape == [None] else x
    arguments: list[dict[str, Any]] = (
        [{}] if operation == "sigmoid" else [{}, {"axis": 0}, {"axis": None}, {"axis": ()}]
    )
    for kwargs in arguments:
        function = tf.function(
            lambda x, kwargs=kwargs: getattr(polylogit, operation)(x, **kwargs),
            input_signature=[tf.TensorSpec(shape, tf.float32)],
        )
        check(function(tf.constant(x)).numpy(), expected_value(operation, x, **kwargs), f"{shape}, {kwargs}")


@pytest.mark.contract(26)
@pytest.mark.requires("tensorflow")
def test_keras_tensors_and_ragged_ones(operation: str) -> None:
    import tensorflow as tf

    function = getattr(polylogit, operation)
    model = tf.keras.Sequential([tf.keras.Input((3,)), tf.keras.layers.Lambda(function)])
    x = np.float32([[1, 2, 3]])
    check(model(tf.constant(x)).numpy(), expected_value(operation, x))
    for unsupported in (tf.ragged.constant([[1.0], [2.0, 3.0]]), tf.sparse.eye(2)):
        with pytest.raises(errors.UnsupportedArrayError, match=type(unsupported).__name__):
            function(unsupported)


@pytest.mark.contract(26)
@pytest.mark.requires("jax")
def test_jaxs_tracers_are_served(operation: str) -> None:
    import jax
    import jax.numpy as jnp

    function, x = getattr(polylogit, operation), np.float32([[1, 2, 3], [4, 0, -2]])
    expected = expected_value(operation, x)
    for transformed in (
        jax.jit(function), jax.vmap(function), jax.jit(jax.vmap(function)),
        lambda x: jax.lax.scan(lambda carry, row: (carry, function(row)), 0, x)[1],
        lambda x: jax.lax.map(function, x), jax.checkpoint(function), lambda x: jax.linearize(function, x)[0],
    ):  # fmt: skip
        check(np.asarray(transformed(jnp.asarray(x))), expected)
    shape = jax.eval_shape(function, jax.ShapeDtypeStruct((2, 3), jnp.float16))
    assert (shape.shape, shape.dtype) == ((2, 3), jnp.float16)


# --- row 27 and what is no array at all ------------------------------------------------------------------------------


@pytest.mark.contract(27)
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrices_and_masked_arrays_are_refused_with_the_remedy(eager: Subject, operation: str) -> None:
    matrix, masked = np.matrix([[1.0, 2.0]]), np.ma.masked_array([1.0, 2.0], [True, False])
    for value, remedy in ((matrix, "asarray"), (masked, "where=")):
        for given, name in itertools.product((value, [value], (value, value)), (None, eager.name)):
            with pytest.raises(TypeError) as caught:
                getattr(polylogit, operation)(given, backend=name)
            assert isinstance(caught.value, errors.PolylogitError)
            assert remedy in str(caught.value)
    if operation != "sigmoid":
        with pytest.raises(TypeError):
            getattr(polylogit, operation)(np.ones(2), where=np.ma.masked_array([True, True], [True, False]))


@pytest.mark.contract(27)
def test_other_subclasses_of_numpys_array_are_kept(operation: str) -> None:
    class Mine(np.ndarray):
        pass

    got = getattr(polylogit, operation)(np.array([1.0, 2.0]).view(Mine))
    assert type(got) is Mine
    check(np.asarray(got), expected_value(operation, np.array([1.0, 2.0])))


@pytest.mark.contract(2)
@pytest.mark.parametrize(
    "value", [None, "abc", b"abc", {}, {"a": [1.0]}, {1.0, 2.0}, object(), len, iter([1.0]), Ellipsis]
)
def test_what_is_no_array_is_a_type_error(eager: Subject, operation: str, value: Any) -> None:
    for name in (None, eager.name):
        with pytest.raises(TypeError) as caught:
            getattr(polylogit, operation)(value, backend=name)
        assert isinstance(caught.value, errors.PolylogitError)
        assert type(value).__name__ in str(caught.value)
