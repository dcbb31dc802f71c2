"""One mistake as a row of the table in `remedies`, and the rows on what is given as logits."""

from __future__ import annotations

from typing import NamedTuple

OPERATIONS = ("softmax", "log_softmax", "sigmoid")
ALONG_AXES = OPERATIONS[:2]


class Row(NamedTuple):
    """One mistake.

    Attributes
    ----------
    what : str
        For people: the object, or the argument.
    make : str
        Statements that make ``x``, and whatever else the call takes.
    error : str
        The class of the exception.
    remedy : tuple of str
        Code that stands in the message: the arguments to call with instead, in turn. `sigmoid` drops those that it does
        not have (``where=``).
    call : str
        The mistake.
    right : str
        What is then called; empty for the operation with the arguments of the remedy.
    means : str
        The logits that were meant, to compare with; empty where the result has no values.
    needs : tuple of str
        The libraries.
    operations : tuple of str
        Those that can be called so.
    """

    what: str
    make: str
    error: str
    remedy: tuple[str, ...]
    call: str = "{f}(x)"
    right: str = ""
    means: str = "[1.0, 2.0]"
    needs: tuple[str, ...] = ()
    operations: tuple[str, ...] = OPERATIONS


def _object(what: str, make: str, *remedy: str, error: str = "UnsupportedArrayError", **more: object) -> Row:
    return Row(what, make if "\nx = " in make else f"x = {make}", error, remedy, **more)  # type: ignore[arg-type]


def _torch(what: str, make: str, *remedy: str, **more: object) -> Row:
    return _object(what, make, *remedy, needs=("torch",), **more)


def _tensorflow(what: str, make: str, *remedy: str, **more: object) -> Row:
    return _object(what, make, *remedy, needs=("tensorflow",), **more)


def _jax(what: str, make: str, *remedy: str, **more: object) -> Row:
    return _object(what, make, *remedy, needs=("jax",), **more)


_OUTPUT = """
@dataclasses.dataclass
class Output(collections.OrderedDict):
    logits: object = None
x = Output(logits=np.array([1.0, 2.0]))"""
_NAN = "numpy.array(x, dtype=float)"

