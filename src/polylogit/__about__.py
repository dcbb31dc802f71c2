"""The version, in the only place that states it: the build and ``polylogit.__version__`` both read it from here."""

__version__ = "0.1.0"
