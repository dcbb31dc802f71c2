"""Tests of arrays that are split over devices and processes, on every installed engine.

`launch` starts processes and collects their reports, `worker` is one of these processes, `cases` knows the questions
and the right answers, and `engines` has a module for each framework.
"""
