"""Why two outputs differ: what is known of them, the faults that might explain it, and the judge."""
