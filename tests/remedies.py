"""The mistakes of everyday code, as a table: what was written, and what the message says to write instead.

`tests/test_remedies.py` makes each mistake, looks for the remedy in the message, and does it literally;
`tools/errors_page.py` makes the page on errors of the same rows. In code ``{f}`` stands for an operation.
"""

from __future__ import annotations

from typing import NamedTuple

from frameworks import FRAMEWORKS

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
]

# What each framework's users write: x, a mask of bool, of numbers, and one that is added.
_MADE = {
    "numpy": "x = np.array([[1.0, 2.0], [3.0, 5.0]])\nmask = x > 1.5\nnumbers = mask.astype(float)",
    "torch": "x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])\nmask = x > 1.5\nnumbers = mask.float()",
    "tensorflow": "x = tf.constant([[1.0, 2.0], [3.0, 5.0]])\nmask = x > 1.5\nnumbers = tf.cast(mask, tf.float32)",
    "jax": "x = jnp.array([[1.0, 2.0], [3.0, 5.0]])\nmask = x > 1.5\nnumbers = mask.astype(float)",
}
_NAMES = "\nattn_mask = attention_mask = mask\nkey_padding_mask = ~mask"

# What is written, what it is called here, and what is left of it for sigmoid.
_KEYWORDS = [
    ("dim=0", "axis=0", ""),
    ("dims=(0, 1)", "axis=(0, 1)", ""),
    ("axes=-2", "axis=-2", ""),
    ("dim=0, keepdim=True", "axis=0", ""),
    ("keepdims=True", "", ""),
    ("name='probabilities'", "", ""),
    ("device='cpu'", "", ""),
    ("training=False", "", ""),
    ("mask=mask", "where=mask", ""),
    ("attn_mask=mask", "where=attn_mask", ""),
    ("attention_mask=mask", "where=attention_mask", ""),
    ("key_padding_mask=~mask", "where=~key_padding_mask", ""),
    ("attention_mask=numbers", "where=(attention_mask != 0)", ""),
    ("dtpye='float32'", "dtype='float32'", "dtype='float32'"),
    ("out_dtype='float32', dim=0", "axis=0, dtype='float32'", "dtype='float32'"),
    ("axsi=0", "axis=0", ""),
    ("precision='high'", "", ""),
]
KEYWORDS = [
    Row(
        f"`{written}`",
        _MADE[framework] + _NAMES + "\nattention_mask = numbers" * ("numbers" in written),
        "ArgumentError",
        (f"{operation}({', '.join(['x', *([kept] if kept else [])])})",),
        call=f"{{f}}(x, {written})",
        right="{remedy}",
        means="",
        needs=() if framework == "numpy" else (framework,),
        operations=(operation,),
    )
    for number, (written, here, left) in enumerate(_KEYWORDS)
    for framework in (FRAMEWORKS if number % 3 == 0 else FRAMEWORKS[:1])  # the frameworks have it from one place
    for operation in OPERATIONS
    for kept in [left if operation == "sigmoid" else here]
]
KEYWORDS += [
    Row(f"`{name}=x`", _MADE["numpy"], "ArgumentError", ("{f}(x)",), f"{{f}}({name}=x)", "{remedy}", "")
    for name in ("x", "input", "logits", "a")
]

_BOTH = ", axis=-1, "
ARGUMENTS = [
    Row(what, _MADE[framework], error, (remedy,), f"{{f}}(x, {written})", f"{{f}}(x, {remedy})", "", needs, ALONG_AXES)
    for what, written, error, remedy in (
        ("an axis by name", "axis='rows'", "AxisTypeError", "axis=-1"),
        ("an axis with a point", "axis=1.0", "AxisTypeError", "axis=-1"),
        ("`axis=True`", "axis=True", "AxisTypeError", "axis=-1"),
        ("an axis out of range", "axis=2", "AxisError", "axis=None"),
        ("a mask of ones and zeros", "where=numbers", "DTypeError", "where=(where != 0)"),
        ("a dtype of integers", "dtype='int8'", "DTypeError", 'dtype="float32"'),
        ("a dtype that does not exist", "dtype='flaot32'", "DTypeError", 'dtype="float32"'),
    )
    for framework in FRAMEWORKS
    for needs in [() if framework == "numpy" else (framework,)]
]
ARGUMENTS += [
    Row(
        "a mask without the inner dimensions",
        "x = np.zeros((2, 3, 4, 5))\nmask = np.ones((2, 5), bool)",
        "MaskError",
        ("where=where[:, None, None, :]",),
        "{f}(x, where=mask)",
        "{f}(x, {remedy})",
        "",
        (),
        ALONG_AXES,
    ),
    Row(
        "a mask of two frameworks",
        "x = np.ones(2)\nwhere = torch.ones(2) > 0",
        "MixedBackendsError",
        ('polylogit.convert(where, "numpy")',),
        "{f}(x, where=where)",
        "{f}(x, where={remedy})",
        "",
        ("torch",),
        ALONG_AXES,
    ),
    Row(
        "an array for another backend",
        "x = torch.tensor([1.0, 2.0])",
        "MixedBackendsError",
        ('polylogit.convert(x, "numpy")',),
        "{f}(x, backend='numpy')",
        needs=("torch",),
    ),
]

