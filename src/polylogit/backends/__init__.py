"""The backends, one file a framework, all with the outline of `polylogit.backends.base`. None imports another.

The package shares its name with the public function ``polylogit.backends()``, and Python sets that attribute to the
package as soon as a backend is imported; so the package itself is callable and answers for the function.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in polylogit.registry
if TYPE_CHECKING:
    from polylogit.info import BackendInfo


class _CallablePackage(type(sys)):  # type: ignore[misc]
    def __call__(self) -> tuple[BackendInfo, ...]:
        """As `polylogit.info.backends`."""
        from polylogit.info import backends  # noqa: PLC0415  only when asked

        return backends()


sys.modules[__name__].__class__ = _CallablePackage
