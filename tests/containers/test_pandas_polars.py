"""Series and data frames: the numbers of NumPy, with index and names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

import polylogit
from polylogit import errors

VALUES = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, 6.0]])
MASK = ~np.isnan(VALUES)
COLUMNS = [
    ["a", "b", "c"],
    [0, 1, 2],
    ["a", "a", "b"],
    pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)]),
]


@pytest.fixture
def series() -> pd.Series:
    return pd.Series(VALUES[1], index=[5, 6, 7], name="logits")


class TestPandas:
    @pytest.mark.parametrize("columns", COLUMNS)
    @pytest.mark.parametrize(("axis", "number"), [(-1, -1), (0, 0), (None, None), ("columns", 1), ("index", 0)])
    def test_frames_keep_index_and_columns(self, columns: object, axis: object, number: object) -> None:
        frame = pd.DataFrame(VALUES, index=["p", "q"], columns=columns)
        for function in (polylogit.softmax, polylogit.log_softmax):
            for ours, theirs in (({}, {}), ({"where": frame.notna()}, {"where": MASK})):
                expected = pd.DataFrame(function(VALUES, number, **theirs), index=frame.index, columns=frame.columns)
                pd.testing.assert_frame_equal(function(frame, axis, **ours), expected)

    def test_series_keep_index_and_name(self, series: pd.Series) -> None:
        for function in (polylogit.softmax, polylogit.log_softmax, polylogit.sigmoid):
            pd.testing.assert_series_equal(
                function(series), pd.Series(function(VALUES[1]), series.index, name="logits")
            )
        assert polylogit.softmax(series.astype("float32")).dtype == np.float32
        assert polylogit.softmax(series, dtype="float16").dtype == np.float16

    def test_what_is_missing_is_nan_or_takes_no_part(self) -> None:
        integers = pd.Series([1, None, 2], dtype="Int64")
        assert polylogit.softmax(integers).isna().all()
        assert polylogit.softmax(integers, where=integers.notna())[1] == 0.0

    def test_derivatives_have_the_labels_too(self, series: pd.Series) -> None:
        g = np.array([1.0, 2.0, -1.0])
        options, plain = {"where": series.notna()}, {"where": MASK[1]}
        gradient = polylogit.vjp(polylogit.softmax, series, **options)[1](pd.Series(g, series.index))
        expected = polylogit.vjp(polylogit.softmax, VALUES[1], **plain)[1](g)
        pd.testing.assert_series_equal(gradient, pd.Series(expected, series.index, name="logits"))
        _, tangent = polylogit.jvp(polylogit.log_softmax, series, pd.Series(g, series.index), **options)
        assert tangent.tolist() == polylogit.jvp(polylogit.log_softmax, VALUES[1], g, **plain)[1].tolist()

    def test_labels_are_compared_and_never_aligned(self, series: pd.Series) -> None:
        moved = series.notna()[::-1]
        with pytest.raises(errors.MaskError, match="reindex"):
            polylogit.softmax(series, where=moved)
        polylogit.softmax(series, where=moved.reindex(index=series.index))  # the first remedy
        polylogit.softmax(series, where=moved.to_numpy())  # and the second
        with pytest.raises(errors.MaskError, match="shape"):
            polylogit.softmax(pd.DataFrame(VALUES), where=series.notna())

    def test_what_is_no_table_of_numbers_is_refused(self, series: pd.Series) -> None:
        with pytest.raises(errors.DTypeError):
            polylogit.softmax(pd.Series(["a", "b"]))
        with pytest.raises(errors.UnsupportedArrayError, match="to_numpy"):
            polylogit.softmax(series.index)
        with pytest.raises(errors.AxisError, match='"index"'):
            polylogit.softmax(series, "columns")
        with pytest.raises(errors.DifferentiationError):
            polylogit.vjp(np.exp, series)


class TestPolars:
    def test_frames_keep_their_columns(self) -> None:
        frame = pl.DataFrame({"a": [1.0, 4.0], "b": [2.0, None], "c": [3, 6]})
        assert polylogit.log_softmax(frame, 0).columns == ["a", "b", "c"]
        np.testing.assert_array_equal(polylogit.softmax(frame).to_numpy(), polylogit.softmax(VALUES))
        seen = frame.select(pl.all().is_not_null())
        np.testing.assert_array_equal(
            polylogit.softmax(frame, where=seen).to_numpy(), polylogit.softmax(VALUES, where=MASK)
        )

    def test_series_keep_their_name_and_dtype(self) -> None:
        series = pl.Series("logits", [4.0, None, 6.0], dtype=pl.Float32)
        y = polylogit.softmax(series, where=series.is_not_null())
        assert (y.name, y.dtype, y[1]) == ("logits", pl.Float32, 0.0)
        assert polylogit.softmax(series).is_nan().all()
        assert polylogit.vjp(polylogit.sigmoid, pl.Series([0.0]))[1](pl.Series([1.0])).to_list() == [0.25]

    def test_lazy_frames_are_told_to_collect(self) -> None:
        with pytest.raises(errors.UnsupportedArrayError, match="collect"):
            polylogit.softmax(pl.LazyFrame({"a": [1.0]}))


def test_libraries_are_not_mixed(series: pd.Series) -> None:
    with pytest.raises(errors.MixedBackendsError, match="polars"):
        polylogit.softmax(series, where=pl.Series([True, True, True]))


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_numbers_become_tables_where_they_are_asked_for(name: str) -> None:
    assert type(polylogit.softmax([0.0, 0.0], backend=name)).__module__.startswith(name)
    assert polylogit.softmax([[0.0, 0.0]], backend=name).shape == (1, 2)
    assert polylogit.convert(polylogit.get_backend(name).asarray([1.0]), "numpy").tolist() == [1.0]


def test_a_list_goes_by_position_whatever_the_labels() -> None:
    series = pd.Series([1.0, 2.0], index=["a", "b"])
    assert polylogit.softmax(series, where=[True, False]).tolist() == [1.0, 0.0]
    _, tangent = polylogit.jvp(polylogit.softmax, series, [1.0, 1.0])
    assert list(tangent.index) == ["a", "b"]
