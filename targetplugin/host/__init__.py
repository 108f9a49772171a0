"""`pitcopy`, for hosts: in-band save, recover and swap. Python's standard library, and the vendor
commands' codec.
"""
