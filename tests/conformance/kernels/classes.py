"""Five classes of faults that tolerances let through, and right twins of them, as the tests of the kit run them."""

from polylogit.conformance import _catalogue as catalogue

from .faults import table

CLASSES = {name: fault for faults in catalogue.CLASSES.values() for name, fault in table(faults).items()}
CLASS_OF = {fault.name: title for title, faults in catalogue.CLASSES.items() for fault in faults}
TWINS = catalogue.TWINS
