"""What cases are made of: rows and cotangents, memory layouts, the line that one call is written in."""
