"""Ask polylogit and other libraries the same questions, and write the table of ``docs/why-not.md``.

    python tools/why_not.py            # asks all; writes docs/_static/why_not.json and the page
    python tools/why_not.py --page     # writes the page from the stored answers

Needs PyTorch, TensorFlow, JAX, SciPy, pandas, array-api-compat and einops. Each question is a function of a library,
and its answer is compared with the exact one. tests/docs/test_why_not_torch_tensorflow_jax.py asks again.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import polylogit

if TYPE_CHECKING:
    from collections.abc import Callable

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

ROOT = Path(__file__).resolve().parents[1]
FOUND = ROOT / "docs" / "_static" / "why_not.json"
PAGE = ROOT / "docs" / "why-not.md"
BEGIN, END = "<!-- Made by tools/why_not.py; change that. -->\n", "<!-- End of the generated part. -->\n"
ULP = 8  # a result is right within so many units in the last place: the bound of a row this short, docs/accuracy.md


class NotThereError(Exception):
    """The library has no such function or argument."""


def _missing(*_: Any, **__: Any) -> Any:
    raise NotThereError


@dataclass(frozen=True)
class Library:
    """A column: the functions of one library.

    Attributes
    ----------
    title : str
    package : str
        The package whose version is shown.
    home : str
        The framework whose arrays are used if a question does not name one.
    softmax : callable
        ``softmax(x, axis)``.
    masked : callable
        ``masked(x, mask)`` over the last axis, by ``where=`` if there is one, else by filling in -inf.
    vjp, log_sum_exp, cross_entropy, out, log_softmax : callable
    """

    title: str
    package: str
    home: str
    softmax: Callable[..., Any]
    masked: Callable[[Any, Any], Any]
    has_where: bool = False
    log_softmax: Callable[..., Any] = _missing
    log_sum_exp: Callable[..., Any] = _missing
    cross_entropy: Callable[..., Any] = _missing
    vjp: Callable[..., Any] = _missing
    out: Callable[..., Any] = _missing
    rounded: Callable[..., Any] = _missing
    exp: Callable[..., Any] = _missing
    tempered: Callable[..., Any] | None = None  # (x, temperature); None for the softmax of the quotient


# --- the libraries ----------------------------------------------------------------------------------------------------


def _torch() -> Library:
    import torch

    def masked(x: Any, mask: Any) -> Any:
        return torch.softmax(torch.where(mask, x, -torch.inf), -1)

    def out(x: Any) -> Any:
        into = torch.empty_like(x)
        torch.softmax(x, -1, out=into)
        return into

    def vjp(x: Any, g: Any) -> Any:
        return torch.func.vjp(lambda x: torch.softmax(x, -1), x)[1](g)[0]

    return Library(
        title="torch",
        package="torch",
        home="torch",
        softmax=lambda x, axis=-1: torch.softmax(x, axis),
        masked=masked,
        log_softmax=lambda x: torch.log_softmax(x, -1),
        log_sum_exp=lambda x: torch.logsumexp(x, -1),
        cross_entropy=lambda x, at: torch.nn.functional.cross_entropy(x[None], torch.tensor([at])),
        vjp=vjp,
        out=out,
        rounded=lambda x: torch.softmax(x, -1, dtype=torch.float16),
        exp=torch.exp,
    )


def _keras() -> Library:
    from keras import ops

    return Library(
        title="keras.ops",
        package="keras",
        home="tensorflow",
        softmax=lambda x, axis=-1: ops.softmax(x, axis=axis),
        masked=lambda x, mask: ops.softmax(ops.where(mask, x, -np.inf)),
        log_softmax=ops.log_softmax,
        log_sum_exp=lambda x: ops.logsumexp(x, axis=-1),
        cross_entropy=lambda x, at: ops.sparse_categorical_crossentropy(np.int32(at), x, from_logits=True),
        exp=ops.exp,
    )


def _scipy() -> Library:
    from scipy import special

    return Library(
        title="SciPy",
        package="scipy",
        home="numpy",
        softmax=lambda x, axis=-1: special.softmax(x, axis=axis),
        masked=lambda x, mask: special.softmax(np.where(mask, x, -np.inf), axis=-1),
        log_softmax=lambda x: special.log_softmax(x, axis=-1),
        log_sum_exp=lambda x: special.logsumexp(x, axis=-1),
        exp=np.exp,
    )


def _array_api() -> Library:
    from array_api_compat import array_namespace

    def softmax(x: Any, axis: Any = -1) -> Any:
        xp = array_namespace(x)
        e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
        return e / xp.sum(e, axis=axis, keepdims=True)

    def masked(x: Any, mask: Any) -> Any:
        xp = array_namespace(x, mask)
        return softmax(xp.where(mask, x, -xp.inf))

    def log_sum_exp(x: Any) -> Any:
        xp = array_namespace(x)
        top = xp.max(x)
        return top + xp.log(xp.sum(xp.exp(x - top)))

    return Library(
        title="array-api-compat",
        package="array-api-compat",
        home="numpy",
        softmax=softmax,
        masked=masked,
        log_sum_exp=log_sum_exp,
        exp=lambda x: array_namespace(x).exp(x),
    )


def _einops() -> Library:
    from einops import reduce

    def softmax(x: Any, axis: Any = -1) -> Any:
        pattern = "... n -> ... 1" if axis == -1 else "b n -> 1 1"  # its user writes the one that is meant
        e = np.exp(x - reduce(x, pattern, "max"))
        return e / reduce(e, pattern, "sum")

    return Library(
        title="einops",
        package="einops",
        home="numpy",
        softmax=softmax,
        masked=lambda x, mask: softmax(np.where(mask, x, -np.inf)),
    )


def _polylogit() -> Library:
    def out(x: Any) -> Any:
        into = np.empty_like(x)
        polylogit.softmax(x, out=into)
        return into

    return Library(
        title="polylogit",
        package="polylogit",
        home="numpy",
        softmax=lambda x, axis=-1: polylogit.softmax(x, axis=axis),
        masked=lambda x, mask: polylogit.softmax(x, where=mask),
        has_where=True,
        log_softmax=polylogit.log_softmax,
        vjp=lambda x, g: polylogit.vjp(polylogit.softmax, x)[1](g),
        rounded=lambda x: polylogit.softmax(x, dtype="float16"),
        out=out,
        tempered=lambda x, temperature: polylogit.softmax(x, temperature=temperature),
    )


LIBRARIES: dict[str, Callable[[], Library]] = {
    "polylogit": _polylogit,
    "torch": _torch,
    "keras": _keras,
    "scipy": _scipy,
    "array_api_compat": _array_api,
    "einops": _einops,
}


# --- the questions ----------------------------------------------------------------------------------------------------


def _array(framework: str, values: Any, dtype: str = "float32") -> Any:
    return polylogit.get_backend(framework).asarray(np.asarray(values), dtype=dtype)


def _softmax(x: Any, axis: Any = -1) -> Any:
    wide = np.asarray(x, dtype=np.float64)
    e = np.exp(wide - wide.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


SCORES = [3.0, 5.0, 2.5]
TWO = [[3.0, 5.0, 2.5], [1.0, 2.0, 6.0]]
MASK = [[True, True, False], [False, False, False]]
COTANGENT = [0.0, 1.0, 0.0]


def _of(framework: str) -> Callable[[Library], Any]:
    return lambda library: _same_kind(_array(framework, SCORES), library.softmax)


TITLES = {"numpy": "NumPy", "torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX"}


class ConvertedError(Exception):
    """The result is another framework's array."""


