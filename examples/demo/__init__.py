"""The whole way on one machine: apply, serve, rotate under load, count every row.

`make demo`; with KEEP=1 everything stays up until it is told to end.
"""
