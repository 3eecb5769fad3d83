"""The API: both kinds as models, from which the CRDs are generated. Pure."""

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.api.conditions import Condition, Reason
from stackstore_operator.api.crd import GROUP, VERSION

__all__ = ["GROUP", "VERSION", "Condition", "Reason", "StorageBackend", "StoreBinding"]
