"""The line that a call is written in: what a search finds and what is replayed."""

import numpy as np
import pytest
from hypothesis import given, settings

from polylogit._spec.dtypes import DTYPES
from polylogit.conformance import strategies
from polylogit.conformance._data.reproducer import Call
from polylogit.errors import ConformanceError


@pytest.mark.parametrize(
    "line",
    [
        "x=0*4,4",
        "x=0.1,-0,inf,-inf,nan,1e+30",
        "x=2x3:1,2,3,4,5,6;axis=0",
        "x=2x1x2:0*4;axis=None",
        "x=2x2:1*4;axis=0+-1;where=2x1:1,0",
        "x=1,2;where=:1",
        "vjp;x=0,1;g=1,0",
        "jvp;x=2x1:0,1;axis=-2;g=2x1:1*2",
    ],
)
def test_a_call_is_the_line_it_was_read_from(line):
    assert Call.of(line).line(DTYPES["float32"]) == line


@pytest.mark.parametrize(
    "line",
    ["", "x", "x=a", "x=1;y=2", "x=2x2:1,2", "vjp;x=1", "x=1;g=1", "vjp;x=1,2;g=1", "x=1;axis=a", "x=0*99999999"],
)
def test_a_line_that_stands_for_no_call_is_refused(line):
    with pytest.raises(ConformanceError, match="stands for no call"):
        Call.of(line)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_spelt_so_that_they_come_back(dtype):
    dtype = DTYPES[dtype]

    @settings(max_examples=200, derandomize=True, deadline=None)
    @given(strategies.calls("softmax", dtype, where=True))
    def comes_back(call):
        again = Call.of(call.line(dtype))
        assert np.array_equal(dtype.round(again.x), call.x, equal_nan=True)
        assert again.axis == call.axis
        assert (again.where is None) == (call.where is None)
        assert call.where is None or np.array_equal(again.where, call.where)

    comes_back()
