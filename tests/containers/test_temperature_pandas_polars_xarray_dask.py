"""A temperature for labelled data: taken as a number or by position, and refused where it cannot be."""

from __future__ import annotations

from typing import Any

import array_api_strict as strict
import dask.array as da
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr

import polylogit
from polylogit import errors

X = np.random.default_rng(0).normal(size=(3, 4))
PER_ROW = np.array([[0.5], [1.0], [2.0]])
CONTAINERS = [pd.DataFrame(X), pl.DataFrame(X), xr.DataArray(X, dims=("a", "b"))]


@pytest.mark.parametrize("x", CONTAINERS, ids=["pandas", "polars", "xarray"])
@pytest.mark.parametrize("temperature", [0.7, PER_ROW, [1.0, 2.0, 3.0, 4.0]], ids=["number", "array", "list"])
def test_labelled_data_take_a_number_or_an_array_by_position(x: Any, temperature: Any) -> None:
    for function in (polylogit.softmax, polylogit.log_softmax, polylogit.sigmoid):
        got = function(x, temperature=temperature)
        assert type(got) is type(x)
        np.testing.assert_array_equal(got.to_numpy(), function(X, temperature=temperature))


def test_the_derivative_of_labelled_data() -> None:
    gradient = polylogit.vjp(polylogit.softmax, pd.DataFrame(X), temperature=0.7)[1](pd.DataFrame(X * X))
    np.testing.assert_array_equal(gradient, polylogit.vjp(polylogit.softmax, X, temperature=0.7)[1](X * X))


def test_a_temperature_with_labels_is_refused() -> None:
    with pytest.raises(errors.TemperatureError, match="to_numpy"):
        polylogit.softmax(pd.DataFrame(X), temperature=pd.Series([1.0] * 4))


def test_who_cannot_divide_says_so() -> None:
    for x in (da.from_array(X), xr.DataArray(da.from_array(X)), strict.asarray(X)):
        for function in (polylogit.softmax, polylogit.log_softmax, polylogit.sigmoid):
            with pytest.raises(errors.UnsupportedArrayError, match="x / temperature"):
                function(x, temperature=2.0)
        with pytest.raises(errors.UnsupportedArrayError, match="x / temperature"):
            polylogit.vjp(polylogit.softmax, x, temperature=2.0)[1](x)
    for x in (da.from_array(X), pd.DataFrame(X), strict.asarray(X)):
        with pytest.raises(errors.UnsupportedArrayError, match="out="):
            polylogit.softmax(x, out=x)
