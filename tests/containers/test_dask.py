"""Dask: lazy, in chunks along any axis, and the same numbers as NumPy's."""

from __future__ import annotations

import warnings

import dask
import dask.array as da
import mpmath
import numpy as np
import pytest

import polylogit
from polylogit import conformance, errors

CHUNKS = [(3, 4, 3), (6, 10, 8), ((2, 4), (5, 0, 5), (0, 8))]
AXES = [-1, 0, (0, 2), None, ()]


@pytest.fixture(autouse=True)
def one_thread() -> object:
    with dask.config.set(scheduler="synchronous"), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def x() -> np.ndarray:
    """With a row of each special kind."""
    values = np.random.default_rng(0).normal(size=(6, 10, 8)) * 5
    values[0, 0, 0], values[1, 1, :], values[2, 2, 3], values[3, 3, 3] = np.nan, -np.inf, np.inf, -np.inf
    return values


@pytest.fixture
def mask() -> np.ndarray:
    """With rows that have no entry left, and chunks that have none."""
    values = np.random.default_rng(1).random((6, 10, 8)) > 0.4
    values[:, 0], values[2:4, :, :3] = False, False
    return values


def counted(calls: list[int]) -> da.Array:
    """A row of zeros in four chunks that notes how often one is made."""

    def note(block: np.ndarray) -> np.ndarray:
        calls.append(block.size)
        return block

    return da.zeros(12, chunks=3).map_blocks(note, dtype=float, meta=np.zeros(0))


