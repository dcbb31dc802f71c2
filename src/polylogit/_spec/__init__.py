"""The specification of a right result: exact values, derivatives, bounds, laws, and facts about dtypes.

The kit, porting and the documentation read it. Imports no backend, and calls no operation of polylogit.
"""
