"""The requirements of the extras, so that an error can name an install command that works.

The command names the packages rather than ``polylogit[extra]``, so it works whether this copy of polylogit came from a
checkout, a wheel or an index, and never replaces it. A test compares the table with ``pyproject.toml``. Knows nothing
else of polylogit.
"""

from __future__ import annotations

_CONFORMANCE = ("click>=8.1", "jinja2>=3.1", "ml_dtypes>=0.4", "mpmath>=1.3", "rich>=13.7", "safetensors>=0.5")

EXTRAS: dict[str, tuple[str, ...]] = {
    "torch": ("torch>=2.6",),
    "tensorflow": ("tensorflow>=2.18",),
    "jax": ("jax>=0.4.36",),
    "onnx": (*_CONFORMANCE, "onnx>=1.17", "onnxruntime>=1.20"),
    "conformance": _CONFORMANCE,
    "hdf5": (*_CONFORMANCE, "h5py>=3.12"),
    "tflite": (*_CONFORMANCE, "ai-edge-litert>=1.0"),
    "search": (*_CONFORMANCE, "hypothesis>=6.100"),
    "array-api": ("array-api-compat>=1.11",),
    "dask": ("dask[array]>=2025.1",),
    "xarray": ("xarray>=2025.1",),
    "dataframes": ("narwhals>=2.0",),
}


def command(extra: str) -> str:
    """The command that installs the requirements of an extra.

    Parameters
    ----------
    extra : str
        A key of ``EXTRAS``.

    Returns
    -------
    str
        A line for the shell.

    Examples
    --------
    >>> command("jax")
    'pip install "jax>=0.4.36"'
    """
    return " ".join(["pip install", *(f'"{requirement}"' for requirement in EXTRAS[extra])])