class TestValues:
    @pytest.mark.parametrize("chunks", CHUNKS)
    @pytest.mark.parametrize("axis", AXES)
    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    def test_are_those_of_numpy_in_the_same_chunks(
        self, operation: str, axis: object, chunks: object, x: np.ndarray, mask: np.ndarray
    ) -> None:
        function, split = getattr(polylogit, operation), da.from_array(x, chunks=chunks)
        for ours, theirs in (
            ({}, {}),
            ({"where": da.from_array(mask, chunks=4)}, {"where": mask}),
            ({"where": da.from_array(mask[0, :, :1], chunks=3)}, {"where": mask[0, :, :1]}),
        ):
            y = function(split, axis, **ours)
            assert isinstance(y, da.Array)
            assert y.chunks == split.chunks
            np.testing.assert_allclose(y.compute(), function(x, axis, **theirs), rtol=1e-14, atol=1e-14)

    @pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "bool"])
    def test_of_other_dtypes_are_those_of_numpy(self, dtype: str, x: np.ndarray) -> None:
        given = np.nan_to_num(x, posinf=9, neginf=-9).astype(dtype)
        for function in (polylogit.softmax, polylogit.log_softmax, polylogit.sigmoid):
            got, expected = function(da.from_array(given, chunks=3)), function(given)
            assert got.dtype == got.compute().dtype == expected.dtype
            np.testing.assert_allclose(got.compute(), expected, rtol=2 * np.finfo(expected.dtype).eps, atol=1e-15)
        assert polylogit.softmax(da.ones(4, chunks=2), dtype="bfloat16").compute().dtype.name == "bfloat16"

    def test_keep_the_bound_over_many_chunks_of_two(self) -> None:
        row = np.random.default_rng(2).normal(size=512) * 3
        got = polylogit.softmax(da.from_array(row, chunks=2)).compute()
        with mpmath.workdps(40):
            e = [mpmath.exp(mpmath.mpf(float(one))) for one in row]
            total = mpmath.fsum(e)
            away = [abs(mpmath.mpf(float(y)) * total / exact - 1) for y, exact in zip(got, e, strict=True)]
        bound = (4 + 2 * (row.max() - row) + 2 * np.log2(row.size)) * np.finfo(np.float64).eps
        assert all(error <= limit for error, limit in zip(away, bound, strict=True))

    @pytest.mark.parametrize("size", [0, 1, 8192])
    def test_of_rows_of_any_length(self, size: int) -> None:
        y = polylogit.softmax(da.zeros((3, size), chunks=(2, max(1, size // 3))))
        np.testing.assert_allclose(y.compute(), np.full((3, size), 1 / max(size, 1)), rtol=1e-15)

    def test_through_the_kit_with_every_axis_split(self) -> None:
        report = conformance.run(["dask"], ["softmax"], level="quick", only=["values/float32/*"])
        assert report.status == 0
        assert any(result.verdict == "passed" for result in report.results)


class TestDerivatives:
    @pytest.mark.parametrize("operation", ["softmax", "log_softmax", "sigmoid"])
    @pytest.mark.parametrize("masked", [False, True])
    def test_of_first_and_second_order_are_those_of_numpy(
        self, operation: str, masked: bool, x: np.ndarray, mask: np.ndarray
    ) -> None:
        function, x = getattr(polylogit, operation), np.clip(np.nan_to_num(x), -9, 9)
        masked = masked and operation != "sigmoid"
        ours, theirs = ({"where": da.from_array(mask, chunks=3)}, {"where": mask}) if masked else ({}, {})
        g, v = (np.random.default_rng(seed).normal(size=x.shape) for seed in (2, 3))
        a, b, c = (da.from_array(one, chunks=chunks) for one, chunks in ((x, 3), (g, 3), (v, 5)))
        pairs = [
            (polylogit.vjp(function, a, **ours)[1](b), polylogit.vjp(function, x, **theirs)[1](g)),
            (polylogit.jvp(function, a, c, **ours)[1], polylogit.jvp(function, x, v, **theirs)[1]),
        ]
        slopes = polylogit.gradient(function, b, **ours), polylogit.gradient(function, g, **theirs)
        pairs.append((polylogit.vjp(slopes[0], a)[1](c), polylogit.vjp(slopes[1], x)[1](v)))
        for got, expected in pairs:
            assert got.chunks == a.chunks
            np.testing.assert_allclose(got.compute(), expected, rtol=1e-11, atol=1e-14)

    def test_of_another_function_or_shape_are_refused(self) -> None:
        with pytest.raises(errors.DifferentiationError, match="no autodiff"):
            polylogit.vjp(lambda x: x, da.zeros(2))
        with pytest.raises(errors.DifferentiationError, match="broadcast_to"):
            polylogit.vjp(polylogit.softmax, da.zeros(2))[1](da.zeros(3))


class TestUnknownChunks:
    @pytest.mark.parametrize("axis", [0, 1, None])
    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    def test_are_served_like_known_ones(self, operation: str, axis: object) -> None:
        random, function = np.random.default_rng(0), getattr(polylogit, operation)
        kept = da.from_array(random.random(20) > 0.5, chunks=5)
        x, mask = (
            da.from_array(one, chunks=(5, 4))[kept] for one in (random.normal(size=(20, 12)), np.eye(20, 12) < 1)
        )
        assert np.isnan(x.shape[0])
        full, columns = x.compute(), np.arange(12) > 3
        for ours, theirs in (
            ({}, {}),
            ({"where": mask}, {"where": mask.compute()}),
            ({"where": da.from_array(columns, chunks=5)}, {"where": columns}),
        ):
            np.testing.assert_allclose(
                function(x, axis, **ours).compute(), function(full, axis, **theirs), rtol=1e-14, atol=1e-14
            )
            slope = polylogit.vjp(function, x, axis=axis, **ours)[1](x).compute()
            expected = polylogit.vjp(function, full, axis=axis, **theirs)[1](full)
            np.testing.assert_allclose(slope, expected, rtol=1e-11, atol=1e-14)


class TestGraphs:
    def test_have_three_tasks_a_chunk_beside_the_tree(self) -> None:
        x = da.random.default_rng(0).normal(size=6400, chunks=100)
        tree = 16 + 4 + 1  # four at a time
        assert len(polylogit.softmax(x).dask) - len(x.dask) == 3 * 64 + tree
        held = da.from_array(np.zeros(6400), chunks=100)  # in memory: nothing is to be read again
        assert len(polylogit.log_softmax(held).dask) - len(held.dask) == 2 * 64 + tree

    def test_have_one_task_a_chunk_where_rows_are_whole(self) -> None:
        x = da.random.default_rng(0).normal(size=(6400, 10), chunks=(100, 10))
        assert len(polylogit.softmax(x).dask) == 2 * len(x.dask)

    @pytest.mark.parametrize("twice", [True, False])
    def test_read_cheap_sources_twice_unless_told_otherwise(self, twice: bool) -> None:
        calls: list[int] = []
        with dask.config.set({"polylogit.read-twice": twice}):
            y = polylogit.softmax(counted(calls))
        np.testing.assert_allclose(y.compute(), 1 / 12)
        assert len(calls) == (8 if twice else 4)

    @pytest.mark.parametrize("inline", [True, False])
    def test_read_files_twice(self, inline: bool) -> None:
        class File:
            shape, dtype, ndim, reads = (12,), np.dtype(float), 1, 0

            def __getitem__(self, part: object) -> np.ndarray:
                File.reads += 1
                return np.zeros(self.shape)[part]

        y = polylogit.softmax(da.from_array(File(), chunks=3, inline_array=inline))
        File.reads = 0
        np.testing.assert_allclose(y.compute(), 1 / 12)
        assert File.reads == 8

    def test_do_not_repeat_what_needed_other_chunks(self) -> None:
        calls: list[int] = []
        x = counted(calls)
        polylogit.softmax(x - x.mean()).compute()
        assert len(calls) == 4

    def test_compute_nothing_in_the_call(self) -> None:
        def never(_: np.ndarray) -> np.ndarray:
            raise AssertionError

        x = da.zeros(8, chunks=2).map_blocks(never, dtype=float, meta=np.zeros(0))
        polylogit.softmax(x, where=x > 0)
        polylogit.vjp(polylogit.log_softmax, x)[1](x)
        polylogit.sigmoid(x)


class TestBadInput:
    def test_a_mask_that_does_not_fit_is_refused(self) -> None:
        x = da.zeros((4, 6), chunks=2)
        with pytest.raises(errors.MaskError, match="broadcast"):
            polylogit.softmax(x, where=da.ones(5, chunks=2, dtype=bool))
        with pytest.raises(errors.DTypeError, match="bool"):
            polylogit.softmax(x, where=da.ones(6, chunks=2))
        with pytest.raises(errors.MixedBackendsError, match="convert"):
            polylogit.softmax(x, where=np.ones(6, bool))
        polylogit.softmax(x, where=polylogit.convert(np.ones(6, bool), "dask"))  # the remedy

    @pytest.mark.parametrize("dtype", ["complex128", "U3", "datetime64[s]"])
    def test_logits_that_are_no_real_numbers_are_refused(self, dtype: str) -> None:
        with pytest.raises(errors.DTypeError):
            polylogit.softmax(da.zeros(3, chunks=2).astype(dtype))

    def test_blocks_that_lose_their_meaning_are_refused(self) -> None:
        x = da.ma.masked_equal(da.zeros(4, chunks=2), 0)
        with pytest.raises(errors.UnsupportedArrayError, match="blocks"):
            polylogit.softmax(x)

    def test_other_collections_are_told_what_to_become(self) -> None:
        with pytest.raises(errors.UnsupportedArrayError, match="from_delayed"):
            polylogit.softmax(dask.delayed(np.zeros)(3))


def test_arrays_are_found_by_their_backend_and_converted_only_when_asked() -> None:
    x = da.zeros(4, chunks=2)
    assert polylogit.get_backend(x).name == "dask"
    assert isinstance(polylogit.softmax([0.0, 0.0], backend="dask"), da.Array)
    assert polylogit.convert(x, "numpy").tolist() == [0.0] * 4
    assert "dask" not in [info.name for info in polylogit.backends()]