def _same_kind(x: Any, function: Callable[[Any], Any]) -> Any:
    y = function(x)
    if type(y).__module__.partition(".")[0] != type(x).__module__.partition(".")[0]:
        raise ConvertedError(TITLES[type(y).__module__.partition(".")[0]])
    return y


def _series(library: Library) -> Any:
    import pandas as pd

    return _same_kind(pd.Series(SCORES, index=["dog", "cat", "bird"]), library.softmax)


def _empty_row(library: Library) -> Any:
    x, mask = _array(library.home, TWO), polylogit.get_backend(library.home).asarray(np.array(MASK))
    return library.masked(x, mask)


def _where(library: Library) -> Any:
    if not library.has_where:
        raise NotThereError
    return library.masked(_array(library.home, [3.0, 5.0, np.nan]), np.array([True, True, False]))


def _two_frameworks(library: Library) -> Any:
    x = _array("torch", SCORES)
    return _same_kind(x, lambda x: library.masked(x, np.array([True, True, True])))


def _jit(library: Library) -> Any:
    import jax

    return jax.jit(library.softmax)(_array("jax", SCORES))


def _ma(library: Library) -> Any:
    y = library.softmax(np.ma.array(SCORES, mask=[False, False, True]))
    return y.filled(0.0) if isinstance(y, np.ma.MaskedArray) else y


