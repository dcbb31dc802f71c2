"""The error for an object that is not an array: it says what the object is, and what to pass instead.

The table has names of classes, so it needs to import no library; for other classes, their methods tell. In a remedy,
``x`` stands for the object. Knows libraries only by name.
"""

from __future__ import annotations

from polylogit._extras import command

TYPE_CHECKING = False  # as in polylogit._registry
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["remedy"]


def _table(*rows: tuple[tuple[str, ...], str, str]) -> dict[str, tuple[str, str]]:
    return {name: (what, instead) for names, what, instead in rows for name in names}


# The top-level package and the class, or a class that it inherits from -> what that is, what to write.
_BY_CLASS = _table(
    (("builtins.NoneType",), "is None, which a function without `return` gives", "pass the array itself"),
    (
        ("builtins.str", "builtins.bytes"),
        "is text",
        "read the number in it with float(x), or a file with numpy.load(x)",
    ),
    (
        ("builtins.generator", "builtins.map", "builtins.filter", "builtins.zip", "collections.deque"),
        "gives its values one after another",
        "pass list(x)",
    ),
    (("builtins.set", "builtins.frozenset"), "has no order", "pass sorted(x)"),
    (("builtins.dict_items",), "pairs names with values", "pass [value for _, value in x]"),
    (("builtins.dict_values", "builtins.dict_keys"), "is a view of a dict", "pass list(x)"),
    (("builtins.bytearray", "builtins.memoryview", "array.array"), "is a buffer", "pass numpy.asarray(x)"),
    (("_ctypes.Array",), "is a buffer", "pass numpy.ctypeslib.as_array(x)"),
    (("builtins.function", "builtins.method"), "is a function", "call it, and pass the result: x()"),
    (("builtins.builtin_function_or_method",), "is a function", "call it, and pass the result: x()"),
    (("builtins.type",), "is a class", "pass an array"),
    (("builtins.module",), "is a module", "pass an array"),
    (("decimal.Decimal", "fractions.Fraction"), "is no number of a machine", "pass float(x)"),
    (("datetime.timedelta",), "is a duration", "pass x.total_seconds()"),
    (("torch.Module",), "is a model", "pass what it returns: x(inputs)"),
    (("keras.Layer", "tf_keras.Layer", "flax.Module"), "is a model", "pass what it returns: x(inputs)"),
    (("torch.PackedSequence",), "packs sequences of several lengths", "pass x.data"),
    (("torch.Size",), "is a shape", "pass list(x)"),
    (("torch.Generator",), "makes random numbers", "pass torch.randn(3, generator=x)"),
    (("torch.DataLoader",), "gives batches one after another", "loop over it: for batch in x"),
    (
        ("keras.KerasTensor",),
        "is a symbolic tensor of a model's definition",
        "call in a layer, to which Keras passes the arrays: keras.layers.Activation(polylogit.{operation})(x)",
    ),
    (
        ("tensorflow.TensorSpec",),
        "is the shape of a tensor",
        "trace with it: tensorflow.function(polylogit.{operation}).get_concrete_function(x)",
    ),
    (("tensorflow.DatasetV2",), "gives its elements one after another", "pass x.map(polylogit.{operation}) on"),
    (("jax.ShapeDtypeStruct",), "is the shape of an array", "ask with jax.eval_shape(polylogit.{operation}, x)"),
    (("jax.JAXSparse",), "is sparse: an absent entry has no logit", "pass x.todense()"),
    (("scipy._spbase", "scipy.spmatrix"), "is sparse: an absent entry has no logit", "pass x.toarray()"),
    (("PIL.Image",), "is a picture", "pass numpy.asarray(x)"),
    (("pandas.Index", "pandas.ExtensionArray"), "has no labels to keep", "pass x.to_numpy(dtype=float)"),
    (
        ("pandas.SeriesGroupBy", "pandas.DataFrameGroupBy"),
        "groups rows",
        "apply to each group: x.transform(polylogit.{operation})",
    ),
    (
        ("pandas.Series",),
        "is a column",
        f"install what serves it, `{command('dataframes')}`, or pass x.to_numpy()",
    ),
    (
        ("pandas.DataFrame",),
        "is a table",
        f"install what serves it, `{command('dataframes')}`, or pass x.to_numpy()",
    ),
    (("polars.LazyFrame",), "has not been computed", "pass x.collect()"),
    (
        ("polars.Expr",),
        "is an expression",
        "apply it in a query: x.map_batches(polylogit.{operation}, return_dtype=polars.Float64)",
    ),
    (("pyarrow.Array", "pyarrow.ChunkedArray"), "is a column", "pass x.to_numpy(zero_copy_only=False)"),
    (("xarray.Variable",), "has no coordinates", "pass x.values"),
)

# Where a model's output, whatever its class is called, has its logits.
_OUTPUTS = ("logits", "last_hidden_state", "prediction_logits", "output")


def remedy(cls: type, x: Any = None, *, operation: str = "softmax", argument: str = "x") -> str:
    """Return what an object is, and what to pass instead, as clauses; empty if unknown.

    Parameters
    ----------
    cls : type
        The class of the object.
    x : object, optional
        The object, if available.
    operation : str, optional
        The operation that was called.
    argument : str, optional
        The name of the object in the remedy.
    """
    import re  # only for an error

    found = _by_class(cls) or _of_output(cls, x) or _by_methods(cls)
    if found is None:
        return ""
    what, instead = found
    instead = instead.replace("{operation}", operation)
    return f"{what}; " + re.sub(r"\bx\b", argument, instead)


def _by_class(cls: type) -> tuple[str, str] | None:
    for base in cls.__mro__[:-1]:
        module = str(getattr(base, "__module__", "ctypes"))  # arrays of ctypes have none
        name = f"{module.partition('.')[0]}.{base.__name__}"
        if (found := _BY_CLASS.get(name)) is not None:
            return found
    return None


def _of_output(cls: type, x: Any) -> tuple[str, str] | None:
    """For the output of a model, or a distribution: the attribute with the logits."""
    fields: Iterable[str] = getattr(cls, "_fields", ()) or getattr(cls, "__dataclass_fields__", ())
    for name in _OUTPUTS:
        if name in fields or name in getattr(x, "__dict__", ()) or (name == "logits" and hasattr(cls, name)):
            return "holds several arrays", f"pass x.{name}"
    if issubclass(cls, tuple) and hasattr(cls, "values") and hasattr(cls, "indices"):  # of topk, max or sort
        return "holds values and their indices", "pass x.values"
    if issubclass(cls, tuple) and fields:
        first, *_ = fields
        return f"is a tuple of {', '.join(fields)}", f"pass one of them, such as x.{first}, or tuple(x) for all"
    return None


def _by_methods(cls: type) -> tuple[str, str] | None:
    from collections.abc import Iterable, Mapping  # only for an error
    from numbers import Number

    if issubclass(cls, Mapping):
        return "is a mapping of names to values", "pass list(x.values())"
    if issubclass(cls, (list, tuple)):
        return f"is a {cls.__name__}", "pass list(x)"
    if issubclass(cls, Number):
        return "is a number of another kind", "pass float(x)"
    if hasattr(cls, "__array__"):
        return "has values that NumPy can read", "pass numpy.asarray(x)"
    if hasattr(cls, "__dlpack__"):
        return "has values that DLPack can pass on", "pass numpy.from_dlpack(x)"
    if issubclass(cls, Iterable):
        return "gives its values one after another", "pass list(x)"
    return None
