"""The types of conditions: on which kind, what True says of each, and what the other two say."""

from __future__ import annotations

from typing import NamedTuple


class ConditionType(NamedTuple):
    """A type of conditions.

    Attributes:
        kinds: on which kinds.
        good: which status is the wanted one: its polarity.
        true: what True says.
        false: what False says.
        unknown: what Unknown says.
    """

    kinds: tuple[str, ...]
    good: str
    true: str
    false: str
    unknown: str


_BOTH = ("StorageBackend", "StoreBinding")

CONDITION_TYPES: dict[str, ConditionType] = {
    "Ready": ConditionType(
        _BOTH,
        "True",
        "everything that this object asks for is in place",
        "something has to be changed by somebody; reason and message are those of the first condition "
        "below that is False",
        "something is waited for; reason and message are those of the first condition below that is Unknown",
    ),
    "Accepted": ConditionType(
        _BOTH,
        "True",
        "the object is understood and can be served; a message beside it is a caveat",
        "it says something that can't be served; the last good outputs stay",
        "nobody has looked yet",
    ),
    "CredentialsResolved": ConditionType(
        ("StorageBackend",),
        "True",
        "the Secret gives a login, or none is needed",
        "the Secret is there and gives none",
        "the Secret, or that of the CA, isn't there yet",
    ),
    "Verified": ConditionType(
        ("StorageBackend",),
        "True",
        "the operator has logged in with the current login",
        "the database has refused it",
        "the database could not be reached, or isn't asked; this doesn't lower Ready",
    ),
    "BackendsResolved": ConditionType(
        ("StoreBinding",),
        "True",
        "every reference leads to a backend that this namespace may use and that is usable",
        "one leads to a backend that can't be used as it is",
        "one leads to nothing that this namespace may know of, or to a backend that waits itself",
    ),
    "Rendered": ConditionType(
        ("StoreBinding",),
        "True",
        "ConfigMap and Secret of the stack are as its bindings say",
        "they can't be; the last good ones stay",
        "something before it has to be settled; the last good ones stay",
    ),
    "Exclusive": ConditionType(
        ("StoreBinding",),
        "True",
        "no other stack uses a table or kv namespace of this one on the same database",
        "another one does, which may be meant; this doesn't lower Ready",
        "other stacks are still being looked at, after a start of the operator",
    ),
    "ConsumersResolved": ConditionType(
        ("StoreBinding",),
        "True",
        "every workload of `spec.consumers` is there; the message counts the processes it may reach",
        "one isn't there; this doesn't lower Ready",
        "one may not be read; this doesn't lower Ready",
    ),
    "FileExclusive": ConditionType(
        ("StoreBinding",),
        "True",
        "one pod at a time opens its SQLite files; without such files, or consumers, it is not there",
        "several may; this doesn't lower Ready",
        "never",
    ),
    "WithinBudget": ConditionType(
        _BOTH,
        "True",
        "what consumers may hold at most fits into `maxConnections`; without one the condition is not there",
        "it doesn't; a binding that is refused is not Ready, anything else doesn't lower Ready",
        "a workload isn't there yet, so that it isn't known what is asked; then Ready is Unknown too",
    ),
    "RolledOut": ConditionType(
        ("StoreBinding",),
        "True",
        "every workload of `spec.consumers` that has to restart for a change has done so",
        "one has not and is not getting on; the next ones wait for it",
        "a restart is under way, or waits for something",
    ),
    "Adopted": ConditionType(
        _BOTH,
        "True",
        "every server process that is expected uses the current logins: an earlier one may be dropped",
        "one doesn't yet",
        "it can't be known; this doesn't lower Ready",
    ),
}
