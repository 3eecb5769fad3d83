"""Access: users, tenants and policies, and a SqlStore that keeps to them."""

from stackstore.access.errors import AccessDeniedError
from stackstore.access.policy import Action, Policy, policy
from stackstore.access.store import AuthorizedSqlStore, AuthorizedTransaction
from stackstore.access.tenancy import Tenancy
from stackstore.access.users import User, acting_as, current_user

__all__ = [
    "AccessDeniedError",
    "Action",
    "AuthorizedSqlStore",
    "AuthorizedTransaction",
    "Policy",
    "Tenancy",
    "User",
    "acting_as",
    "current_user",
    "policy",
]
