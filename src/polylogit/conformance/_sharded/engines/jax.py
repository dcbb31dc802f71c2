"""JAX: arrays over several devices of one process, with automatic partitioning and inside ``shard_map``."""

# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import polylogit
from polylogit.conformance._sharded.cases import Outcome, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RANKS = False
NAMES = ("a", "b")
_COLLECTIVE = re.compile(r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
_SHAPE = re.compile(r"\b([a-z]+)(\d+)\[([\d,]*)\]")


def environment(parts: int) -> dict[str, str]:
    """Set the number of devices to the number of parts."""
    return {"XLA_FLAGS": f"--xla_force_host_platform_device_count={parts}", "JAX_PLATFORMS": "cpu"}


def collectives(program: str) -> list[tuple[str, str, int]]:
    """The collectives of a compiled program: the kind, the shapes, and the bytes that one device contributes."""
    found = []
    for shapes, kind in _COLLECTIVE.findall(program):
        size = 0
        for _, bits, lengths in _SHAPE.findall(shapes):
            size += int(np.prod([int(one) for one in lengths.split(",") if one], dtype=int)) * int(bits) // 8
        found.append((kind, re.sub(r"\{[^}]*\}", "", shapes), size))
    return found


class Engine:
    """See `polylogit.conformance._sharded.engines`."""

    uneven = False
    gaps: ClassVar[dict[tuple[str, str], str]] = {}

    def __init__(self, rank: int, parts: int, folder: Path) -> None:
        import jax

        self.jax, self.parts = jax, parts
        shapes: dict[int, tuple[int, ...]] = {1: (parts,)}
        if parts % 2 == 0 and parts > 2:
            shapes[2] = (2, parts // 2)
        self.mesh = {dimensions: self._mesh(shape) for dimensions, shape in shapes.items()}
        self.meshes = tuple(self.mesh)

    def _mesh(self, shape: tuple[int, ...]) -> Any:
        """Named devices over which JAX itself splits arrays; before JAX 0.5.1 there was no other kind."""
        kinds = getattr(self.jax.sharding, "AxisType", None)
        options = {"axis_types": (kinds.Auto,) * len(shape)} if kinds else {}
        return self.jax.make_mesh(shape, NAMES[: len(shape)], **options)

    def close(self) -> None:
        """Nothing is open."""

    def _spec(self, question: Question) -> Any:
        dimensions: list[Any] = [None] * len(question.shape)
        for name, dimension in zip(NAMES, question.split, strict=False):
            dimensions[dimension] = (*(dimensions[dimension] or ()), name)
        return self.jax.sharding.PartitionSpec(*dimensions)

    def _put(self, array: Any, question: Question, dimensions: int, dtype: str) -> Any:
        sharding = self.jax.sharding.NamedSharding(self.mesh[dimensions], self._spec(question))
        return self.jax.device_put(self.jax.numpy.asarray(array, dtype), sharding)

    def _arrays(self, question: Question, dimensions: int) -> tuple[Any, Any, Any, Any]:
        x, mask, direction = question.arrays()
        if mask is not None and question.check == "vjp":
            direction = np.where(mask, direction, 0.0)
        given = self._put(x, question, dimensions, question.dtype)
        where = None if mask is None else self._put(mask, question, dimensions, "bool")
        return given, where, self._put(direction, question, dimensions, question.dtype), mask

    def answer(self, question: Question, dimensions: int) -> Outcome:
        """One call on a sharded array, compiled; the program shows the exchanges."""

        def call(x: Any, where: Any, direction: Any) -> Any:
            return _asked(question, x, where, direction, {})

        return self._outcome(question, dimensions, call)

    def within(self, question: Question, dimensions: int = 1, *, check_vma: bool = True) -> Outcome:
        """One call inside ``shard_map``, on the local part."""
        shard_map, check = self._shard_map(check_vma)
        names = {NAMES[index] for index, one in enumerate(question.split) if one in question.axes}
        spec, options = self._spec(question), {"axis_name": tuple(sorted(names))}

        def inside(x: Any, direction: Any, where: Any = None) -> Any:
            return _asked(question, x, where, direction, options)

        def call(x: Any, where: Any, direction: Any) -> Any:
            given = (x, direction) if where is None else (x, direction, where)
            mapped = shard_map(
                inside, mesh=self.mesh[dimensions], in_specs=(spec,) * len(given), out_specs=spec, **check
            )
            return mapped(*given)

        return self._outcome(question, dimensions, call)

    def _shard_map(self, check: bool) -> tuple[Callable[..., Any], dict[str, bool]]:
        """The function and the option for its check, which had other names before JAX 0.6."""
        if hasattr(self.jax, "shard_map"):
            return self.jax.shard_map, {"check_vma": check}
        from jax.experimental.shard_map import shard_map

        return shard_map, {"check_rep": check}

    def _outcome(self, question: Question, dimensions: int, call: Callable[..., Any]) -> Outcome:
        x, where, direction, mask = self._arrays(question, dimensions)
        compiled = self.jax.jit(call).lower(x, where, direction).compile()
        y = compiled(x, where, direction)
        values = np.asarray(y, np.float64)
        if question.check == "jvp" and mask is not None:
            values = np.where(mask, values, 0.0)
        found = collectives(compiled.as_text())
        analysis = compiled.memory_analysis() if question.large else None
        return Outcome(
            values,
            str(y.dtype),
            kept=y.sharding.is_equivalent_to(x.sharding, x.ndim),
            wrong=_too_much(question, found),
            exchanged=max((size for _, _, size in found), default=0),
            memory=int(analysis.temp_size_in_bytes + analysis.output_size_in_bytes) if analysis else None,
            part=x.addressable_shards[0].data.nbytes if analysis else None,
        )

    def facts(self, level: str) -> Iterator[tuple[str, Callable[[], str]]]:
        """Tests inside ``shard_map``, with and without ``check_vma``."""
        from polylogit.conformance._sharded.cases import judged, questions

        for dimensions in self.meshes:
            for question in questions(dimensions, level):
                if question.crosses and question.whole_parts and not question.large:
                    # Without the check, JAX transposes a sum over devices by another rule.
                    for checked in (True, False) if question.check == "vjp" else (True,):

                        def fact(q: Question = question, d: int = dimensions, c: bool = checked) -> str:
                            return judged(q, self.within(q, d, check_vma=c)).message

                        how = "with" if checked else "without"
                        yield f"shard_map {how} check_vma: {question.operation}, {question.check} {question.case}", fact


def _too_much(question: Question, found: list[tuple[str, str, int]]) -> str:
    """A fault of the exchanges: a row needs only a maximum, a sum and, with a mask, whether it has an entry."""
    others = [f"{kind} of {shapes}" for kind, shapes, _ in found if kind != "all-reduce"]
    if others:
        return f"the program has an {', '.join(others)}"
    enough = (2 + question.masked) if question.crosses else 0
    if question.check == "values" and len(found) > enough:
        return f"the program has {len(found)} all-reduces where {enough} are enough: {found}"
    return ""


def _asked(question: Question, x: Any, where: Any, direction: Any, options: dict[str, Any]) -> Any:
    function = getattr(polylogit, question.operation)
    options = {"axis": question.axis, "where": where, **options}
    if question.check == "values":
        return function(x, **options)
    if question.check == "vjp":
        return polylogit.vjp(function, x, **options)[1](direction)
    return polylogit.jvp(function, x, direction, **options)[1]
