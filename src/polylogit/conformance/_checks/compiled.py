"""Checks under the framework's compilers, alone and between other operations, against the same exact values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polylogit.conformance._case import Case, slug
from polylogit.conformance._request import Request
from polylogit.conformance._run_case import compared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.dtypes import Array
    from polylogit.conformance._case import Setting
    from polylogit.conformance._compare import Comparison


def compiled(setting: Setting) -> Iterator[Case]:
    """Under each of the framework's compilers, alone and fused with other operations."""
    backend = setting.implementation.backend
    for name in backend.compilers():
        alone, composed = setting.budget("compiled shapes"), setting.budget("composed shape")
        if name in backend.slow_compilers:
            composed = setting.budget("slow compilers")
            alone = (composed,) if composed else ()
        for shape in alone:
            yield Case(f"{name}-{slug(shape)}", behaviour=_alone, arguments=(name, setting.logits(shape)))
        if composed:
            x = setting.logits(composed, "composed")
            yield Case(f"{name}-composed", behaviour=_composed, arguments=(name, x))


def _alone(setting: Setting, compiler: str, x: Array) -> Comparison:
    x = setting.dtype.round(x)
    answer = setting.implementation.ask(Request(x, setting.dtype.name, compiler=compiler))
    return compared(setting, answer, x, Case("", optional=True))


def _composed(setting: Setting, compiler: str, x: Array) -> Comparison:
    """The operation between a doubling and a halving, which are exact: a compiler may fuse, but the values stay."""
    half = setting.dtype.round(x)
    answer = setting.implementation.ask(Request(half, setting.dtype.name, compiler=compiler, doubled=True))
    return compared(setting, answer, 2.0 * half, Case("", optional=True))
