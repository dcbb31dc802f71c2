"""The bits of a row's result depend on the row alone, where the kernels in C serve.

Not on the batch around it, its place in it, threads, alignment, strides, layout or the number of rows; and they are the
same with every instruction set that has fused multiply-add.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import polylogit
from polylogit._backends.numpy import compiled

from .rows import BOTH, RNG, assert_within, call

if TYPE_CHECKING:
    from collections.abc import Iterator

# The pure path promises the bounds, not the bits.
pytestmark = pytest.mark.skipif(not compiled.instruction_sets(), reason="the extension was not built")


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    """The kernels serve, even where the session is one of the pure path."""
    with compiled.use(compiled.instruction_sets()[-1]):
        yield


MIXED = {
    "tame": lambda rng, n: rng.standard_normal(n),
    "peaked": lambda rng, n: np.where(np.arange(n) == n // 3, 25.0, rng.standard_normal(n)),
    "large": lambda rng, n: rng.standard_normal(n) * 200,
    "far below 0": lambda rng, n: rng.standard_normal(n) - 70,
    "infinite": lambda rng, n: np.where(np.arange(n) == 1, np.inf, rng.standard_normal(n)),
    "nan": lambda rng, n: np.where(np.arange(n) == 2, np.nan, rng.standard_normal(n)),
    "masked out": lambda rng, n: np.full(n, -np.inf),
}


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("length", [3, 10, 40, 100, 700])
def test_the_bits_of_a_row_do_not_depend_on_its_neighbours(name: str, dtype: Any, axis: int, length: int) -> None:
    rng = RNG(21)
    rows = np.stack([draw(rng, length) for draw in MIXED.values() for _ in range(60)]).astype(dtype)
    rows = rows[rng.permutation(len(rows))]
    together = call(name, np.ascontiguousarray(rows.T) if axis == 0 else rows, axis=axis)
    together = together.T if axis == 0 else together
    for row, found in list(zip(rows, together, strict=True))[:40]:
        same = np.tile(row, (len(rows), 1))
        alone = call(name, np.ascontiguousarray(same.T) if axis == 0 else same, axis=axis)
        np.testing.assert_array_equal(found, alone.T[5] if axis == 0 else alone[5])
    finite = np.isfinite(rows).all(1)
    assert_within(name, together[finite], rows[finite], (1,))


# --- of the kernels alone -------------------------------------------------------------------------------------------

# With and without remainders of groups of 8 and 32, chunks of 1,024 and segments of 262,144.
LENGTHS = (1, 2, 3, 7, 8, 9, 31, 32, 33, 47, 48, 100, 1000, 1023, 1024, 1025, 5000, 262_144, 262_145, 600_001)


def rows_of(length: int, dtype: Any, count: int = 3, seed: int = 0) -> np.ndarray:
    """Rows of all kinds: normal, one leading, falling, far away, and with the maximum growing from chunk to chunk."""
    rng = RNG(seed)
    rows = rng.standard_normal((count, length)) * rng.choice([0.1, 3, 30, 1000], (count, 1))
    rows += rng.choice([0, 0, 50, -300, 1e5], (count, 1))
    rows[0] += np.linspace(-200, 200, length)
    if count > 1:
        rows[1, rng.integers(length)] += 40
    with np.errstate(over="ignore"):
        return rows.astype(dtype)


def in_layouts(row: np.ndarray) -> dict[str, tuple[np.ndarray, Any, Any]]:
    """Arrays that hold the row, the axis along which it lies, and where its result will be."""
    length, other = len(row), rows_of(len(row), row.dtype, 5, 1)
    batch = np.concatenate([other[:2], row[None], other[2:]])
    wide = np.concatenate([other[:1]] * 70 + [row[None]] + [other[1:2]] * 70) if length <= 5000 else batch
    at = 70 if length <= 5000 else 2
    gaps = np.zeros((length, 3), row.dtype)
    gaps[:, 1] = row
    odd = np.frombuffer(b"\0" + row.tobytes(), row.dtype, offset=1)
    middle = np.zeros((2, length, 3), row.dtype)
    middle[1, :, 2] = row
    backwards = row[::-1].copy()[::-1]
    found = {
        "in a batch": (batch, 1, (2,)),
        "in a large batch": (wide, 1, (at,)),
        "class-major": (np.ascontiguousarray(batch.T), 0, (slice(None), 2)),
        "class-major, many": (np.ascontiguousarray(wide.T), 0, (slice(None), at)),
        "strided": (gaps.T, 1, (1,)),
        "not aligned": (odd, 0, ()),
        "in the middle": (middle, 1, (1, slice(None), 2)),
        "backwards": (backwards, 0, ()),
        "other byte order": (row.astype(row.dtype.newbyteorder("S")), 0, ()),
        "one column": (row[:, None].copy(), 0, (slice(None), 0)),
    }
    for split in (2, 3):
        if length % split == 0:
            found[f"over two axes, {split}"] = (row.reshape(split, -1).copy(), (0, 1), None)
            turned = np.ascontiguousarray(row.reshape(split, -1).T).T
            found[f"over two axes, {split}, turned"] = (turned, None, None)
    return found


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", LENGTHS)
def test_batch_place_and_layout_do_not_matter(name: str, dtype: Any, length: int) -> None:
    for row in rows_of(length, dtype):
        want = call(name, row)
        for layout, (x, axis, where) in in_layouts(row).items():
            y = call(name, x, axis=axis)
            got = y.reshape(-1) if where is None else y[where]
            np.testing.assert_array_equal(got.astype(dtype), want, layout)
        masked = call(name, np.append(row, dtype(np.nan)), where=np.append(np.ones(length, bool), False))
        np.testing.assert_array_equal(masked[:-1], want)


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), [((1, 3_000_000), 1), ((3_000_000, 2), 0), ((40, 70_000), 1)])
def test_threads_do_not_matter_to_rows_that_they_share(name: str, dtype: Any, shape: Any, axis: int) -> None:
    x = (RNG(3).standard_normal(shape) * 9).astype(dtype)
    want = call(name, x, axis=axis)
    for count in (2, 3, 5):
        polylogit.set_num_threads(count)
        try:
            np.testing.assert_array_equal(call(name, x, axis=axis), want)
        finally:
            polylogit.set_num_threads(1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivatives_have_the_same_bits_too(dtype: Any) -> None:
    for length in (3, 100, 5000, 70_000):
        x, g = rows_of(length, dtype), rows_of(length, dtype, seed=2)
        for function in (polylogit.softmax, polylogit.log_softmax):
            together = polylogit.vjp(function, x)[1](g)
            turned = polylogit.vjp(function, np.ascontiguousarray(x.T), axis=0)[1](np.ascontiguousarray(g.T))
            np.testing.assert_array_equal(turned.T, together)
            pushed = polylogit.jvp(function, x, g)[1]
            for i in range(len(x)):
                np.testing.assert_array_equal(polylogit.vjp(function, x[i])[1](g[i]), together[i])
                np.testing.assert_array_equal(polylogit.jvp(function, x[i], g[i])[1], pushed[i])


FUSED = [name for name in compiled.instruction_sets() if name not in ("sse2", "plain")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    length=st.integers(1, 3000),
    count=st.integers(1, 70),
    dtype=st.sampled_from(["float32", "float64", "float16"]),
    axis=st.integers(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_instruction_sets_with_fused_multiply_add_agree(
    length: int, count: int, dtype: str, axis: int, seed: int
) -> None:
    x = rows_of(length, dtype, count, seed)
    x = np.ascontiguousarray(x.T) if axis == 0 else x
    found = []
    for name in FUSED:
        with compiled.use(name):
            _, pullback = polylogit.vjp(polylogit.log_softmax, x, axis=axis)
            found.append(
                (polylogit.softmax(x, axis), polylogit.log_softmax(x, axis), polylogit.sigmoid(x), pullback(x))
            )
    for other in found[1:]:
        for mine, theirs in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
