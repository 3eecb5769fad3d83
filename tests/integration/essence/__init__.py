"""The tests that show what a server must be able to do, to be run again before another kind of it.

Each module is imported by a test module beside a fixture `postgres` that leads to that server.
"""
