"""Backends that abort, hang, fail at import or exit: what the runner must survive."""

import ctypes
import os
import time

import polylogit
from polylogit._backends.numpy import NumpyBackend


class Broken(NumpyBackend):
    """NumPy's backend under another name, whose arrays are its own."""

    differentiates = False

    def owns(self, cls):
        return False


class Aborts(Broken):
    name = "aborts"

    def dtypes(self):
        os.abort()


class Crashes(Broken):
    name = "crashes"

    def dtypes(self):
        return ctypes.string_at(0)


class Hangs(Broken):
    name = "hangs"

    def dtypes(self):
        time.sleep(600)


class Exits(Broken):
    name = "exits"

    def dtypes(self):
        os._exit(7)


class Raises(Broken):
    name = "raises"

    def __init__(self):
        raise RuntimeError("the driver is gone")


class Symbolic(Broken):
    """Arrays whose shape is an expression, as a framework with graphs has them."""

    name = "symbolic"

    class Array:
        shape = "shape of x"
        dtype = "float32"

    def asarray(self, value, *, dtype=None, device=None):
        return self.Array()

    def owns(self, cls):
        return cls is self.Array


assert polylogit