def _sparse(library: Library) -> Any:
    import torch

    x = torch.tensor([[3.0, 0.0, 2.5]]).to_sparse()
    softmax = torch.sparse.softmax if library.package == "torch" else library.softmax
    return softmax(x, -1).to_dense()


def _total(library: Library) -> Any:
    y = polylogit.get_backend(library.home).to_numpy(library.softmax(_array(library.home, np.zeros(65520), "float16")))
    return y.astype(np.float64).sum()


def _tempered(lib: Library) -> Any:
    x = _array(lib.home, [2.0**24, 2.0**24 + 2])
    return lib.tempered(x, 3.0) if lib.tempered else lib.softmax(x / 3.0)


def _half_log(library: Library) -> Any:
    return library.log_softmax(_array(library.home, np.zeros(65520), "float16"))[:1]


def _bfloat(library: Library) -> Any:
    return library.softmax(_array(library.home, np.zeros(512), "bfloat16"))[:1]


def _loss(library: Library) -> Any:
    return library.cross_entropy(_array(library.home, SCORES), 1)


@dataclass(frozen=True)
class Question:
    """A row of the table: the question, the call as a reader would write it, and the right answer."""

    words: str
    call: str
    ask: Callable[[Library], Any]
    right: Any
    otherwise: str = ""  # the name of another result that is a convention rather than wrong
    kernel: bool = False  # the answer depends on the framework's kernel, and so on the processor


_Y = _softmax(SCORES)
QUESTIONS = (
    Question("NumPy array", "softmax(np.array(x))", _of("numpy"), _Y),
    Question("PyTorch tensor", "softmax(torch.tensor(x))", _of("torch"), _Y),
    Question("TensorFlow tensor", "softmax(tf.constant(x))", _of("tensorflow"), _Y),
    Question("JAX array", "softmax(jnp.array(x))", _of("jax"), _Y),
    Question("JAX tracer", "jax.jit(softmax)(x)", _jit, _Y),
    Question("List of numbers", "softmax([3.0, 5.0, 2.5])", lambda lib: lib.softmax(SCORES), _Y),
    Question("pandas Series, keeping its index", "softmax(series)", _series, _Y),
    Question(
        "Unsigned integers",
        'softmax(array([1, 2, 3], "uint8"))',
        lambda lib: lib.softmax(_array(lib.home, [1, 2, 3], "uint8")),
        _softmax([1, 2, 3]),
    ),
    Question(
        "All axes",
        "softmax(x, axis=None)",
        lambda lib: lib.softmax(_array(lib.home, TWO), None),
        _softmax(TWO, None),
    ),
    Question(
        "Two axes jointly",
        "softmax(x, axis=(0, 1))",
        lambda lib: lib.softmax(_array(lib.home, TWO), (0, 1)),
        _softmax(TWO, (0, 1)),
    ),
    Question(
        "-inf among the logits",
        "softmax([3, -inf])",
        lambda lib: lib.softmax(_array(lib.home, [3.0, -np.inf])),
        [1.0, 0.0],
    ),
    Question("Mask argument, with NaN masked", "softmax(x, where=mask)", _where, [*_softmax(SCORES[:2]), 0.0]),
    Question(
        "Row with every entry masked",
        "where=, or else -inf filled in",
        _empty_row,
        [[*_softmax(SCORES[:2]), 0.0], [0.0, 0.0, 0.0]],
        otherwise="NaN row",
    ),
    Question("NumPy mask on PyTorch logits", "the same call", _two_frameworks, _Y),
    Question(
        "Sum of 65,520 equal float16", "softmax(zeros).sum()", _total, 65520 * float(np.float16(1 / 65520)), kernel=True
    ),
    Question("Logarithm of those", "log_softmax(zeros)[0]", _half_log, [-np.log(65520)], kernel=True),
    Question("512 equal bfloat16", "softmax(zeros)[0]", _bfloat, [1 / 512], kernel=True),
    Question(
        "float16 result of float32 logits",
        "softmax([2049, 2048], dtype=float16)",
        lambda lib: lib.rounded(_array(lib.home, [2049.0, 2048.0])),
        _softmax([1.0, 0.0]),
    ),
    Question(
        "Temperature 3 of large float32 logits",
        "softmax([2**24, 2**24 + 2] / 3)",
        _tempered,
        _softmax([0.0, 2 / 3]),
    ),
    Question(
        "Gradient on a NumPy array",
        "vjp(softmax, x)",
        lambda lib: lib.vjp(_array("numpy", SCORES, "float64"), _array("numpy", COTANGENT, "float64")),
        _Y * (np.array(COTANGENT) - _Y[1]),
    ),
    Question("`np.ma.array`, a masked entry", "softmax(masked)", _ma, [*_softmax(SCORES[:2]), 0.0]),
    Question("Result written into an array", "softmax(x, out=y)", lambda lib: lib.out(_array(lib.home, SCORES)), _Y),
    Question("Sparse tensor, stored entries only", "softmax(x.to_sparse())", _sparse, [_softmax([3.0, -np.inf, 2.5])]),
    Question("log-sum-exp", "logsumexp(x)", lambda lib: lib.log_sum_exp(_array(lib.home, SCORES)), 5.0 - np.log(_Y[1])),
    Question("Cross-entropy loss", "cross_entropy(x, label)", _loss, -np.log(_Y[1])),
    Question("exp, and hundreds of others", "exp(x)", lambda lib: lib.exp(_array(lib.home, SCORES)), np.exp(SCORES)),
)