_FOREIGN = {
    "numpy": "np.array([1.0, 2.0])",
    "torch": "torch.tensor([1.0, 2.0])",
    "tensorflow": "tf.constant([1.0, 2.0])",
}
_FOREIGN["jax"] = "jnp.array([1.0, 2.0])"
DTYPES = [
    Row(
        f"a dtype of {source} for an array of {framework}",
        f"x = {_FOREIGN[framework]}",
        "DTypeError",
        (f"dtype={dtype!r}",),
        f"{{f}}(x, dtype={short}.{dtype})",
        "{f}(x, {remedy})",
        "",
        tuple({framework, source} - {"numpy"}),
    )
    for framework in FRAMEWORKS
    for source, short in (("torch", "torch"), ("tensorflow", "tf"))
    for dtype in ("float16", "float64" if framework != "jax" else "float32")
    if source != framework
]

DTYPES += [
    Row(
        f"`dtype={written}`",
        f"x = {_FOREIGN[framework]}",
        "DTypeError",
        (f'dtype="{dtype}"',),
        f"{{f}}(x, dtype={written})",
        "{f}(x, {remedy})",
        "",
        tuple({framework, *needs} - {"numpy"}),
    )
    for framework in FRAMEWORKS
    for written, dtype, needs in (
        ("'fp16'", "float16", ()),
        ("'bf16'", "bfloat16", ("jax",)),  # with which ml_dtypes comes
        ("'torch.float16'", "float16", ()),
        ("torch.FloatTensor", "float32", ("torch",)),
        ("torch.ones(2)", "float32", ("torch",)),
    )
]
DTYPES += [
    Row(
        "a dtype of polars",
        "x = polars.Series([1.0, 2.0])",
        "DTypeError",
        ("dtype='float32'",),
        "{f}(x, dtype=polars.Float32)",
        "{f}(x, {remedy})",
        "",
        ("polars",),
    ),
    Row(
        "a dtype of pandas",
        "x = pandas.Series([1.0, 2.0])",
        "DTypeError",
        ("dtype='float32'",),
        "{f}(x, dtype=pandas.Float32Dtype())",
        "{f}(x, {remedy})",
        "",
        ("pandas",),
    ),
]

BACKENDS = [
    Row(
        f"`backend={written!r}`",
        "x = [1.0, 2.0]",
        "UnknownBackendError",
        (repr(name),),
        f"{{f}}(x, backend={written!r})",
        "{f}(x, backend={remedy})",
        needs=() if name == "numpy" else (name,),
    )
    for written, name in (
        ("PyTorch", "torch"),
        ("tensorlfow", "tensorflow"),
        ("TensorFlow", "tensorflow"),
        ("JAX", "jax"),
        ("NumPy", "numpy"),
    )
]

_NARROW = {"numpy": "np.array([1.0, 2.0], np.float32)"}  # which JAX has too
DIRECTIONS = [
    Row(
        f"a {argument} of {source} for logits of {framework}",
        f"x = {_FOREIGN[framework]}\n{argument} = {_NARROW.get(source, _FOREIGN[source])}",
        "MixedBackendsError",
        (f'polylogit.convert({argument}, "{framework}")',),
        call.replace("{g}", argument),
        call.replace("{g}", "{remedy}"),
        "",
        tuple({framework, source} - {"numpy"}),
        ("softmax",),
    )
    for framework in FRAMEWORKS
    for source in FRAMEWORKS
    if source != framework
    for argument, call in (
        ("cotangent", "polylogit.vjp({f}, x)[1]({g})"),
        ("tangent", "polylogit.jvp({f}, x, {g})"),
        ("cotangent", "polylogit.gradient({f}, {g})(x)"),
        ("cotangent", "polylogit.vjp(polylogit.gradient({f}, {g}), x)"),
    )
]
DIRECTIONS += [
    Row(
        "an operation in a function of one's own, on NumPy",
        "x = np.array([1.0, 2.0])",
        "DifferentiationError",
        ("polylogit.vjp(polylogit.softmax, x, temperature=2.0)",),
        "polylogit.vjp(lambda x: {f}(x, temperature=2.0), x)",
        "{remedy}",
        "",
        (),
        ("softmax",),
    ),
    Row(
        "no cotangent",
        "x = np.array([1.0, 2.0])\ncotangent = np.ones(2)",
        "UnsupportedArrayError",
        ("pass the array itself",),
        "polylogit.vjp({f}, x)[1](None)",
        "polylogit.vjp({f}, x)[1](cotangent)",
        "",
        (),
        ("softmax",),
    ),
]

ROWS = [*OBJECTS, *KEYWORDS, *ARGUMENTS, *DTYPES, *BACKENDS, *DIRECTIONS]
