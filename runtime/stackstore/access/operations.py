"""What can be done with rows that have owners, on a store or in a transaction of it."""

from __future__ import annotations

from stackstore.access.reading import ReadOperations
from stackstore.access.writing import WriteOperations


class AuthorizedOperations(ReadOperations, WriteOperations):
    """Reading and writing the rows that the current user may read and write."""
