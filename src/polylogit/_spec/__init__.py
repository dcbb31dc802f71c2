"""What is right: exact values, derivatives, bounds, laws and the facts of dtypes.

Read by the kit, by porting and by the documentation. Imports no backend and calls no operation of polylogit.
"""
