"""One module a framework: how an array is split there, what goes between the parts, and what else is to be shown.

Each has ``RANKS`` (whether each part has a process of its own), ``environment(parts)`` (variables that must be there
before the framework is imported), and a class ``Engine(rank, parts, folder)`` with ``meshes`` (of how many dimensions
it is to be asked), ``uneven`` (whether parts may differ in size), ``gaps`` (what the framework itself cannot, by check
and case, and why), ``answer(question, dimensions)`` and ``facts(level)``, which yields what is shown besides as
``(name, function)``; the function returns what is wrong, or nothing.
"""
