"""The diagnosis: evidence about two outputs, the faults that might explain their difference, and the judge."""