OBJECTS = [
    _object("a generator", "(float(one) for one in (1, 2))", "list(x)"),
    _object("`map`", "map(float, (1, 2))", "list(x)"),
    _object("`filter`", "filter(None, (1.0, 2.0))", "list(x)"),
    _object("`zip`", "zip((1.0, 2.0), (3.0, 4.0))", "list(x)", means="[[1.0, 3.0], [2.0, 4.0]]"),
    _object("an iterator", "iter([1.0, 2.0])", "list(x)"),
    _object("a set", "{2.0, 1.0}", "sorted(x)"),
    _object("a frozenset", "frozenset({2.0, 1.0})", "sorted(x)"),
    _object("a deque", "collections.deque([1.0, 2.0])", "list(x)"),
    _object("a dict", "{'a': 1.0, 'b': 2.0}", "list(x.values())"),
    _object("a Counter", "collections.Counter(a=1, b=2)", "list(x.values())"),
    _object("a mapping", "types.MappingProxyType({'a': 1.0, 'b': 2.0})", "list(x.values())"),
    _object("the values of a dict", "{'a': 1.0, 'b': 2.0}.values()", "list(x)"),
    _object("the items of a dict", "{'a': 1.0, 'b': 2.0}.items()", "[value for _, value in x]"),
    _object("`array.array`", "array.array('d', [1.0, 2.0])", "numpy.asarray(x)"),
    _object("a memoryview", "memoryview(np.array([1.0, 2.0]))", "numpy.asarray(x)"),
    _object("an array of ctypes", "(ctypes.c_double * 2)(1.0, 2.0)", "numpy.ctypeslib.as_array(x)"),
    _object("a subclass of list", "type('Row', (list,), {})([1.0, 2.0])", "list(x)"),
    _object("a Decimal", "decimal.Decimal('1.5')", "float(x)", means="1.5"),
    _object("a Fraction", "fractions.Fraction(3, 2)", "float(x)", means="1.5"),
    _object("a timedelta", "datetime.timedelta(seconds=1.5)", "x.total_seconds()", means="1.5"),
    _object("text", "'1.5'", "float(x)", means="1.5"),
    _object("a function that was not called", "lambda: [1.0, 2.0]", "x()"),
    _object("a method that was not called", "np.array([1.0, 2.0]).tolist", "x()"),
    _object("a model's output", _OUTPUT, "x.logits"),
    _object("an object with logits", "types.SimpleNamespace(logits=[1.0, 2.0])", "x.logits"),
    _object("a named tuple with logits", "collections.namedtuple('Out', 'loss logits')(0.1, [1.0, 2.0])", "x.logits"),
    _object("a named tuple", "collections.namedtuple('Pair', 'a b')(1.0, 2.0)", "tuple(x)"),
    _object("`np.matrix`", "np.array([[1.0, 2.0]]).view(np.matrix)", "numpy.asarray(x)", means="[[1.0, 2.0]]"),
    _object(
        "a masked array",
        "np.ma.array([1.0, 2.0, 9.0], mask=[False, False, True])",
        "x.filled(0)",
        "where=~numpy.ma.getmaskarray(x)",
        right="numpy.asarray({call})[:2]",
    ),
    _object("a sparse matrix", "scipy.sparse.csr_matrix([[1.0, 2.0]])", "x.toarray()", means="[[1.0, 2.0]]"),
    _object("a sparse array", "scipy.sparse.coo_array([[1.0, 2.0]])", "x.toarray()", means="[[1.0, 2.0]]"),
    _object("objects", "np.array([1.0, 2.0], dtype=object)", "x.astype(float)", error="DTypeError"),
    _object("texts", "np.array(['1.0', '2.0'])", "x.astype(float)", error="DTypeError"),
    _object("complex numbers", "np.array([1j, 2.0])", "abs(x)", error="DTypeError"),
    _object("durations", "np.array([1, 2], 'timedelta64[s]')", "x / numpy.timedelta64(1, 's')", error="DTypeError"),
    _object(
        "a list with None",
        "[1.0, None, 2.0]",
        _NAN,
        f"where=~numpy.isnan({_NAN})",
        error="DTypeError",
        right="numpy.asarray({call})[[0, 2]]",
    ),
    _object("a list of texts", "['1.0', '2.0']", _NAN, error="DTypeError"),
    _object("a list of Decimals", "[decimal.Decimal(1), decimal.Decimal(2)]", _NAN, error="DTypeError"),
    _object(
        "a list of generators", "[(float(one) for one in (1, 2))]", "[list(one) for one in x]", means="[[1.0, 2.0]]"
    ),
    _object("a list of dicts", "[{'a': 1.0, 'b': 2.0}]", "[list(one.values()) for one in x]", means="[[1.0, 2.0]]"),
    _torch("a model", "torch.nn.Identity()\ninputs = torch.tensor([1.0, 2.0])", "x(inputs)"),
    _torch("a distribution", "torch.distributions.Bernoulli(logits=torch.tensor([1.0, 2.0]))", "x.logits"),
    _torch("packed sequences", "torch.nn.utils.rnn.pack_sequence([torch.tensor([1.0, 2.0])])", "x.data"),
    _torch("`torch.Size`", "torch.Size([1, 2])", "list(x)"),
    _torch("a sparse tensor", "torch.tensor([1.0, 2.0]).to_sparse()", "x.to_dense()"),
    _torch(
        "a sparse tensor in rows", "torch.tensor([[1.0, 2.0]]).to_sparse_csr()", "x.to_dense()", means="[[1.0, 2.0]]"
    ),
    _torch(
        "a quantized tensor",
        "torch.quantize_per_tensor(torch.tensor([1.0, 2.0]), 0.5, 0, torch.qint8)",
        "x.dequantize()",
        error="DTypeError",
    ),
    *(
        _torch(
            f"a nested tensor, {layout}",
            f"torch.nested.nested_tensor([torch.tensor([1.0, 2.0]), torch.ones(3)], layout=torch.{layout})",
            "torch.nested.to_padded_tensor(x, 0.0)",
            "where=torch.nested.to_padded_tensor(torch.ones_like(x), 0.0) != 0",
            right="{call}[0, :2]",
        )
        for layout in ("strided", "jagged")
    ),
    _torch(
        "a list of tensors",
        "[torch.tensor([1.0, 2.0])]",
        "torch.stack(x)",
        error="MixedBackendsError",
        means="[[1.0, 2.0]]",
    ),
    _torch(
        "a tuple of numbers in tensors",
        "(torch.tensor(1.0), 2.0)",
        "torch.stack([torch.as_tensor(one) for one in x])",
        error="MixedBackendsError",
    ),
    _torch(
        "lists of tensors",
        "[[torch.tensor([1.0, 2.0])]]",
        "torch.stack([torch.stack(row) for row in x])",
        error="MixedBackendsError",
        means="[[[1.0, 2.0]]]",
    ),
    _torch(
        "tensors of several shapes",
        "[torch.tensor([1.0, 2.0]), torch.ones(3)]",
        "[polylogit.{f}(one) for one in x]",
        error="MixedBackendsError",
        right="{remedy}[0]",
    ),
    _tensorflow(
        "a ragged tensor",
        "tf.ragged.constant([[1.0, 2.0], [3.0]])",
        "x.to_tensor()",
        "where=tf.ones_like(x, dtype=tf.bool).to_tensor()",
        right="{call}[0]",
    ),
    _tensorflow("a sparse tensor", "tf.sparse.from_dense([[1.0, 2.0]])", "tf.sparse.to_dense(x)", means="[[1.0, 2.0]]"),
    _tensorflow(
        "slices of a gradient",
        "tf.IndexedSlices(tf.constant([[1.0, 2.0]]), tf.constant([0]), tf.constant([1, 2]))",
        "tf.convert_to_tensor(x)",
        means="[[1.0, 2.0]]",
    ),
    _tensorflow(
        "a specification",
        "tf.TensorSpec([2], tf.float32)",
        "tensorflow.function(polylogit.{f}).get_concrete_function(x)",
        right="{remedy}",
        means="",
    ),
    _tensorflow(
        "a dataset", "tf.data.Dataset.from_tensors([1.0, 2.0])", "x.map(polylogit.{f})", right="next(iter({remedy}))"
    ),
    _tensorflow(
        "a Keras tensor", "keras.Input((2,))", "keras.layers.Activation(polylogit.{f})(x)", right="{remedy}", means=""
    ),
    _tensorflow("a layer", "keras.layers.Identity()\ninputs = tf.constant([1.0, 2.0])", "x(inputs)"),
    _tensorflow("texts of TensorFlow", "tf.constant(['1.0', '2.0'])", "tf.strings.to_number(x)", error="DTypeError"),
    _tensorflow("complex tensors", "tf.constant([1j, 2.0])", "abs(x)", error="DTypeError"),
    _tensorflow(
        "a list of tensors",
        "[tf.constant([1.0, 2.0])]",
        "tf.stack(x)",
        error="MixedBackendsError",
        means="[[1.0, 2.0]]",
    ),
    _jax(
        "a shape",
        "jax.ShapeDtypeStruct((2,), 'float32')",
        "jax.eval_shape(polylogit.{f}, x)",
        right="{remedy}",
        means="",
    ),
    _jax("a sparse array of JAX", "jax.experimental.sparse.BCOO.fromdense(jnp.array([1.0, 2.0]))", "x.todense()"),
    _jax(
        "a list of arrays", "[jnp.array([1.0, 2.0])]", "jnp.stack(x)", error="MixedBackendsError", means="[[1.0, 2.0]]"
    ),
    _jax(
        "an axis that is traced",
        "jnp.array([1.0, 2.0])\nfunction = {f}",
        'jax.jit(function, static_argnames="axis")',
        error="AxisTypeError",
        call="jax.jit({f})(x, axis=-1)",
        right="{remedy}(x, axis=-1)",
        operations=ALONG_AXES,
    ),
    _object("an index", "pandas.Index([1.0, 2.0])", "x.to_numpy(dtype=float)", needs=("pandas",)),
    _object("a nullable array", "pandas.array([1.0, 2.0])", "x.to_numpy(dtype=float)", needs=("pandas",)),
    _object(
        "a Series of objects",
        "pandas.Series([1.0, 2.0], dtype=object)",
        "x.astype(float)",
        error="DTypeError",
        needs=("pandas",),
    ),
    _object(
        "a DataFrame with texts",
        "pandas.DataFrame({'a': [1.0], 'b': [2.0], 'c': ['x']})",
        'x.select_dtypes("number")',
        error="DTypeError",
        means="[[1.0, 2.0]]",
        needs=("pandas",),
    ),
    _object(
        "groups of rows",
        "pandas.Series([1.0, 2.0]).groupby([0, 0])",
        "x.transform(polylogit.{f})",
        right="{remedy}",
        needs=("pandas",),
    ),
    _object(
        "a lazy frame",
        "polars.LazyFrame({'a': [1.0], 'b': [2.0]})",
        "x.collect()",
        means="[[1.0, 2.0]]",
        needs=("polars",),
    ),
    _object(
        "an expression",
        "polars.col('a')",
        "x.map_batches(polylogit.{f}, return_dtype=polars.Float64)",
        right="polars.DataFrame({{'a': [1.0, 2.0]}}).select({remedy})['a']",
        needs=("polars",),
    ),
    _object(
        "a Series of texts",
        "polars.Series(['1.0', '2.0'])",
        "x.cast(polars.Float64)",
        error="DTypeError",
        needs=("polars",),
    ),
    _object("a variable of xarray", "xarray.Variable(('a',), [1.0, 2.0])", "x.values", needs=("xarray",)),
    _object(
        "a picture of PIL",
        "PIL.Image.fromarray(np.array([[1, 2]], np.uint8))",
        "numpy.asarray(x)",
        means="[[1.0, 2.0]]",
        needs=("PIL",),
    ),
    _torch("what `topk` returns", "torch.tensor([1.0, 2.0, 0.0]).topk(2)", "x.values", means="[2.0, 1.0]"),
    _torch("what `max` returns", "torch.tensor([[1.0, 2.0]]).max(0)", "x.values"),
    _torch("what `sort` returns", "torch.tensor([2.0, 1.0]).sort()", "x.values"),
    _torch(
        "a tuple of values and indices",
        "tuple(torch.tensor([1.0, 2.0, 0.0]).topk(2))",
        "x[0]",
        error="MixedBackendsError",
        means="[2.0, 1.0]",
    ),
    _jax(
        "what `top_k` returns",
        "jax.lax.top_k(jnp.array([1.0, 2.0, 0.0]), 2)",
        "x[0]",
        error="MixedBackendsError",
        means="[2.0, 1.0]",
    ),
    _tensorflow("a tuple of `top_k`", "tf.math.top_k(tf.constant([1.0, 2.0, 0.0]), 2)", "x.values", means="[2.0, 1.0]"),
    _object(
        "rows in an array of objects",
        "np.array([[1.0, 2.0], None], dtype=object)[:1]",
        "numpy.stack(x)",
        error="DTypeError",
        means="[[1.0, 2.0]]",
    ),
    _object(
        "rows of several lengths in an array of objects",
        "np.array([[1.0, 2.0], [3.0]], dtype=object)",
        "[polylogit.softmax(row) for row in x]",
        error="DTypeError",
        right="{remedy}[0]",
        operations=("softmax",),
    ),
    _object(
        "categories",
        "pandas.Series(['b', 'c'], dtype='category')",
        "x.cat.codes",
        error="DTypeError",
        means="[0.0, 1.0]",
        needs=("pandas",),
    ),
    *(
        _object(what, f"polars.Series({made})", remedy, error="DTypeError", means=means, needs=("polars",))
        for what, made, remedy, means in (
            ("dates of polars", "[datetime.date(2020, 1, 1)] * 2", "(x - x.min()).dt.total_seconds()", "[0.0, 0.0]"),
            ("durations of polars", "[datetime.timedelta(seconds=1)] * 2", "x.dt.total_seconds()", "[1.0, 1.0]"),
            ("lists of polars", "[[1.0, 2.0]]", "x.to_list()", "[[1.0, 2.0]]"),
            ("arrays of polars", "[[1.0, 2.0]], dtype=polars.Array(polars.Float64, 2)", "x.to_numpy()", "[[1.0, 2.0]]"),
            ("categories of polars", "['b', 'b'], dtype=polars.Categorical", "x.to_physical()", "[0.0, 0.0]"),
        )
    ),
]
