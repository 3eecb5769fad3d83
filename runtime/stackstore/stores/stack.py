"""The stores of one stack: each made when it is first asked for, and ended together."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypedDict, TypeVar, Unpack

from stackstore.access import AuthorizedSqlStore, Policy, Tenancy
from stackstore.access.access import Unowned
from stackstore.config.model import RunConfig
from stackstore.credentials.snapshot import Snapshot
from stackstore.errors import InvalidArgumentError
from stackstore.kv import KVStore
from stackstore.sql import SqlStore
from stackstore.stores.batches import BatchesStore
from stackstore.stores.connectors import ConnectorsStore
from stackstore.stores.conversations import ConversationsStore
from stackstore.stores.inference import InferenceStore
from stackstore.stores.metadata import MetadataStore
from stackstore.stores.places import PROVIDERS, Place, place_of, settings, strangers
from stackstore.stores.prompts import PromptsStore
from stackstore.stores.queue import QueueStats, Remains
from stackstore.stores.responses import ResponsesStore
from stackstore.stores.retention import Ageing, Ready, Retained, Retentions, RetentionStats
from stackstore.stores.settings import Settings, awaiting_restart
from stackstore.stores.vector_stores import VectorStoresStore

logger = logging.getLogger(__name__)

S = TypeVar("S")

Rules = Policy | Sequence[Any] | str | None
"""A policy: rules as the run config has them, or a preset's name; None: the default policy."""

GRACE_SECONDS = 5.0


class Aging(Ready, Protocol):
    """A store whose rows grow old."""

    @property
    def ageings(self) -> Sequence[Ageing]:
        """Of which tables, and how."""


class Expiring(Ready, Protocol):
    """A store some of whose rows say when they go."""

    @property
    def expiries(self) -> Sequence[Ageing]:
        """Of which tables, and how."""


AGEING: Mapping[str, Callable[[AuthorizedSqlStore, str], Aging]] = {
    "inference": InferenceStore,
    "responses": ResponsesStore,
    "conversations": ConversationsStore,
}
"""The stores whose rows go when they are old enough."""


class Users(TypedDict, total=False):
    """Who the users of a store are; as the arguments of `AuthorizedSqlStore`."""

    auth: bool
    tenancy: Tenancy | None
    unowned: Unowned


