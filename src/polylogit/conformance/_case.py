"""`Case`, one call of an implementation as plain data, and `Setting`, for which a check chooses its cases.

Knows the table of operations and the declarations of an implementation; runs nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance._budget import amount, words
from polylogit.conformance._data.rows import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from polylogit._spec.dtypes import Array, Finfo
    from polylogit._spec.operations import Definition
    from polylogit.conformance._request import Subject


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One case, before it runs.

    Attributes
    ----------
    name : str
        Unique within its check; with the level and the seed, it stands for the same numbers in every run.
    x : array of float64
        The logits, which are rounded to the setting's dtype.
    kind : {"values", "vjp", "jvp", "reverse", "forward"}
        Whether the case tests the value, a derivative, or the pullback differentiated again in reverse or forward mode.
    directions : sequence of arrays
        The cotangent or tangent of a derivative; for a second derivative, the cotangent and the direction.
    axis : int, tuple of int or None
    axis_given : bool
        False if the call leaves out the axis.
    layout, directions_layout : str
        The memory layouts; see `polylogit.conformance._data.layouts`.
    where : array of bool or None
        The mask.
    into : Finfo or None
        The dtype passed as ``dtype=``.
    names : sequence of str
        The names of the rows in messages.
    rows : int or None
        The number of rows to compare between backends; the others are repetitions.
    optional : bool
        Whether a kernel may refuse the call.
    eager : bool
        Whether a derivative is run operation by operation even if the backend could compile it as a whole.
    behaviour : callable or None
        For cases that need more than one call: ``behaviour(setting, *arguments)`` makes the calls and compares.
    arguments : tuple
    """

    name: str
    x: Array | None = None
    kind: str = "values"
    directions: Sequence[Array] = ()
    axis: Any = -1
    axis_given: bool = True
    layout: str = "contiguous"
    directions_layout: str = "contiguous"
    where: Array | None = None
    into: Finfo | None = None
    names: Sequence[str] = ()
    rows: int | None = None
    optional: bool = False
    eager: bool = False
    behaviour: Callable[..., Any] | None = None
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False)
class Setting:
    """The context in which cases are chosen, run and judged: an implementation of an operation, dtype, level, seed."""

    implementation: Subject
    operation: Definition
    dtype: Finfo
    level: str
    seed: int = 0
    invariant: bool = False

    @property
    def conventions(self) -> Mapping[str, str]:
        """The conventions declared for the implementation; see `polylogit.conformance._conventions`."""
        return self.implementation.conventions

    def judged_in(self, dtype: Finfo) -> Finfo:
        """The facts of the dtype that sets the bounds: for a kernel, those that allow a sum in any order."""
        return dtype.summed_in_any_order() if self.is_kernel else dtype

    @property
    def is_kernel(self) -> bool:
        """Whether a user's own function is under test, not a registered backend, which must keep the whole contract."""
        return self.implementation.is_kernel

    @functools.cached_property
    def _words(self) -> frozenset[str]:
        compiles = bool(self.implementation.backend.always_compiles)
        return words(self.level, self.dtype, kernel=self.is_kernel, compiles=compiles)

    def budget(self, what: str, *more: str) -> Any:
        """The amount of something in this setting; see `polylogit.conformance._budget`."""
        return amount(what, self._words.union(more))

    def rng(self, *what: object) -> np.random.Generator:
        """A random generator for one purpose."""
        return generator(self.seed, self.operation.takes_axis, self.dtype.name, *what)

    def logits(self, shape: tuple[int, ...], *what: object) -> Array:
        """Random logits whose scale and level vary from row to row, so that no two rows are alike."""
        rng = self.rng("logits", shape, *what)
        x = 2.0 * rng.normal(size=shape)
        for axis in range(len(shape)):
            x = x + 3.0 * rng.normal(size=[size if one == axis else 1 for one, size in enumerate(shape)])
        return np.asarray(x)

    def padded(self, x: Array) -> Array:
        """The rows, repeated if each new shape is compiled, so that all lengths come in few and cheap shapes."""
        unit = -(-self.budget("padding") // x.shape[-1])
        return np.resize(x, (-(-len(x) // unit) * unit, x.shape[-1]))


def slug(name: str | tuple[int, ...]) -> str:
    """A name or a shape, as part of an id."""
    return "x".join(map(str, name)) if isinstance(name, tuple) else name.replace(" ", "-")
