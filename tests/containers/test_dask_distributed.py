"""Dask on a cluster of processes: the same numbers, and of a worker that dies the engine's retry or error."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, KilledWorker, LocalCluster

import polylogit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")  # of sockets and threads that end with a worker


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as found,
    ):
        yield found


def dying(block: np.ndarray, marker: str, block_id: tuple[int, ...] = ()) -> np.ndarray:
    """The block; the third one ends its process, once where a marker can be left and otherwise always."""
    if block_id == (2,) and not os.path.exists(marker):  # noqa: PTH110  in another process
        if marker:
            with open(marker, "w") as file:  # noqa: PTH123
                file.write("died")
        os._exit(1)
    return block


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
def test_the_numbers_are_those_of_numpy(operation: str) -> None:
    function, row = getattr(polylogit, operation), np.random.default_rng(0).normal(size=100_000)
    y = function(da.from_array(row, chunks=9_000))
    np.testing.assert_allclose(y.compute(), function(row), rtol=1e-13)


@pytest.mark.usefixtures("client")
def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    row = np.random.default_rng(0).normal(size=1000)
    marker = str(tmp_path / "died")
    y = polylogit.softmax(da.from_array(row, chunks=100).map_blocks(dying, marker=marker, dtype=float))
    np.testing.assert_allclose(y.compute(), polylogit.softmax(row), rtol=1e-13)
    assert os.path.exists(marker)  # noqa: PTH110


@pytest.mark.usefixtures("client")
def test_workers_that_always_die_are_an_error() -> None:
    y = polylogit.softmax(da.zeros(1000, chunks=100).map_blocks(dying, marker="", dtype=float))
    with pytest.raises(KilledWorker):
        y.compute()
