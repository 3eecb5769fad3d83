"""The one error of access: refused."""

from __future__ import annotations

from stackstore.errors import StoreError


class AccessDeniedError(StoreError):
    """The user may not do this, or there is none.

    The text names the table and the action. It never says whether a row is there, or whose it is.
    """
