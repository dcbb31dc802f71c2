"""Each bound is the formula of the accuracy page: against that formula in plain Python, one entry at a time."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from polylogit._spec import bounds
from polylogit._spec.doubledouble import DD
from polylogit._spec.dtypes import DTYPES
from polylogit._spec.exact import Elements, Rows

# A maximum, a near and a far neighbour, and one that may be flushed in float32.
ROW = [2.5, 1.0, -0.25, -86.5]
G, H = [1.0, -2.0, 0.5, 3.0], [0.25, 3.0, -1.0, 0.5]
LOGITS = [-30.0, -1.5, 0.0, 0.75, 20.0]
DTYPE_NAMES = ["float64", "float32", "float16", "bfloat16"]

# Below so many smallest normal numbers a result may be 0.
FLUSHED = {"float64": 4, "float32": 4, "bfloat16": 4, "float16": 1}


class Row:
    """What the formulas are made of, for one row in one dtype."""

    def __init__(self, row, dtype):
        highest = max(row)
        self.d = [highest - x for x in row]
        total = math.fsum(math.exp(-d) for d in self.d)
        self.y = [math.exp(-d) / total for d in self.d]
        roundings = bounds.additions(len(row), dtype)
        self.units = [4 + 2 * d + roundings for d in self.d]
        self.tiny = FLUSHED[dtype.name] * dtype.smallest_normal
        self.lost = [2 * y if y < self.tiny else 0.0 for y in self.y]

    def mean(self, *factors):
        return math.fsum(y * math.prod(map(abs, each)) for y, *each in zip(self.y, *factors, strict=True))

    def lost_sum(self, weight):
        return math.fsum(lost * abs(one) for lost, one in zip(self.lost, weight, strict=True))


def ulp(value, dtype):
    exponent = max(math.frexp(value)[1] - 1, dtype.minexp)
    return 2.0 ** (exponent - dtype.precision + 1)


def two(row):
    """The row twice: what is summed along one must not be spread over the other."""
    return np.array([row, row])


def same(got, expected):
    np.testing.assert_allclose(got, np.broadcast_to(expected, np.shape(got)), rtol=1e-12, atol=0)


# --- how many roundings a sum may show --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "roundings"),
    [
        (0, 0),
        (1, 0),
        (2, 2),  # 2 log2 n, where that is more
        (3, 2 * math.log2(3)),
        (8, 7),
        (32, 31),  # one chain
        (33, 32),  # two levels, and no more additions than there are
        (62, 61),
        (64, 62),
        (1024, 62),
        (1025, 93),
        (32**3, 93),
        (32**3 + 1, 124),
    ],
)
def test_a_sum_on_levels_of_32(n, roundings):
    assert bounds.additions(n) == pytest.approx(roundings, rel=1e-15)


def test_a_sum_in_any_order_up_to_4096():
    dtype = DTYPES["float32"].summed_in_any_order()
    assert bounds.additions(4096, dtype) == 4095
    assert bounds.additions(4097, dtype) == bounds.additions(4097)
    narrow = DTYPES["bfloat16"].summed_in_any_order()  # summed in float32 all the same, whose eps is 2^-16 times that
    assert bounds.additions(4096, narrow) == bounds.additions(4096)
    wide = DTYPES["float64"].summed_in_any_order()
    assert bounds.additions(4096, wide) == 4095


def test_what_may_be_flushed():
    for name, dtype in DTYPES.items():
        flushed = FLUSHED.get(name, 0)
        assert bounds.flushable(dtype) == flushed * dtype.smallest_normal, name
        assert bounds.gradient_flushable(dtype) == (16 * dtype.smallest_normal if flushed else 0), name


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DTYPE_NAMES)
def test_softmax_and_log_softmax(name):
    dtype = DTYPES[name]
    plain = Row(ROW, dtype)
    exact = Rows(two(ROW))
    # Past the distance at which every probability has underflowed, no more is allowed.
    far = -math.log(dtype.smallest_subnormal) + math.log(4) + 2
    units = [4 + 2 * min(d, far) + bounds.additions(4, dtype) for d in plain.d]
    same(bounds.softmax(exact, dtype), [u * ulp(y, dtype) for u, y in zip(units, plain.y, strict=True)])
    logs = [-d - math.log(math.fsum(math.exp(-one) for one in plain.d)) for d in plain.d]
    same(
        bounds.log_softmax(exact, dtype),
        [dtype.eps * (1 + abs(r)) * (2 + bounds.additions(4, dtype) / 2) for r in logs],
    )


@pytest.mark.parametrize("bound", [bounds.softmax, bounds.log_softmax])
def test_a_row_of_one_entry_is_exact_and_one_of_two_is_not(bound):
    assert bound(Rows(np.array([[3.0]])), DTYPES["float32"]) == 0
    assert (bound(Rows(np.array([[3.0, 2.0]])), DTYPES["float32"]) > 0).all()


# In float16 most of the second but last may be flushed, and the last is made of numbers that are too small for it.
LONG = {"row": ROW, "100": [0.0] * 100, "5000": [0.0] * 5000, "lost": [3.0] * 10 + [0.0] * 20_000}
LONG["coarse"] = [0.0] + [-30.0] * 20_000


@pytest.mark.parametrize("row", LONG.values(), ids=LONG)
@pytest.mark.parametrize("name", DTYPE_NAMES)
def test_the_sum_of_a_row(name, row):
    dtype = DTYPES[name]
    plain, n = Row(row, dtype), len(row)
    far = -math.log(dtype.smallest_subnormal) + math.log(n) + 2
    spread = math.fsum(y * min(d, far) for y, d in zip(plain.y, plain.d, strict=True))
    lost = math.fsum(y for y in plain.y if y < plain.tiny)
    coarse = sum(y < dtype.smallest_normal for y in plain.y) * dtype.smallest_subnormal
    rounded = 4 + max(2 * math.log2(n), bounds.additions(n, dtype) / 2) + spread
    got = bounds.row_sum(Rows(two(row)), dtype)
    assert got.shape == (2, 1)
    same(got, [dtype.eps * rounded + max(lost, coarse)])


def test_an_entry_without_a_distance_counts_as_the_maximum():
    """Outputs of a model may hold NaN, and nothing is known of their logits."""
    dtype = DTYPES["float32"]
    row = SimpleNamespace(
        x=np.zeros(2), length=2, distance=np.array([math.nan, 1.0]), probabilities=DD(np.full(2, 0.5))
    )
    same(bounds.softmax(row, dtype), [(4 + 2) * dtype.eps / 2, (4 + 2 + 2) * dtype.eps / 2])


@pytest.mark.parametrize("name", DTYPE_NAMES)
def test_sigmoid(name):
    dtype = DTYPES[name]
    got = bounds.sigmoid(Elements(np.array(LOGITS)), dtype)
    limit = -math.log(dtype.smallest_subnormal) + 2
    same(got, [(8 + 2 * min(max(0, -x), limit)) * ulp(1 / (1 + math.exp(-x)), dtype) for x in LOGITS])


# --- derivatives ------------------------------------------------------------------------------------------------------

NEAR = ROW[:3]  # nothing of it is flushed, in any of the dtypes

# Nothing or much where a probability may be flushed, so that its loss shows there or in the whole row; small, so that
# what may be flushed is most of the bound.
DIRECTIONS = {"even": G, "nothing": [*G[:3], 0.0], "much": [*G[:3], 3e36], "small": [1e-36 * one for one in G]}


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("row", [NEAR, ROW], ids=["near", "far"])
def test_the_gradient_of_softmax(row, direction):
    for dtype in (DTYPES["float32"], DTYPES["float64"]):
        plain, cotangent = Row(row, dtype), direction[: len(row)]
        mean, drift = plain.mean(cotangent), plain.mean(cotangent, [2 * d for d in plain.d])
        expected = [
            dtype.eps * y * ((abs(g) + mean) * units + drift)
            + lost * (abs(g) + mean)
            + y * plain.lost_sum(cotangent)
            + plain.tiny
            for y, g, units, lost in zip(plain.y, cotangent, plain.units, plain.lost, strict=True)
        ]
        same(bounds.softmax_first(Rows(two(row)), dtype, two(cotangent)), expected)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("row", [NEAR, ROW], ids=["near", "far"])
@pytest.mark.parametrize("name", ["float64", "float32"])
def test_the_gradient_of_log_softmax(name, row, direction):
    dtype, cotangent = DTYPES[name], direction[: len(row)]
    plain, whole = Row(row, dtype), math.fsum(map(abs, cotangent))
    expected = [
        dtype.eps * (2 * abs(g) + y * whole * units) + lost * whole + plain.tiny
        for y, g, units, lost in zip(plain.y, cotangent, plain.units, plain.lost, strict=True)
    ]
    same(bounds.log_softmax_vjp(Rows(two(row)), dtype, two(cotangent)), expected)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_the_gradient_of_log_softmax_in_16_bits_has_two_roundings(name):
    dtype, wide = DTYPES[name], DTYPES["float32"]
    plain, g = Row(NEAR, dtype), G[:3]
    whole, total = math.fsum(map(abs, g)), math.fsum(g)
    expected = [
        wide.eps * (2 * abs(one) + y * whole * units)
        + dtype.eps * (2 * abs(one - y * total) + min(y, 1 - y) * whole * units)
        + plain.tiny
        for y, one, units in zip(plain.y, g, plain.units, strict=True)
    ]
    same(bounds.log_softmax_vjp(Rows(two(NEAR)), dtype, two(g)), expected)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("row", [NEAR, ROW], ids=["near", "far"])
def test_the_forward_mode_of_log_softmax(row, direction):
    dtype, tangent = DTYPES["float32"], direction[: len(row)]
    plain = Row(row, dtype)
    weighted = plain.mean(tangent, plain.units)
    expected = [dtype.eps * (2 * abs(t) + weighted) + plain.lost_sum(tangent) + plain.tiny for t in tangent]
    same(bounds.log_softmax_jvp(Rows(two(row)), dtype, two(tangent)), expected)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("row", [NEAR, ROW], ids=["near", "far"])
def test_the_second_derivatives_of_softmax_and_log_softmax(row, direction):
    dtype = DTYPES["float32"]
    plain, exact = Row(row, dtype), Rows(two(row))
    g, h, weight = direction[: len(row)], H[: len(row)], [2 * d for d in plain.d]
    sizes = [[abs(one) + plain.mean(v) for one in v] for v in (g, h)]
    product = [a * b for a, b in zip(*sizes, strict=True)]
    mixed = [a * plain.mean(h, weight) + b * plain.mean(g, weight) for a, b in zip(*sizes, strict=True)]
    mean, common = plain.mean(product), plain.mean(mixed) + plain.mean(product, weight)
    expected = [
        dtype.eps * y * (2 * (one + mean) * units + other + common)
        + 2 * (lost * (one + mean) + y * plain.lost_sum(product))
        + plain.tiny
        for y, one, other, units, lost in zip(plain.y, product, mixed, plain.units, plain.lost, strict=True)
    ]
    directions = two(g), two(h)
    same(bounds.softmax_second(exact, dtype, *directions), expected)
    first = bounds.softmax_first(exact, dtype, directions[1])
    whole = math.fsum(map(abs, g))
    same(bounds.log_softmax_second(exact, dtype, *directions), (2 * whole * first + plain.tiny)[0])


@pytest.mark.parametrize("name", DTYPE_NAMES)
def test_the_derivatives_of_sigmoid(name):
    dtype = DTYPES[name]
    # At the last two the cotangent is such that the unit of the gradient is smallest beside it.
    x = np.array([*LOGITS, -88.0, 0.9, -0.99])
    g = np.array([1.0, -2.0, 0.5, 3.0, -1.0, 2.0, 4.86, 5.06])
    h = np.array([0.5, 3.0, -1.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    exact = Elements(x)
    first, second = bounds.sigmoid_first(exact, dtype, g), bounds.sigmoid_second(exact, dtype, g, h)
    limit = -math.log(dtype.smallest_subnormal) + 2
    tiny = FLUSHED[name] * dtype.smallest_normal
    for i, one in enumerate(x):
        slope = math.exp(-abs(one)) / (1 + math.exp(-abs(one))) ** 2
        units = 8 + 2 * min(max(0, -one), limit)
        lost = 2 * slope if slope < tiny else 0.0
        near = units * ulp(abs(slope * g[i]), dtype)
        one_minus = dtype.eps * abs(g[i])
        expected = (max(near, one_minus) if one > 0 else near) + lost * abs(g[i]) + tiny
        same(first[i], expected)
        scale = abs(g[i] * h[i])
        near = 4 * units * dtype.eps * slope * scale
        same(second[i], near + (4 * dtype.eps * scale if one > 0 else 0) + lost * scale + tiny)


def test_what_differentiating_through_the_maximum_adds():
    dtype = DTYPES["float32"]
    row, g, h = [1.0, 1.0, -0.5], [0.5, -0.25, 3.0], [-2.0, 3.0, 1.0]  # the maximum is there twice
    plain, bound = Row(row, dtype), two([1.0, 2.0, 4.0])
    roundings = 4 + bounds.additions(3, dtype)
    for directions, size in (([g], 0.5), ([g, h], 0.5 * 3.0)):
        expected = [
            (4 * 7.0 / roundings if d == 0 else 0) + 4 * dtype.eps * y * size
            for d, y in zip(plain.d, plain.y, strict=True)
        ]
        arrays = [two(one) for one in directions]
        same(bounds.through_maximum(Rows(two(row)), dtype, bound, arrays), expected)


# --- one rounding at the end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_rounded_once_is_the_bound_of_float32_and_half_a_unit(name):
    dtype, exact = DTYPES[name], Rows(two(NEAR))
    y = exact.probabilities.hi
    expected = bounds.softmax(exact, DTYPES["float32"]) + dtype.ulp(y) / 2
    same(bounds.rounded_once(bounds.softmax, exact, y, dtype), expected[0])
    alone = Rows(np.array([[2.0]]))
    assert bounds.rounded_once(bounds.softmax, alone, alone.probabilities.hi, dtype) == 0


def test_a_storage_dtype_has_the_bound_of_the_dtype_it_is_computed_in_and_half_a_unit():
    exact = Rows(two(NEAR))
    y = exact.probabilities.hi
    stored = next(dtype for dtype in DTYPES.values() if dtype.computed_in)
    computed = bounds.softmax(exact, DTYPES[stored.computed_in])
    same(bounds.allowed(bounds.softmax, exact, y, stored), (computed + stored.ulp(y) / 2)[0])
    plain = replace(DTYPES["float32"], computed_in="")
    same(bounds.allowed(bounds.softmax, exact, y, plain), bounds.softmax(exact, plain)[0])
