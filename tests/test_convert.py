"""`convert` between the frameworks: nothing changes on the way, and nothing changes behind anybody's back."""

from __future__ import annotations

import collections
import dataclasses
import importlib.util
import itertools
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest

import polylogit
from frameworks import INSTALLED
from polylogit import convert
from polylogit.errors import BackendUnavailableError, ConversionError, UnknownBackendError

PAIRS = list(itertools.permutations(INSTALLED, 2))
HAS_ML_DTYPES = importlib.util.find_spec("ml_dtypes") is not None

# What every framework has, and what each of them lacks; x64 is on in JAX where these are used.
DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128"]
if HAS_ML_DTYPES:
    DTYPES += ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]

VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
LAYOUTS = {
    "contiguous": lambda a: a,
    "fortran": np.asfortranarray,
    "transposed": lambda a: a.T,
    "every second": lambda a: a[:, :, ::2],
    "negative strides": lambda a: a[::-1, :, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], (5, 3, 4)),
    "0-d": lambda a: a[1, 2, 3, ...],
    "empty": lambda a: a[:, :0],
    "one element": lambda a: a[:1, :1, :1],
    "read-only": lambda a: read_only(a),
    "misaligned": lambda a: misaligned(a),
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
}


def read_only(array: Any) -> Any:
    array = array.copy()
    array.setflags(write=False)
    return array


