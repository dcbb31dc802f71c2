"""Arrays that are split over devices and processes: every engine that is installed, asked as a cluster would ask it.

`launch` starts processes and gathers what they report, `worker` is one of them, `cases` knows what is asked and what is
right, and `engines` has a module for each framework.
"""
