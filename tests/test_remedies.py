"""What a message says to write is written, literally, and works: the mistakes of `remedies`, for each operation."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import numpy as np
import pytest

import polylogit
from polylogit import errors
from remedies import BACKENDS, OPERATIONS, ROWS, Row

_AS = {"np": "numpy", "tf": "tensorflow", "jnp": "jax.numpy"}
_NAMES = re.compile(r"\b([A-Za-z_]+)(?=\.)")


def parameters() -> list[Any]:
    return [
        pytest.param(row, operation, id=f"{row.what}-{operation}", marks=pytest.mark.requires(*row.needs))
        for row in ROWS
        for operation in row.operations
    ]


def names_in(*code: str) -> dict[str, Any]:
    """polylogit, and the modules that the code mentions, as whoever wrote it has imported them."""
    found = {"polylogit": polylogit, "numpy": np} | {name: getattr(polylogit, name) for name in OPERATIONS}
    for name in dict.fromkeys(_NAMES.findall("\n".join(code))):
        module = _AS.get(name, name)
        if name not in found and importlib.util.find_spec(module.partition(".")[0]):
            found[name] = importlib.import_module(module)
    for submodule in ("scipy.sparse", "PIL.Image", "jax.experimental.sparse"):
        if submodule in "\n".join(code):
            importlib.import_module(submodule)
    return found


def filled(template: str, row: Row, operation: str) -> str:
    """Code with the operation, the remedy and the call in the place of their names."""
    remedy = [one.replace("{f}", operation) for one in row.remedy]
    if operation == "sigmoid":
        remedy = [one for one in remedy if not one.startswith("where=")]
    call = f"{operation}({', '.join(remedy)})"
    return (template or "{call}").format(f=operation, remedy=", ".join(remedy), call=call)


def meant(row: Row, operation: str) -> Any:
    return getattr(polylogit, operation)(np.array(eval(row.means), dtype=np.float64))


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, of prototypes
@pytest.mark.parametrize(("row", "operation"), parameters())
def test_what_the_message_says_to_write_works(row: Row, operation: str) -> None:
    made, call = row.make.replace("{f}", operation), row.call.format(f=operation)
    right = filled(row.right, row, operation)
    names = names_in(made, call, right)
    exec(made, names)
    with pytest.raises(errors.PolylogitError) as caught:
        eval(call, names)
    assert type(caught.value).__name__ == row.error
    for fragment in row.remedy:
        assert fragment.replace("{f}", operation) in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__

    if "where=(where" in right:
        names["where"] = names["numbers"]
    if "where[" in right:
        names["where"] = names["mask"]
    result = eval(right, names)
    assert result is not None
    if row.means:
        np.testing.assert_allclose(polylogit.convert(result, "numpy"), meant(row, operation), rtol=1e-6)


def test_there_are_three_hundred_of_them() -> None:
    assert len({(row.what, row.make, row.call, operation) for row in ROWS for operation in row.operations}) >= 300


# --- what people call the frameworks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["np", "pytorch", "tf", "jnp"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_other_words_for_the_four_backends_work(written: str, operation: str) -> None:
    name = {"np": "numpy", "pytorch": "torch", "tf": "tensorflow", "jnp": "jax"}[written]
    if not importlib.util.find_spec(name):
        return
    result = getattr(polylogit, operation)([1.0, 2.0], backend=written)
    assert polylogit.get_backend(result).name == polylogit.get_backend(written).name == name
    assert polylogit.get_backend(polylogit.convert(np.ones(2, np.float32), written)).name == name
    with polylogit.use_backend(written) as backend:
        assert polylogit.get_backend([1.0]) is backend
        assert backend.name == name


@pytest.mark.parametrize("module", ["numpy", "torch", "tensorflow", "jax", "jax.numpy"])
def test_a_framework_itself_is_as_good_as_its_name(module: str) -> None:
    name = module.partition(".")[0]
    if not importlib.util.find_spec(name):
        return
    given = importlib.import_module(module)
    for result in (polylogit.softmax([1.0, 2.0], backend=given), polylogit.convert(np.ones(2, np.float32), given)):
        assert polylogit.get_backend(result) is polylogit.get_backend(given)
        assert polylogit.get_backend(result).name == name
    with polylogit.use_backend(given) as backend:
        assert backend.name == name


@pytest.mark.parametrize("module", [re, pytest])
def test_another_module_is_no_backend(module: Any) -> None:
    for call in (lambda: polylogit.softmax([1.0], backend=module), lambda: polylogit.convert(np.ones(1), module)):
        with pytest.raises(errors.UnknownBackendError, match=module.__name__):
            call()


def test_a_backend_that_nobody_knows_is_not_guessed() -> None:
    assert {row.error for row in BACKENDS} == {"UnknownBackendError"}
    with pytest.raises(errors.UnknownBackendError, match="register_backend"):
        polylogit.softmax([1.0], backend="cuda")


# --- what has no array to offer --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (None, "x, an object of the type NoneType, is no array: it is None"),
        ([1.0, None], r"x\[1\] is None"),
        ([[1.0, 2.0], [3.0, None]], r"x\[1\]\[1\] is None"),
        ([1.0, {}], r"x\[1\], an object of the type dict"),
        (object(), "of the type object is no array that polylogit knows"),
    ],
    ids=["None", "None in a list", "None in a row", "a dict in a list", "anything"],
)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("options", [{}, {"dtype": "float32"}, {"backend": "numpy"}], ids=str)
def test_it_is_said_what_it_is_and_where(operation: str, x: Any, words: str, options: dict[str, str]) -> None:
    with pytest.raises((errors.UnsupportedArrayError, errors.DTypeError), match=words):
        getattr(polylogit, operation)(x, **options)


def test_a_mask_that_is_none_is_named_so() -> None:
    with pytest.raises(errors.UnsupportedArrayError, match=r"where, an object .*; pass list\(where\)"):
        polylogit.softmax([1.0], where=(True for _ in range(1)))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("options", [{}, {"dtype": "float32"}], ids=str)
def test_a_call_without_logits_says_so(operation: str, options: dict[str, str]) -> None:
    with pytest.raises(errors.ArgumentError, match=re.escape(f"write {operation}(x)")):
        getattr(polylogit, operation)(**options)


# --- and nothing of it is seen by who asks for the signature --------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_signature_is_the_documented_one(operation: str) -> None:
    function = getattr(polylogit, operation)
    parameters = inspect.signature(function).parameters
    assert "options" not in parameters
    assert "Any" not in str(inspect.signature(function))  # which would tell a reader of help nothing
    documentation, *_ = (inspect.getdoc(function) or "").partition("Returns")
    assert list(parameters) == re.findall(r"^(\w+) : ", documentation, re.MULTILINE)
    assert parameters["x"].kind is inspect.Parameter.POSITIONAL_ONLY


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_unknown_keyword_is_refused_where_it_is_differentiated(operation: str) -> None:
    with pytest.raises(errors.ArgumentError, match=rf"^{operation}\(\) got an unexpected keyword argument 'dim'"):
        polylogit.vjp(getattr(polylogit, operation), np.ones(2), dim=0)