# --- the answers ------------------------------------------------------------------------------------------------------


def answer(question: Question, library: Library) -> str:
    """One cell: right, refused, missing, converted, or the wrong numbers."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            got = question.ask(library)
        except NotThereError:
            return "missing"
        except ConvertedError as error:
            return f"{error} array"
        except Exception:  # noqa: BLE001  whatever a library raises is its way of refusing
            return "refused"
    found = judged(got, question.right)
    return question.otherwise if question.otherwise and found != "right" else found


def judged(got: Any, right: Any) -> str:
    """Whether the numbers are right to within `ULP` units in the last place of the result's dtype."""
    host = got.to_numpy() if hasattr(got, "to_numpy") else _host(got)
    values, exact = host.astype(np.float64), np.asarray(right, dtype=np.float64)
    if values.shape == exact.shape and np.all(np.abs(values - exact) <= ULP * _spacing(exact, host.dtype)):
        return "right"
    return "wrong: " + np.array2string(values, separator=", ", formatter={"float": lambda value: f"{value:.3g}"})


def _host(got: Any) -> Any:
    if isinstance(got, np.ndarray | np.generic | float):
        return np.asarray(got)
    return polylogit.get_backend(got).to_numpy(got)


def _spacing(exact: Any, dtype: Any) -> Any:
    import ml_dtypes

    facts = ml_dtypes.finfo(dtype)
    size = np.maximum(np.abs(exact), float(facts.tiny))
    return 2.0 ** np.floor(np.log2(size)) * float(facts.eps)


def answers(names: list[str]) -> dict[str, dict[str, str]]:
    """The cells of these columns, by question."""
    libraries = {name: LIBRARIES[name]() for name in names}
    return {
        question.words: {name: answer(question, library) for name, library in libraries.items()}
        for question in QUESTIONS
    }


# --- the page ---------------------------------------------------------------------------------------------------------


def _cell(found: str) -> str:
    kind, _, rest = found.partition(": ")
    if kind == "wrong":
        return f"**`{rest}`**"
    return found if found == "right" else f"*{found}*"


def table(stored: dict[str, Any]) -> str:
    """The table between the markers."""
    heads = stored["libraries"].values()
    lines = [f"| question | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for question in QUESTIONS:
        cells = [_cell(stored["answers"][question.words][name]) for name in stored["libraries"]]
        lines.append(f"| {question.words}: `{question.call}` | {' | '.join(cells)} |")
    versions = ", ".join(f"{package} {version}" for package, version in stored["versions"].items())
    return "\n".join([*lines, "", f"Versions: {versions}."]) + "\n"


def page(text: str, stored: dict[str, Any]) -> str:
    """The page with its table replaced."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + table(stored) + "\n" + END + rest.partition(END)[2]


def main() -> None:
    if "--page" not in sys.argv:
        import torch  # noqa: F401  before TensorFlow, which some builds of PyTorch do not survive

        found = answers(list(LIBRARIES))
        libraries = {name: make() for name, make in LIBRARIES.items()}
        packages = ("tensorflow", *(one.package for one in libraries.values()))
        stored = {
            "libraries": {name: one.title for name, one in libraries.items()},
            "versions": {one: importlib.metadata.version(one).partition("+")[0] for one in packages},
            "answers": found,
        }
        FOUND.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    stored = json.loads(FOUND.read_text(encoding="utf-8"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), stored), encoding="utf-8")


if __name__ == "__main__":
    main()
