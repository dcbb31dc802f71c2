"""Compiled by the framework's own compilers, alone and between other operations, against the same exact values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polylogit.conformance.checks.structure import logits
from polylogit.conformance.context import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit.conformance.context import Context
    from polylogit.conformance.judge import Outcome
    from polylogit.spec.dtypes import Array

__all__ = ["compiled"]

# Compilers that take seconds for one function.
_SLOW = ("inductor",)


def compiled(context: Context) -> Iterator[Trial]:
    """Eager against compiled."""
    subject = context.subject
    # Of one's own kernel in float32 alone: in 16 bits compilers put arithmetic of their own in place of the kernel's.
    formats = ("float32",) if subject.own else ("float32", "float16")
    for name in subject.backend.compilers() if context.dtype.name in formats else ():
        if name in _SLOW and (context.level == "quick" or context.dtype.name != "float32"):
            continue
        compile_ = subject.backend.compilers()[name]
        shapes = ((130, 33),) if context.level == "quick" or name in _SLOW else ((4, 33), (2, 1025), (8, 1))
        # Where there is little time, in float32 between other operations, in float16 alone.
        alone = not context.hasty or context.subject.own or context.dtype.name != "float32"
        for shape in shapes if alone else ():
            x = logits(context, shape)
            case = f"{name}-{'x'.join(map(str, shape))}"
            yield Trial(case, lambda x=x, c=compile_: _alone(context, x, c))  # type: ignore[misc]
        if context.hasty and context.dtype.name != "float32":
            continue
        x = logits(context, shapes[0], "composed")
        yield Trial(f"{name}-composed", lambda x=x, c=compile_: _composed(context, x, c))  # type: ignore[misc]


def _alone(context: Context, x: Array, compile_: Callable[..., Any]) -> Outcome:
    axis = -1
    return context.values(x, call=compile_(lambda a: context.subject.call(a, axis)), optional=True)


def _composed(context: Context, x: Array, compile_: Callable[..., Any]) -> Outcome:
    """Between a doubling and a halving, which are exact: a compiler may fuse, but the values stay."""
    half = context.dtype.round(x)
    subject = context.subject
    function = compile_(lambda a: subject.call(a + a, -1) * 2.0 * 0.5)
    answer = subject.guarded(
        lambda: function(subject.array(half, context.dtype.name)), like=subject.array(half, context.dtype.name)
    )
    return context.judged(answer, 2.0 * half, -1, optional=True)
