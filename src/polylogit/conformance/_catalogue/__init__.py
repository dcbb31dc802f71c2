"""The catalogue: faulty implementations and gradients, most of which somebody shipped, and right ones beside them.

Plain NumPy functions of float16, bfloat16, float32 and float64, against which tests are measured: the kit's own and, by
`polylogit.conformance.audit`, anybody's.
"""

from polylogit.conformance._catalogue.classes import CLASSES
from polylogit.conformance._catalogue.fault import NEEDS, Fault
from polylogit.conformance._catalogue.published import PUBLISHED, UNPUBLISHED
from polylogit.conformance._catalogue.reported import REPORTED
from polylogit.conformance._catalogue.right import TWINS, UNUSUAL

__all__ = [
    "CATALOGUE",
    "CLASSES",
    "NEEDS",
    "PUBLISHED",
    "REPORTED",
    "RIGHT",
    "TWINS",
    "UNPUBLISHED",
    "UNUSUAL",
    "Fault",
]

CATALOGUE = (*PUBLISHED, *UNPUBLISHED, *REPORTED, *(fault for group in CLASSES.values() for fault in group))
RIGHT = {**UNUSUAL, **TWINS}
