"""`compare`: two outputs, two sets of named activations or two callables, and what is the matter between them.

Brings both sides to aligned NumPy arrays, has each pair judged by `diagnose`, and gathers the verdicts in a
`Comparison`. It knows the public API and nothing of how causes are found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.errors import ComparisonError
from polylogit.porting.calling import Called, as_numpy, call, framework_of
from polylogit.porting.diagnose import Diagnosis, Verdict, diagnose
from polylogit.porting.diagnosis.agreement import Precision
from polylogit.porting.evidence import Evidence
from polylogit.porting.gradients import GradientEvidence, diagnose_gradient

if TYPE_CHECKING:
    import os

    Array = np.ndarray[Any, Any]

__all__ = ["Activation", "Comparison", "compare"]

# The names of activations that are gradients, by how they begin or end.
GRADIENT_WORDS = ("grad", "gradient", "gradients", "cotangent")


@dataclasses.dataclass(frozen=True)
class Activation:
    """One pair of the two sides.

    Attributes
    ----------
    name, candidate_name : str
        What it is called on the two sides.
    reference, candidate : ndarray
        Their values.
    verdict : Verdict
        Whether they agree, how far they are apart, and the cause.
    vacuous : bool
        Agreement would mean nothing: both are constant, empty, or a gradient of zero.
    gradient : bool
        It is a gradient.
    """

    name: str
    candidate_name: str
    reference: Array
    candidate: Array
    verdict: Verdict
    vacuous: bool = False
    gradient: bool = False

    @property
    def status(self) -> str:
        """One of "agrees", "disagrees", "inconclusive"."""
        if not self.verdict.agrees:
            return "disagrees"
        return "inconclusive" if self.vacuous else "agrees"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    activations : tuple of Activation
        In the order of the reference.
    unmatched : tuple of str
        Activations that only one side has.
    framework : str
        The candidate's.
    """

    activations: tuple[Activation, ...]
    unmatched: tuple[str, ...] = ()
    framework: str = "numpy"

    @property
    def status(self) -> str:
        """One of "agrees", "disagrees", "inconclusive".

        Inconclusive is what could not have failed: outputs that are constant on both sides, gradients that are zero.
        """
        states = [activation.status for activation in self.activations]
        if "disagrees" in states:
            return "disagrees"
        outputs = [one.status for one in self.activations if not one.gradient] or states
        gradients = [one.status for one in self.activations if one.gradient]
        if not states or outputs[-1] == "inconclusive" or (gradients and set(gradients) == {"inconclusive"}):
            return "inconclusive"
        return "agrees"

    @property
    def agrees(self) -> bool:
        """Whether all agree, and the agreement means something."""
        return self.status == "agrees"

    @property
    def first_divergence(self) -> str | None:
        """The name of the first activation that differs; None where none does."""
        return next((one.name for one in self.activations if one.status == "disagrees"), None)

    @property
    def cause(self) -> Diagnosis | None:
        """Why the first activation that differs does; None where all agree."""
        return next((one.verdict.cause for one in self.activations if one.verdict.cause is not None), None)

    def summary(self) -> str:
        """A few lines of text."""
        from polylogit.porting.report import summary

        return summary(self)

    def __str__(self) -> str:
        return self.summary()

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the verdicts, without the arrays, as JSON; the file appears whole or not at all."""
        from polylogit.porting.report import write_json

        write_json(self, path)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained page to look at; the file appears whole or not at all."""
        from polylogit.porting.report import write_html

        write_html(self, path)


