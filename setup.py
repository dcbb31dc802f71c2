"""What pyproject.toml cannot say: the extension, built where there is a compiler, and the README where it is shown."""

import os
import runpy
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
SOURCES = "src/polylogit/_backends/numpy/kernels"
HEADERS = sorted(path.name for path in (ROOT / SOURCES).glob("*.h"))
VERSION = runpy.run_path(str(ROOT / "src/polylogit/__about__.py"))["__version__"]
README, ADDRESSES = runpy.run_path(str(ROOT / "tools/where_shown.py"))["shown"](VERSION)
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
# The arithmetic is written out to the last rounding: nothing may be contracted, and nothing reordered. That
# exceptions are not observed changes no result; without it compilers do not vectorise a choice between two values.
GNU = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]


class BuildKernels(build_ext):
    """With the options of the compiler that was found."""

    def build_extensions(self) -> None:
        """Build, or leave out."""
        options = ["/O2", "/fp:precise", "/std:c11"] if self.compiler.compiler_type == "msvc" else GNU
        for extension in self.extensions:
            extension.extra_compile_args += options
        super().build_extensions()


kernels = Extension(
    "polylogit._backends.numpy._kernels",
    [f"{SOURCES}/module.c"],
    depends=[f"{SOURCES}/{name}" for name in HEADERS],
    optional=True,
    py_limited_api=not FREE_THREADED,
)

setup(
    # POLYLOGIT_PURE=1 makes the wheel of pure Python, for the systems that have none of their own.
    ext_modules=[] if os.environ.get("POLYLOGIT_PURE") else [kernels],
    long_description=README,
    long_description_content_type="text/markdown",
    project_urls=ADDRESSES,
    cmdclass={"build_ext": BuildKernels},
    options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
