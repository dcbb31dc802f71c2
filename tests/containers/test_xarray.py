"""xarray: dimensions by their names, coordinates kept."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import polylogit
from polylogit import errors

VALUES = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, 6.0]])


@pytest.fixture
def x() -> xr.DataArray:
    coordinates = {"t": [10, 20], "c": list("abc"), "season": ("t", ["dry", "wet"])}
    return xr.DataArray(VALUES, dims=("t", "c"), coords=coordinates, name="logits", attrs={"source": "model"})


class TestDataArray:
    @pytest.mark.parametrize(
        ("named", "axis"),
        [("c", -1), ("t", 0), (("c", "t"), (0, 1)), (["t"], 0), (("c", 0), (0, 1)), (-2, 0), (None, None)],
    )
    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    def test_an_axis_goes_by_its_name(self, operation: str, named: object, axis: object, x: xr.DataArray) -> None:
        function = getattr(polylogit, operation)
        xr.testing.assert_identical(function(x, named), x.copy(data=function(VALUES, axis)))

    def test_sigmoid_keeps_the_labels(self, x: xr.DataArray) -> None:
        xr.testing.assert_identical(polylogit.sigmoid(x), x.copy(data=polylogit.sigmoid(VALUES)))

    def test_what_is_missing_is_nan_or_takes_no_part(self, x: xr.DataArray) -> None:
        assert np.isnan(polylogit.softmax(x, "c").sel(t=20)).all()
        masked = polylogit.softmax(x, "c", where=x.notnull())
        xr.testing.assert_identical(masked, x.copy(data=polylogit.softmax(VALUES, where=~np.isnan(VALUES))))

    def test_a_mask_goes_by_its_dimensions_and_brings_no_coordinate(self, x: xr.DataArray) -> None:
        mask = xr.DataArray([True, False], dims="t", coords={"t": [10, 20], "height": 3.0}, name="open")
        got = polylogit.softmax(x, "c", where=mask)
        xr.testing.assert_identical(got, x.copy(data=polylogit.softmax(VALUES, where=np.array([[True], [False]]))))
        by_position = polylogit.softmax(x, "c", where=np.array([True, False, True]))
        assert by_position.sel(c="b").values.tolist() == [0.0, 0.0]

    @pytest.mark.requires("dask")
    def test_chunks_stay_lazy(self, x: xr.DataArray) -> None:
        y = polylogit.softmax(x.chunk({"t": 1, "c": 2}), "c", where=x.notnull())
        assert y.chunks == ((1, 1), (2, 1))
        np.testing.assert_allclose(y.compute(), polylogit.softmax(VALUES, where=~np.isnan(VALUES)), rtol=1e-15)

    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    def test_derivatives_have_the_labels_too(self, operation: str, x: xr.DataArray) -> None:
        function, g, mask = (
            getattr(polylogit, operation),
            np.random.default_rng(0).normal(size=(2, 3)),
            ~np.isnan(VALUES),
        )
        options, plain = {"axis": "c", "where": x.notnull()}, {"axis": 1, "where": mask}
        y, pullback = polylogit.vjp(function, x, **options)
        xr.testing.assert_identical(y, function(x, **options))
        expected = polylogit.vjp(function, VALUES, **plain)[1](g)
        xr.testing.assert_identical(pullback(x.copy(data=g)), x.copy(data=expected))
        _, tangent = polylogit.jvp(function, x, x.copy(data=g), **options)
        xr.testing.assert_identical(tangent, x.copy(data=polylogit.jvp(function, VALUES, g, **plain)[1]))
        second = polylogit.vjp(polylogit.gradient(function, x.copy(data=g), **options), x)[1](x.copy(data=g))
        expected = polylogit.vjp(polylogit.gradient(function, g, **plain), VALUES)[1](g)
        xr.testing.assert_identical(second, x.copy(data=expected))


class TestDataset:
    def test_each_variable_finds_the_dimension_where_it_has_it(self, x: xr.DataArray) -> None:
        data = xr.Dataset({"rows": x, "columns": x.transpose()})
        y = polylogit.softmax(data, "c", where=data.notnull())
        expected = polylogit.softmax(VALUES, where=~np.isnan(VALUES))
        np.testing.assert_array_equal(y["rows"], expected)
        np.testing.assert_array_equal(y["columns"], expected.T)
        assert set(y.coords) == set(data.coords)

    def test_one_without_the_dimension_is_named(self, x: xr.DataArray) -> None:
        with pytest.raises(errors.AxisError, match="'alone'"):
            polylogit.softmax(xr.Dataset({"logits": x, "alone": x.isel(c=0, drop=True)}), "c")


class TestBadInput:
    def test_an_unknown_dimension_is_refused(self, x: xr.DataArray) -> None:
        with pytest.raises(errors.AxisError, match="has no dimension"):
            polylogit.softmax(x, "class")

    def test_a_mask_of_other_coordinates_or_dimensions_is_refused(self, x: xr.DataArray) -> None:
        with pytest.raises(errors.MaskError, match="align them first"):
            polylogit.softmax(x, "c", where=x.notnull().assign_coords(t=[1, 2]))
        with pytest.raises(errors.MaskError, match="select or rename"):
            polylogit.softmax(x, "c", where=x.notnull().rename(t="time"))

    def test_a_dataset_is_differentiated_by_variable(self, x: xr.DataArray) -> None:
        with pytest.raises(errors.UnsupportedArrayError, match="variable by variable"):
            polylogit.vjp(polylogit.softmax, x.to_dataset())[1](x)
        with pytest.raises(errors.DifferentiationError, match="DataArray"):
            polylogit.vjp(np.exp, x)