def compare(
    reference: Any,
    candidate: Any,
    /,
    *,
    inputs: Any = None,
    cotangent: Any = None,
    names: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare a port with its original, and say what is wrong with it.

    Parameters
    ----------
    reference, candidate : array, mapping or callable
        The original and the port, of any frameworks: two outputs; ordered mappings from names to activations, as the
        recorders of `polylogit.porting.record` give; or two callables that return either.
    inputs : array, tuple or dict, optional
        For callables: the one input, the positional or the keyword arguments. Each callable gets them as arrays of
        its own framework.
    cotangent : array or number, optional
        For callables: compare also the gradients of ``sum(output * cotangent)`` with respect to the first input.
    names : mapping of str to str, optional
        The candidate's names for activations that are called otherwise in the reference. Where it is given,
        activations that only one side has are left out; where it is not, the candidate must have all.

    Returns
    -------
    Comparison
        Its ``agrees``, ``cause`` and ``first_divergence``.

    Raises
    ------
    ComparisonError
        For shapes that cannot correspond, missing names, callables that raise.

    Notes
    -----
    No tolerance is given: rounding is allowed what the operations' error bounds allow, and larger differences are
    noise only if they are small, have no outliers, and no fault explains them.

    Examples
    --------
    >>> import numpy as np, polylogit
    >>> x = np.random.default_rng(0).normal(size=(8, 5))
    >>> found = polylogit.porting.compare(polylogit.softmax(x), polylogit.softmax(x, axis=0))
    >>> found.agrees, found.cause.name
    (False, 'wrong-axis')
    """
    called: list[Called] = []
    if _is_function(reference) or _is_function(candidate):
        called = _call_both(reference, candidate, inputs, cotangent)
        reference, candidate = (one.output for one in called)
    elif inputs is not None or cotangent is not None:
        message = "inputs= and cotangent= are for callables; two outputs or mappings were given. Leave them out."
        raise ComparisonError(message)
    left, right = _named(reference, "reference"), _named(candidate, "candidate")
    pairs, unmatched = _aligned(left, right, dict(names or {}))
    framework = framework_of(list(right.values())[-1])
    judged = _Judge(framework, _logits(called))
    for name, other in pairs:
        judged.add(name, other, left[name], right[other])
    if called and called[0].gradient is not None:
        judged.add_gradient(called, cotangent)
    return Comparison(tuple(judged.activations), unmatched, framework)


def _is_function(side: Any) -> bool:
    return callable(side) and not hasattr(side, "__array__") and not isinstance(side, Mapping)


def _call_both(reference: Any, candidate: Any, inputs: Any, cotangent: Any) -> list[Called]:
    if not (_is_function(reference) and _is_function(candidate)):
        message = "one side is callable and the other is not; give two callables with inputs=, or two outputs."
        raise ComparisonError(message)
    if inputs is None:
        message = "two callables were given without inputs=; pass what to call them with."
        raise ComparisonError(message)
    called = [call(reference, inputs, "the reference"), call(candidate, inputs, "the candidate")]
    if cotangent is not None:
        for one, what in zip(called, ("the reference", "the candidate"), strict=True):
            one.differentiate(cotangent, what)
    return called


def _logits(called: list[Called]) -> Array | None:
    """The input of the two callables, if it was a single array of numbers: it may be the logits."""
    if not called or len(called[0].arguments) != 1:
        return None
    x = called[0].arguments[0]
    return as_numpy(x, "inputs=") if hasattr(x, "dtype") else None


def _named(side: Any, what: str) -> dict[str, Any]:
    if isinstance(side, Mapping):
        if not side:
            message = f"the {what} has no activations; run the recorder's model before comparing."
            raise ComparisonError(message)
        return {str(name): value for name, value in side.items()}
    return {"output": side}


def _aligned(left: dict[str, Any], right: dict[str, Any], names: dict[str, str]) -> tuple[Any, tuple[str, ...]]:
    unknown = [name for name in names if name not in left]
    if unknown:
        message = f"names= maps {unknown}, which the reference does not have; it has {list(left)}."
        raise ComparisonError(message)
    if not names and len(left) == len(right) == 1:
        names = {next(iter(left)): next(iter(right))}
    pairs = [(name, names.get(name, name)) for name in left]
    # With a map, what it leaves out and only one side has is left out; without one, all must be there.
    missing = [other for name, other in pairs if other not in right and (not names or name in names)]
    pairs = [(name, other) for name, other in pairs if other in right]
    if missing or not pairs:
        message = (
            f"the candidate lacks {missing[:5]}; it has {list(right)[:20]}. Map the reference's names to the "
            'candidate\'s with names={"name here": "name there"}.'
        )
        raise ComparisonError(message)
    used = {other for _, other in pairs} | {name for name, _ in pairs}
    return pairs, tuple(name for name in (*left, *right) if name not in used)


# --- judging pair by pair --------------------------------------------------------------------------------------------


class _Judge:
    """Collects the verdicts, and what earlier activations tell about later ones."""

    def __init__(self, framework: str, logits: Array | None) -> None:
        self.framework = framework
        self.logits = [] if logits is None else [_exact(logits)]  # what agreed so far: the latest may be the logits
        self.activations: list[Activation] = []
        self.evidence: list[Evidence] = []

    def add(self, name: str, other: str, reference: Any, candidate: Any) -> None:
        """Judge one pair."""
        r, c = as_numpy(reference, f"reference {name!r}"), as_numpy(candidate, f"candidate {other!r}")
        if r.ndim != c.ndim and _squeezed(r) == _squeezed(c):
            c = c.reshape(r.shape)
        _check_shapes(r, c, name)
        dtypes = (r.dtype.name, c.dtype.name)
        gradient = _is_gradient(name)
        exact_r, exact_c = _exact(r), _exact(c)
        precision = Precision.of(*dtypes)
        if gradient and r.shape == c.shape:
            found = GradientEvidence(exact_r, exact_c, precision)
            verdict = diagnose_gradient(found, self.framework)
            vacuous = not exact_r.any() and not exact_c.any()
        else:
            evidence = Evidence(exact_r, exact_c, precision, self._logits_for(exact_r, precision), dtypes)
            verdict = diagnose(evidence, self.framework)
            vacuous = _vacuous(exact_r, exact_c)
            self.evidence.append(evidence)
        if verdict.agrees:
            self.logits.append(exact_r)
        self.activations.append(Activation(name, other, r, c, verdict, vacuous, gradient))

    def _logits_for(self, r: Array, precision: Precision) -> Array | None:
        """The latest activation on which both sides agree, if the reference is a function of it as of logits."""
        for values in reversed(self.logits[-3:]):
            if values.shape == r.shape and np.isfinite(values).any() and _are_logits(values, r, precision):
                return values
        return None

    def add_gradient(self, called: list[Called], cotangent: Any) -> None:
        """Judge the gradients of the two callables."""
        r = as_numpy(called[0].gradient, "the reference's gradient")
        c = as_numpy(called[1].gradient, "the candidate's gradient")
        _check_shapes(r, c, "gradient")
        last = self.evidence[-1]
        output = self.activations[-1]
        g = np.broadcast_to(np.asarray(as_numpy(cotangent, "cotangent="), np.float64), output.reference.shape)
        forward = output.verdict.agrees
        evidence = GradientEvidence(
            _exact(r),
            _exact(c),
            Precision.of(r.dtype.name, c.dtype.name),
            last.candidate if last.candidate.shape == g.shape else None,
            g,
            last.kind,
            last.axes,
            _slopes(called[1], c, g),
        )
        verdict = diagnose_gradient(evidence, self.framework, forward_agrees=forward)
        self.activations.append(Activation("gradient", "gradient", r, c, verdict, evidence.vacuous, True))


def _exact(values: Array) -> Array:
    return values.astype(np.float64)


def _is_gradient(name: str) -> bool:
    words = name.lower().replace("/", " ").replace(".", " ").replace("_", " ").split()
    return bool(words) and (words[0] in GRADIENT_WORDS or words[-1] in GRADIENT_WORDS)


def _squeezed(values: Array) -> tuple[int, ...]:
    return tuple(size for size in values.shape if size != 1)


def _check_shapes(r: Array, c: Array, name: str) -> None:
    """Refuse shapes that no fault turns into each other."""
    possible = (
        r.shape == c.shape
        or sorted(_squeezed(r)) == sorted(_squeezed(c))  # transposed
        or (max(r.size, c.size) == 2 * min(r.size, c.size) and 2 in (*r.shape, *c.shape))  # one column for two
        or any(_squeezed(r.take(0, axis)) == _squeezed(c) for axis in range(r.ndim) if r.size)  # indices
    )
    if not possible or (r.shape != c.shape and not (r.size and c.size)):
        message = (
            f"{name!r} has the shape {r.shape} in the reference and {c.shape} in the candidate, which cannot "
            "correspond. Compare the same activation on the same inputs."
        )
        raise ComparisonError(message)


def _vacuous(r: Array, c: Array) -> bool:
    """Whether agreement could not have failed: nothing finite to compare, or one value all over."""
    if r.shape != c.shape:
        return False
    finite = np.isfinite(r)
    if not finite.any():
        return True
    if r.size == 1:
        return False
    values = r[finite], c[np.isfinite(c)]
    return all(one.size and np.ptp(one) <= 1e-12 * np.max(np.abs(one)) for one in values)


def _are_logits(x: Array, r: Array, precision: Precision) -> bool:
    """Whether the reference is the softmax, log_softmax or sigmoid of x."""
    evidence = Evidence(r, r, precision)
    from polylogit.porting.diagnosis.agreement import residual
    from polylogit.spec.formulas import log_softmax, sigmoid

    if evidence.is_distribution:
        mask = np.isfinite(evidence.log_reference)
        expected = evidence.from_log(log_softmax(np.where(mask, x, -np.inf), evidence.axes))
    elif evidence.kind == "unit":
        expected = sigmoid(x)
    else:
        return False
    good = np.isfinite(r) & np.isfinite(expected)
    errors = np.abs(residual(expected, r, evidence.measure, 1e-30))[good]
    return bool(errors.size and np.median(errors) < max(1e-4, 4 * precision.eps))


def _slopes(called: Called, gradient: Array, cotangent: Array) -> Callable[[], tuple[Array, Array]]:
    """Directional derivatives of the candidate, by central differences and as its gradient claims them."""

    def measure() -> tuple[Array, Array]:
        from polylogit.interchange import convert

        x = as_numpy(called.arguments[0], "inputs=")
        rng = np.random.default_rng(0)
        framework = framework_of(called.arguments[0])
        numeric, claimed = [], []
        step = 2.0**-7 if x.dtype.itemsize <= 4 else 2.0**-17
        for _ in range(8):
            direction = rng.standard_normal(x.shape)
            ends = []
            for sign in (1, -1):
                moved = (x + sign * step * direction).astype(x.dtype)
                value = _exact(as_numpy(called.value(convert(moved, framework)), "the candidate's output"))
                ends.append(float(np.sum(np.where(np.isfinite(value), value * cotangent, 0.0))))
            numeric.append((ends[0] - ends[1]) / (2 * step))
            claimed.append(float(np.sum(gradient * direction)))
        return np.array(numeric), np.array(claimed)

    return measure
