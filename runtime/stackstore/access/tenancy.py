"""Tenants: a filter before every policy, on what is read and what is changed.

Each row belongs to the tenant of its owner, or to none. What was written without a tenant (before
tenancy was turned on, or by nobody) belongs to `default_tenant`, and to no other. So tenancy can be
turned on and off without rows being lost or shown to strangers:

    Tenancy()                                   no tenants: only rows of no tenant are there
    Tenancy("single", default_tenant="acme")    everybody is of acme, and so are rows of no tenant
    Tenancy("multi")                            each user's own; a user without one is refused
    Tenancy("multi", default_tenant="acme")     … and rows of no tenant are acme's
    Tenancy("disabled", default_tenant="acme")  back again: rows of acme and of no tenant are there
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from stackstore.errors import InvalidArgumentError
from stackstore.sql.names import shown

_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
_MODES = ("disabled", "single", "multi")


@dataclass(frozen=True, slots=True)
class Tenancy:
    """Whether there are tenants, and who has what has none.

    Attributes:
        mode: see the module.
        default_tenant: the tenant that rows of no tenant belong to; in `single` everybody's.

    Raises:
        InvalidArgumentError: there is no such mode, or its tenant is missing or malformed.
    """

    mode: Literal["disabled", "single", "multi"] = "disabled"
    default_tenant: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise InvalidArgumentError(
                f"there is no tenancy mode {shown(self.mode)}; there are {', '.join(_MODES)}"
            )
        if self.default_tenant is not None:
            object.__setattr__(self, "default_tenant", tenant(self.default_tenant))
        elif self.mode == "single":
            raise InvalidArgumentError("tenancy mode single needs a default_tenant")

    def belongs(self, stored: str | None) -> str | None:
        """The tenant of a row whose owner has this one."""
        return self.default_tenant if stored is None else stored


def tenant(name: object) -> str:
    """A tenant's id, trimmed and in lower case.

    Raises:
        InvalidArgumentError: it isn't one.
    """
    folded = name.strip().lower() if isinstance(name, str) else ""
    if not _TENANT.fullmatch(folded):
        raise InvalidArgumentError(
            f"{shown(name)} is no tenant id: allowed are a letter or digit of a-z and 0-9, then up to 127 of "
            "a-z, 0-9, - and _"
        )
    return folded