def misaligned(array: Any) -> Any:
    memory = np.zeros(array.nbytes + 1, np.uint8)
    shifted = memory[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    assert not shifted.flags.aligned
    return shifted


def aligned(array: Any) -> Any:
    """On a 64-byte boundary, where JAX and TensorFlow would like to share."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    moved = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def named(name: str) -> np.dtype[Any]:
    if hasattr(np, name):
        return np.dtype(name)
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name))


def sample(dtype: str) -> Any:
    return (np.arange(12).reshape(3, 4) % 3).astype(named(dtype))


def values(array: Any) -> Any:
    """The values as they are now, by the framework's own means and never by `convert`."""
    if hasattr(array, "resolve_conj"):
        array = array.detach().resolve_conj().resolve_neg()
        if str(array.dtype) == "torch.bfloat16" or "float8" in str(array.dtype):
            array = array.float()
        return array.numpy().copy()
    return np.array(array)


def write(array: Any) -> bool:
    """Write into an array if its framework allows it; whether it did."""
    if hasattr(array, "resolve_conj"):
        array.detach().copy_(array.detach() * 0 + 1 if str(array.dtype) != "torch.bool" else ~array)
        return True
    if isinstance(array, np.ndarray) and array.flags.writeable:
        array[...] = np.ones_like(array)
        return True
    return False


# --- values, dtypes, layouts -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_values_and_dtype_survive_every_pair(source: str, target: str, dtype: str) -> None:
    given = sample(dtype)
    there = convert(convert(given, source), target)
    assert polylogit.get_backend(there).name == target
    assert tuple(there.shape) == given.shape
    back = convert(there, "numpy")
    assert back.dtype == given.dtype
    assert back.tobytes() == given.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("copy", [None, True])
@pytest.mark.parametrize("target", INSTALLED)
def test_every_numpy_layout_arrives(target: str, copy: bool | None, layout: str) -> None:
    given = LAYOUTS[layout](VALUES.copy())
    kept = given.copy()
    there = convert(given, target, copy=copy)
    np.testing.assert_array_equal(values(there), kept)
    # Later operations must survive too: TensorFlow aborts on misaligned memory that it was handed.
    assert float(values(polylogit.softmax(there, axis=None)).sum()) == pytest.approx(1.0 if kept.size else 0.0)
    np.testing.assert_array_equal(given, kept)


@pytest.mark.parametrize("dtype", ["float128", "O", "U3", "M8[s]"])
@pytest.mark.parametrize("target", [name for name in INSTALLED if name != "numpy"])
def test_a_dtype_that_the_target_lacks_is_an_error(target: str, dtype: str) -> None:
    given = np.zeros(3, np.longdouble if dtype == "float128" else dtype)
    with pytest.raises(ConversionError, match="no dtype"):
        convert(given, target)


# --- sharing and copying ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [None, True, False])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_no_write_reaches_an_array_that_must_not_change(source: str, target: str, copy: bool | None) -> None:
    given = convert(aligned(np.arange(16, dtype=np.float32)), source)
    before = values(given)
    try:
        there = convert(given, target, copy=copy)
    except ConversionError:
        assert copy is False
        return
    both_write = {source, target} == {"numpy", "torch"}
    wrote = write(there)
    if copy is True:
        assert wrote or target in ("jax", "tensorflow")
    shared = wrote and not np.array_equal(values(given), before)
    assert not shared or (both_write and copy is not True)
    after = values(there)
    if write(given) and not (both_write and copy is not True):
        np.testing.assert_array_equal(values(there), after)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_copy_false_shares_or_refuses(source: str, target: str) -> None:
    shares = {("numpy", "torch"), ("torch", "numpy"), ("jax", "numpy"), ("tensorflow", "numpy")}
    shares |= {("jax", "tensorflow"), ("tensorflow", "jax")}
    given = convert(np.arange(16, dtype=np.float32), source)
    if (source, target) not in shares:
        with pytest.raises(ConversionError, match="only a copy is safe"):
            convert(given, target, copy=False)
        return
    there = convert(given, target, copy=False)
    assert np.shares_memory(convert(there, "numpy"), convert(given, "numpy"))
    assert np.shares_memory(convert(convert(given, target), "numpy"), convert(given, "numpy"))
    assert not np.shares_memory(convert(convert(given, target, copy=True), "numpy"), convert(given, "numpy"))


@pytest.mark.parametrize("name", [name for name in INSTALLED if name in ("jax", "tensorflow")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2", "bool", "int32"])
def test_numpy_views_of_immutable_arrays_stay_locked(name: str, dtype: str) -> None:
    view = convert(convert(sample(dtype), name), "numpy")
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.setflags(write=True)
    assert convert(convert(sample(dtype), name), "numpy", copy=True).flags.writeable


@pytest.mark.parametrize("name", INSTALLED)
def test_an_array_of_the_framework_itself_is_returned_as_it_is(name: str) -> None:
    given = convert(VALUES.copy(), name)
    assert convert(given, name) is given
    assert convert(given, name, copy=False) is given
    other = convert(given, name, copy=True)
    assert other is not given
    np.testing.assert_array_equal(values(other), VALUES)


@pytest.mark.requires("torch")
@pytest.mark.parametrize("layout", ["read-only", "broadcast", "negative strides", "misaligned", "byte-swapped"])
def test_what_torch_must_not_alias_is_copied(layout: str) -> None:
    given = LAYOUTS[layout](VALUES.copy())
    kept = given.copy()
    tensor = convert(given, "torch")
    tensor.fill_(99.0)
    np.testing.assert_array_equal(given, kept)
    with pytest.raises(ConversionError, match="only a copy is safe"):
        convert(given, "torch", copy=False)


@pytest.mark.requires("torch")
def test_overlapping_memory_that_numpy_calls_writable_is_copied() -> None:
    windows = np.lib.stride_tricks.as_strided(np.arange(5.0), (3, 3), (8, 8), writeable=True)
    tensor = convert(windows, "torch")
    tensor[0, 1] = 99.0
    assert tensor[1, 0] == 1.0
    assert windows[0, 1] == 1.0


@pytest.mark.requires("torch")
@pytest.mark.parametrize("name", INSTALLED)
def test_pending_negation_and_conjugation_are_carried_out(name: str) -> None:
    import torch

    z = torch.complex(torch.arange(4.0), torch.arange(4.0) + 1)
    negated = z.conj().imag
    assert negated.is_neg()
    assert z.conj().is_conj()
    np.testing.assert_array_equal(values(convert(negated, name)), -(np.arange(4.0) + 1))
    np.testing.assert_array_equal(values(convert(z.conj(), name)), np.arange(4.0) - 1j * (np.arange(4.0) + 1))
    if name != "torch":
        with pytest.raises(ConversionError, match="pending"):
            convert(negated, name, copy=False)


@pytest.mark.requires("torch")
@pytest.mark.parametrize("name", [name for name in INSTALLED if name != "torch"])
def test_special_torch_tensors_arrive_apart_from_their_source(name: str) -> None:
    import torch

    base = torch.arange(6.0).reshape(2, 3)
    cases = {
        "requires grad": base.clone().requires_grad_(),
        "inside a graph": base.clone().requires_grad_() * 2,
        "parameter": torch.nn.Parameter(base.clone()),
        "expanded": base[:1].clone().expand(4, 3),
        "user subclass": base.clone().as_subclass(type("Mine", (torch.Tensor,), {})),
    }
    for what, tensor in cases.items():
        before = values(tensor)
        there = convert(tensor, name)
        np.testing.assert_array_equal(values(there), before, err_msg=what)
        if what != "user subclass" and write(there):
            np.testing.assert_array_equal(values(tensor), before, err_msg=what)


@pytest.mark.requires("torch", "tensorflow")
def test_tensorflow_never_aliases_a_torch_tensor() -> None:
    import torch

    tensor = torch.arange(64.0)
    there = convert(tensor, "tensorflow")
    tensor.fill_(9.0)
    np.testing.assert_array_equal(there.numpy(), np.arange(64.0))


@pytest.mark.requires("jax", "tensorflow")
def test_memory_shared_by_jax_and_tensorflow_survives_donation_and_assignment() -> None:
    import jax
    import tensorflow as tf

    numbers = np.arange(1 << 14, dtype=np.float32)
    donating = jax.jit(lambda x: x * 0 + 7, donate_argnums=0)
    from_jax = convert(jax.numpy.array(numbers), "jax")
    in_tensorflow = convert(from_jax, "tensorflow", copy=False)
    in_numpy = convert(from_jax, "numpy")
    donating(from_jax).block_until_ready()
    np.testing.assert_array_equal(in_tensorflow.numpy(), numbers)
    np.testing.assert_array_equal(in_numpy, numbers)

    from_tensorflow = tf.constant(numbers)
    in_jax = convert(from_tensorflow, "jax", copy=False)
    donating(in_jax).block_until_ready()
    np.testing.assert_array_equal(from_tensorflow.numpy(), numbers)

    source = jax.numpy.array(numbers)
    variable = tf.Variable(convert(source, "tensorflow"))
    variable.assign_add(tf.ones_like(variable))
    variable.scatter_nd_update([[0]], [55.0])
    tf.nn.relu(convert(source, "tensorflow") - 5)
    np.testing.assert_array_equal(np.asarray(source), numbers)


@pytest.mark.requires("tensorflow")
@pytest.mark.parametrize("target", [name for name in INSTALLED if name != "tensorflow"])
def test_a_variable_is_copied(target: str) -> None:
    import tensorflow as tf

    variable = tf.Variable([1.0, 2.0])
    there = convert(variable, target)
    variable.assign([5.0, 6.0])
    np.testing.assert_array_equal(values(there), [1.0, 2.0])
    with pytest.raises(ConversionError, match="changes in place"):
        convert(variable, target, copy=False)


# --- what has no values ----------------------------------------------------------------------------------------------


@pytest.mark.requires("jax")
@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "complex128"])
@pytest.mark.parametrize("source", [name for name in INSTALLED if name != "jax"])
def test_jax_without_x64_refuses_64_bits_and_says_so(source: str, dtype: str) -> None:
    given = convert(sample(dtype), source)
    with pytest.raises(ConversionError, match=r"jax_enable_x64"):
        convert({"layer": [given]}, "jax")


@pytest.mark.requires("jax")
def test_jax_tracers_shapes_and_keys_are_errors() -> None:
    import jax

    x = np.ones(3, np.float32)
    for transform in (jax.jit, jax.grad, jax.vmap):
        with pytest.raises(ConversionError, match="tracer"):
            transform(lambda x: convert(x, "numpy").sum())(x)
    with pytest.raises(ConversionError, match="no array with values"):
        convert(jax.ShapeDtypeStruct((2,), np.float32), "numpy")
    with pytest.raises(ConversionError, match="key_data"):
        convert(jax.random.key(0), "numpy")
    donated = jax.numpy.ones(3)
    donated.delete()
    with pytest.raises(ConversionError, match="deleted"):
        convert(donated, "numpy")


@pytest.mark.requires("tensorflow")
def test_tensorflow_symbolic_ragged_and_string_tensors_are_errors() -> None:
    import tensorflow as tf

    caught = []

    @tf.function
    def traced(x: Any) -> Any:
        try:
            convert(x, "numpy")
        except ConversionError as error:
            caught.append(str(error))
        return x

    traced(tf.ones(3))
    assert "symbolic" in caught[0]
    for given in (tf.ragged.constant([[1], [2, 3]]), tf.constant("text"), tf.sparse.from_dense([[1.0]])):
        with pytest.raises(ConversionError, match=r"dense|string"):
            convert(given, "numpy")


@pytest.mark.requires("tensorflow")
def test_keras_symbolic_tensors_are_errors_and_variables_are_not() -> None:
    import keras

    with pytest.raises(ConversionError, match="KerasTensor"):
        convert(keras.Input((3,)), "numpy")
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    kernel, bias = convert(layer.weights, "numpy")
    np.testing.assert_array_equal(kernel, layer.get_weights()[0])
    assert bias.shape == (2,)


@pytest.mark.requires("torch")
def test_torch_tensors_without_plain_values_are_errors() -> None:
    import torch
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        fake = torch.ones(3)
    plain = torch.ones(2, 2)
    for given in (fake, torch.ones(3, device="meta"), plain.to_sparse(), torch.nn.UninitializedParameter()):
        with pytest.raises(ConversionError, match="cannot be converted"):
            convert(given, "numpy")
    with pytest.raises(ConversionError, match="transform"):
        torch.func.vmap(lambda x: torch.as_tensor(convert(x, "numpy")))(plain)
    with pytest.raises(ConversionError, match="state_dict"):
        convert(torch.nn.Linear(2, 2), "numpy")


@pytest.mark.parametrize("given", [np.ma.array([1.0, 2.0], mask=[0, 1]), object(), {1.0, 2.0}, "text".join])
def test_what_would_lose_its_meaning_is_an_error_that_says_where(given: Any) -> None:
    with pytest.raises(ConversionError, match=r"at \['a'\]\[1\]: .*cannot be converted"):
        convert({"a": [1, given]}, "numpy", copy=True)


# --- containers ------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass(frozen=True)
class State:
    step: int
    weights: Any
    cache: Any = dataclasses.field(init=False, default=None)


@pytest.mark.parametrize("target", INSTALLED)
def test_containers_keep_type_order_and_plain_leaves(target: str) -> None:
    one = np.ones(2, np.float32)
    state = State(3, {"w": one})
    object.__setattr__(state, "cache", one)
    tree = collections.OrderedDict(
        z=[one, (one, None)], a=Pair(one, "name"), d=collections.defaultdict(list, {"k": one}), s=state, n=7, f=0.5
    )
    there = convert(tree, target)
    assert type(there) is collections.OrderedDict
    assert list(there) == ["z", "a", "d", "s", "n", "f"]
    assert type(there["z"][1]) is tuple
    assert there["z"][1][1] is None
    assert type(there["a"]) is Pair
    assert there["a"].second == "name"
    assert there["d"].default_factory is list
    assert type(there["s"]) is State
    assert (there["n"], there["f"], there["s"].step) == (7, 0.5, 3)
    arrays = [there["z"][0], there["a"].first, there["d"]["k"], there["s"].weights["w"], there["s"].cache]
    # The same array five times over stays one: tied weights stay tied.
    assert all(array is arrays[0] for array in arrays)
    assert polylogit.get_backend(arrays[0]).name == target
    assert tree["z"][0] is one


def test_a_numpy_scalar_is_an_array_and_a_python_number_is_not() -> None:
    assert convert(0.5, INSTALLED[-1]) == 0.5
    scalar = convert(np.float64(0.5), "numpy", copy=True)
    assert scalar.dtype == np.float64
    assert scalar.shape == ()


def test_an_error_is_told_once() -> None:
    with pytest.raises(ConversionError) as caught:
        convert(object(), "numpy")
    assert caught.value.__cause__ is None


def test_a_tree_that_contains_itself_is_an_error() -> None:
    tree: list[Any] = []
    tree.append(tree)
    with pytest.raises(ConversionError, match="contains itself"):
        convert(tree, "numpy")


@pytest.mark.requires("torch")
@pytest.mark.parametrize("target", INSTALLED)
def test_a_state_dict_travels_with_its_metadata(target: str) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    there = convert(module.state_dict(), target)
    assert list(there) == list(module.state_dict())
    assert there._metadata == module.state_dict()._metadata
    module.load_state_dict(convert(there, "torch"))


@pytest.mark.requires("jax")
def test_registered_pytrees_are_containers() -> None:
    import jax

    @jax.tree_util.register_pytree_with_keys_class
    class Node:
        def __init__(self, child: Any) -> None:
            self.child = child

        def tree_flatten_with_keys(self) -> Any:
            return (((jax.tree_util.GetAttrKey("child"), self.child),), None)

        @classmethod
        def tree_unflatten(cls, _: Any, children: Any) -> Node:
            return cls(*children)

    there = convert({"n": Node(jax.numpy.ones(2))}, "numpy")
    assert isinstance(there["n"].child, np.ndarray)
    with pytest.raises(ConversionError, match=r"at \['n'\]\.child: "):
        convert({"n": Node(object())}, "numpy")


THIRD_PARTY = """
import numpy as np
from polylogit._backends.base import Backend
from polylogit._backends.numpy import NumpyBackend

class Boxed:
    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

class BoxedBackend(NumpyBackend):
    name = "boxed"
    lend, refuses, adopt = Backend.lend, Backend.refuses, Backend.adopt  # as of any backend that says nothing

    def owns(self, cls):
        return cls is Boxed

    def asarray(self, value, *, dtype=None, device=None):
        return Boxed(np.asarray(value, dtype))

    def to_numpy(self, x):
        return x.array
"""


def test_arrays_of_a_registered_backend_go_both_ways(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boxed_arrays.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("polylogit._registry.SPECIFICATIONS", dict(polylogit._registry.SPECIFICATIONS))
    polylogit.register_backend("boxed", "boxed_arrays:BoxedBackend")
    boxed = convert({"w": VALUES}, "boxed")["w"]
    assert type(boxed).__name__ == "Boxed"
    for name in INSTALLED:
        back = convert([boxed], name)[0]
        write(back)
        np.testing.assert_array_equal(boxed.array, VALUES)
    with pytest.raises(ConversionError, match="does not say"):
        convert(boxed, "numpy", copy=False)


# --- the target ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INSTALLED)
def test_the_target_may_be_given_by_one_of_its_arrays(name: str) -> None:
    like = convert(np.ones(1, np.float32), name)
    assert type(convert(VALUES, like)) is type(convert(VALUES, name))


def test_unknown_and_missing_targets_are_errors_that_say_so() -> None:
    with pytest.raises(UnknownBackendError, match="no_such_framework"):
        convert(VALUES, "no_such_framework")
    with pytest.raises(ConversionError, match="names no framework"):
        convert(VALUES, object())
    with pytest.raises(ConversionError, match="copy='yes'"):
        convert(VALUES, "numpy", copy="yes")  # type: ignore[arg-type]


def test_a_framework_that_cannot_be_imported_is_named() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, polylogit\n"
        "try: polylogit.convert(np.ones(2), 'torch')\n"
        "except polylogit.errors.BackendUnavailableError as error: print('named', 'torch' in str(error))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "named True"
    assert issubclass(BackendUnavailableError, ImportError)


def test_converting_imports_the_target_and_nothing_else() -> None:
    code = (
        "import sys, numpy as np\nfrom polylogit import convert\nconvert([np.ones(2)], 'numpy', copy=True)\n"
        "print([name for name in ('torch', 'tensorflow', 'jax', 'ml_dtypes') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
