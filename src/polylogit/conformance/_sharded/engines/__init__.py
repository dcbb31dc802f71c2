"""One module for each framework: how it splits an array, what the parts exchange, and further facts.

Each has ``RANKS`` (whether each part has its own process), ``environment(parts)`` (variables to set before the
framework is imported), and a class ``Engine(rank, parts, folder)``. This has ``meshes`` (the numbers of mesh dimensions
to test), ``uneven`` (whether parts may differ in size), ``gaps`` (what the framework itself cannot do, by check and
case, with the reason), ``answer(question, dimensions)``, and ``facts(level)``, which yields further tests as ``(name,
function)``; the function returns what is wrong, or nothing.
"""
