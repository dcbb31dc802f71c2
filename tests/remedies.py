"""The mistakes of everyday code, as a table: what was written, and what the message says to write instead.

`tests/test_remedies.py` makes each mistake, looks for the remedy in the message, and does it literally;
`tools/errors_page.py` makes the page on errors of the same rows. In code ``{f}`` stands for an operation.
"""

from __future__ import annotations

from frameworks import FRAMEWORKS
from remedy_objects import ALONG_AXES, OBJECTS, OPERATIONS, Row

# What each framework's users write: x, a mask of bool, of numbers, and one that is added.
_MADE = {
    "numpy": "x = np.array([[1.0, 2.0], [3.0, 5.0]])\nmask = x > 1.5\nnumbers = mask.astype(float)",
    "torch": "x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])\nmask = x > 1.5\nnumbers = mask.float()",
    "tensorflow": "x = tf.constant([[1.0, 2.0], [3.0, 5.0]])\nmask = x > 1.5\nnumbers = tf.cast(mask, tf.float32)",
    "jax": "x = jnp.array([[1.0, 2.0], [3.0, 5.0]])\nmask = x > 1.5\nnumbers = mask.astype(float)",
}
_NAMES = "\nattn_mask = attention_mask = masks = unmasked = mask\nkey_padding_mask = ~mask\nlengths = [2, 1]"

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
    ("T=2.0", "temperature=2.0", "temperature=2.0"),
    ("tau=2.0, dim=0", "axis=0, temperature=2.0", "temperature=2.0"),
    ("temp=2.0", "temperature=2.0", "temperature=2.0"),
    ("masks=mask", "where=masks", ""),
    ("unmasked=mask", "where=unmasked", ""),
    ("is_causal=False", "", ""),
    ("is_causal=True", "where=numpy.tri(*x.shape[-2:], dtype=bool).tolist()", ""),
    ("lengths=lengths", "where=(numpy.arange(x.shape[-1]) < numpy.asarray(lengths)[:, None]).tolist()", ""),
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

KEYWORDS += [
    Row(f"`{written}`", made, "ArgumentError", (right,), f"{{f}}(x, {written})", "{remedy}", "", (), ("softmax",))
    for made in [_MADE["numpy"] + "\nimport math\ntanh = np.tanh\nbias = numbers"]
    for written, right in (
        ("scale=0.5", "softmax(0.5 * x)"),
        ("beta=0.5, dim=0", "softmax(0.5 * x, axis=0)"),
        ("logit_scale=0.5", "softmax(0.5 * x)"),
        ("softcap=30.0", "softmax(30.0 * tanh(x / 30.0))"),
        ("bias=bias", "softmax(x + bias)"),
        ("base=2", "softmax(x * math.log(2))"),
    )
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

ARGUMENTS += [
    Row(
        "a mask of lengths",
        "x = np.zeros((2, 3))\nmask = where = np.array([2, 1])",
        "DTypeError",
        ("where=(numpy.arange(x.shape[-1]) < numpy.asarray(where)[:, None]).tolist()",),
        "{f}(x, where=mask)",
        "{f}(x, {remedy})",
        "",
        (),
        ALONG_AXES,
    ),
    *(
        Row(
            what,
            f"x = {x}\nwhere = {mask}",
            "MaskError",
            (remedy,),
            "{f}(x, where=where)",
            "{f}(x, where={remedy})",
            "",
            (library,),
            ALONG_AXES,
        )
        for library, remedy, masks in (
            (
                "pandas",
                'where.astype("boolean").fillna(False).astype(bool)',
                (
                    ("a nullable mask", "pandas.Series([1.0, 2.0])", "pandas.Series([True, None], dtype='boolean')"),
                    ("a mask with fewer labels", "pandas.Series([1.0, 2.0])", "pandas.Series([True]).reindex([0, 1])"),
                    ("a frame of masks", "pandas.DataFrame([[1.0, 2.0]])", "pandas.DataFrame([[True, None]])"),
                ),
            ),
            (
                "polars",
                "where.fill_null(False)",
                (("a mask with nulls", "polars.Series([1.0, 2.0])", "polars.Series([True, None])"),),
            ),
        )
        for what, x, mask in masks
    ),
    *(
        Row(
            what,
            f"x = [1.0, 2.0]\ntemperature = {given}",
            "UnsupportedArrayError",
            (remedy,),
            "{f}(x, temperature=temperature)",
            "{f}(x, temperature={remedy})",
            "",
        )
        for what, given, remedy in (
            ("a temperature that is text", "'2'", "float(temperature)"),
            ("a temperature that is a Decimal", "decimal.Decimal(2)", "float(temperature)"),
            ("temperatures in a dict", "{0: 2.0, 1: 3.0}", "list(temperature.values())"),
        )
    ),
    Row(
        "temperatures that are texts",
        "x = [1.0, 2.0]",
        "DTypeError",
        ("temperature=2.0",),
        "{f}(x, temperature=['2', '2'])",
        "{f}(x, {remedy})",
        "",
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
