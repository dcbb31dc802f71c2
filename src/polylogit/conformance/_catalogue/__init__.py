"""The catalogue: faulty implementations and gradients, most of them once released, and right ones beside them.

They are plain NumPy functions for float16, bfloat16, float32 and float64. They measure the quality of tests: of the
kit's own and, through `polylogit.conformance.audit`, of any other. Knows no framework.
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
