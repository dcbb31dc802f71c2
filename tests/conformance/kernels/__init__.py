"""Kernels that the tests of the kit use: faults, right ones of every kind, backends that break. No test is here."""