class StackStores(ABC):
    """The higher stores of a run config. A store is made once, with one policy.

    Args:
        config: which stores there are, and where.
        snapshot: what they were given besides; None: there is none.
    """

    def __init__(self, config: RunConfig, snapshot: Snapshot | None) -> None:
        self.config = config
        self._snapshot = snapshot
        self._made: dict[str, tuple[Any, Any]] = {}
        self._inference: InferenceStore | None = None
        self._ageing = Retentions()
        self._expiring = Retentions()
        self._told: set[str] = set()
        self._settings = self._read_settings()

    @abstractmethod
    def kv_backend(self, backend: str, namespace: str) -> KVStore:
        """A namespace of a kv backend, for providers that keep their own."""

    @abstractmethod
    def sql_backend(self, backend: str) -> SqlStore:
        """A sql backend, for providers that keep their own tables."""

    # -- the stores

    def inference(self, policy: Rules = None, **users: Unpack[Users]) -> InferenceStore:
        """Chat completions. `await store.initialize()` takes over what earlier processes left.

        Raises:
            InvalidArgumentError: the run config has no such store or has switched it off, the
                policy can't be used, or the store was made with another one.
        """

        def make(store: AuthorizedSqlStore, place: Place) -> InferenceStore:
            given = self._settings["inference"]
            options: dict[str, Any] = {
                "max_write_queue_size": given.max_write_queue_size,
                "num_writers": given.num_writers,
            }
            return InferenceStore(
                store,
                place.place,
                journal=given.journal,
                **{name: value for name, value in options.items() if value is not None},
            )

        self._inference = self._sql_store("inference", make, policy, users)
        return self._inference

    def responses(self, policy: Rules = None, **users: Unpack[Users]) -> ResponsesStore:
        """Responses, and the messages of conversations.

        Raises:
            InvalidArgumentError: as `inference`.
        """

        def make(store: AuthorizedSqlStore, place: Place) -> ResponsesStore:
            return ResponsesStore(store, place.place, has_conversation=self._has_conversation())

        store = self._sql_store("responses", make, policy, users)
        self._expire("responses", ResponsesStore)
        return store

    def conversations(self, policy: Rules = None, **users: Unpack[Users]) -> ConversationsStore:
        """Conversations and their items.

        Where the run config has responses, what those keep of a conversation is deleted with it.

        Raises:
            InvalidArgumentError: as `inference`.
        """

        def make(store: AuthorizedSqlStore, place: Place) -> ConversationsStore:
            if place_of(self.config, "responses") is None:
                return ConversationsStore(store, place.place)
            responses = self.responses(policy, **users)
            return ConversationsStore(
                store, place.place, also_delete=responses.delete_conversation_messages
            )

        return self._sql_store("conversations", make, policy, users)

    def prompts(self, policy: Rules = None, **users: Unpack[Users]) -> PromptsStore:
        """Prompts and their versions.

        Raises:
            InvalidArgumentError: as `inference`.
        """
        return self._sql_store("prompts", _plainly(PromptsStore), policy, users)

    def connectors(self, policy: Rules = None, **users: Unpack[Users]) -> ConnectorsStore:
        """Connectors.

        Raises:
            InvalidArgumentError: as `inference`.
        """
        return self._sql_store("connectors", _plainly(ConnectorsStore), policy, users)

    def vector_stores(self, policy: Rules = None, **users: Unpack[Users]) -> VectorStoresStore:
        """The registry of vector stores, their files and batches.

        Raises:
            InvalidArgumentError: as `inference`.
        """
        store = self._sql_store("vector_stores", _plainly(VectorStoresStore), policy, users)
        self._expire("vector_stores", VectorStoresStore)
        return store

    def batches(self, policy: Rules = None, **users: Unpack[Users]) -> BatchesStore:
        """Batches' records.

        Raises:
            InvalidArgumentError: as `inference`.
        """
        return self._sql_store("batches", _plainly(BatchesStore), policy, users)

    def registry(self, policy: Rules = None, **users: Unpack[Users]) -> MetadataStore:
        """The registry of models and other resources, in the kv store `metadata`.

        Raises:
            InvalidArgumentError: as `inference`.
        """

        def make() -> MetadataStore:
            place = self._found("metadata")
            kv = self.kv_backend(place.backend, place.place)
            return MetadataStore(kv, policy, **users)

        return self._once("metadata", make, policy, users)

    # -- what they do by themselves

    def queues(self) -> Mapping[str, QueueStats]:
        """How the write queues stand, by store."""
        return {} if self._inference is None else {"inference": self._inference.stats()}

    def retained(self) -> Sequence[Retained]:
        """How retention stands, table by table."""
        return [*self._ageing.retained(), *self._expiring.retained()]

    def retentions(self) -> Mapping[str, RetentionStats]:
        """The same, by table."""
        return {one.table: one.stats for one in self.retained()}

    def begin_retention(self) -> None:
        """Delete rows that are old enough from now on, where a store was told to.

        In the running event loop. Nothing is connected yet; a later snapshot may tell more stores.
        """
        for name, make in AGEING.items():
            if name in self._settings and name not in self._ageing:
                seconds = self._settings[name].retention_seconds
                if seconds is not None:
                    backend, sql, store = self._as_nobody(name, make)
                    self._ageing.begin(
                        name, store, store.ageings, backend=backend, sql=sql, seconds=seconds
                    )

    def follow_settings(self, snapshot: Snapshot) -> None:
        """Do as a newer snapshot says, as far as that is possible without a restart."""
        self._snapshot = snapshot
        before, self._settings = self._settings, self._read_settings()
        for name, new in self._settings.items():
            if waiting := awaiting_restart(before[name], new):
                logger.warning(
                    "store %s: %s changed, which takes effect at the next start",
                    name,
                    ", ".join(waiting),
                )
            self._ageing.keep(name, new.retention_seconds)
        self.begin_retention()

    async def end(self, grace: float = GRACE_SECONDS) -> Mapping[str, Remains]:
        """Write what is queued, within the grace, and stop.

        Args:
            grace: seconds.

        Returns:
            What could not be written, by store.
        """
        await asyncio.gather(self._ageing.close(), self._expiring.close())
        return (
            {} if self._inference is None else {"inference": await self._inference.shutdown(grace)}
        )

    # -- inside

    def _sql_store(
        self, name: str, make: Callable[[AuthorizedSqlStore, Place], S], policy: Rules, users: Users
    ) -> S:
        def made() -> S:
            place = self._found(name)
            return make(AuthorizedSqlStore(self.sql_backend(place.backend), policy, **users), place)

        return self._once(name, made, policy, users)

    def _once(self, name: str, make: Callable[[], S], policy: Rules, users: Users) -> S:
        asked = (policy, dict(users))
        if name not in self._made:
            self._made[name] = (asked, make())
        before, store = self._made[name]
        if before != asked:
            raise InvalidArgumentError(
                f"store {name!r} was made with another policy or other users before; make it once, and "
                "hand it on"
            )
        found: S = store
        return found

    def _found(self, name: str) -> Place:
        there = place_of(self.config, name)
        if there is not None:
            return there
        if name in self.config.absent_stores:
            raise InvalidArgumentError(f"store {name!r} is not configured in {self.config.file}")
        where = PROVIDERS.get(name)
        hint = f" (or a provider of {where[0]!r} with {where[1]!r} in its config)" if where else ""
        raise InvalidArgumentError(
            f"there is no store {name!r}{hint} in {self.config.file}; "
            f"it has {', '.join(sorted(self.config.stores)) or 'none'}"
        )

    def _as_nobody(
        self, name: str, make: Callable[[AuthorizedSqlStore, str], S]
    ) -> tuple[str, SqlStore, S]:
        """A store beside the one that has users, for what no policy decides; and where it is."""
        found = self._found(name)
        sql = self.sql_backend(found.backend)
        return found.backend, sql, make(AuthorizedSqlStore(sql, auth=False), found.place)

    def _expire(self, name: str, make: Callable[[AuthorizedSqlStore, str], Expiring]) -> None:
        """Delete from now on what goes at its own moment, whatever the retention is."""
        if name not in self._expiring:
            backend, sql, store = self._as_nobody(name, make)
            self._expiring.begin(name, store, store.expiries, backend=backend, sql=sql, seconds=0)

    def _has_conversation(self) -> Callable[[str], Awaitable[bool]] | None:
        if place_of(self.config, "conversations") is None:
            return None
        _, _, conversations = self._as_nobody("conversations", ConversationsStore)
        return conversations.has_conversation

    def _read_settings(self) -> dict[str, Settings]:
        """What each store was given; what is asked for and not done is told where that is news."""
        found = settings(self.config, self._snapshot)
        remarks = [remark for one in found.values() for remark in one.remarks]
        remarks += strangers(self.config, self._snapshot)
        for remark in remarks:
            if remark not in self._told:
                logger.warning("%s", remark)
        self._told = set(remarks)
        return found


def _plainly(
    make: Callable[[AuthorizedSqlStore, str], S],
) -> Callable[[AuthorizedSqlStore, Place], S]:
    return lambda store, place: make(store, place.place)
