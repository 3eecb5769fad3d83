"""What a store does according to the run config and the snapshot together; pure.

What the snapshot says of a store wins, as with backends. The run config's word is for where there is
no snapshot, and for stacks whose binding leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from stackstore.config.model import ProviderReference, StoreConfig
from stackstore.credentials.snapshot import Snapshot, StoreSettings, provider_key

QUEUED = ("inference",)
"""Stores that write through a queue, and so may have a journal; the others write before they answer."""

RETAINED = ("inference", "responses", "conversations")
"""Stores whose rows go when they are old enough; what the others hold is somebody's set-up."""

RETAINED_FIELDS = {("responses", "persistence.responses"): "responses"}
"""References of providers, (api, field), that are such a store, and which."""

MAX_WRITERS = 64
"""Most writers of one queue. More don't write faster, and each wants a connection."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What one store does.

    Attributes:
        max_write_queue_size: most rows in its queue; None: it has none.
        num_writers: how many write at the same time; None: it has no queue.
        journal: the directory of its journal; None: acknowledged rows wait in memory.
        retention_seconds: the age at which its rows are deleted; None: never.
        remarks: what was asked for and is not done, each a sentence for the log.
    """

    max_write_queue_size: int | None = None
    num_writers: int | None = None
    journal: Path | None = None
    retention_seconds: int | None = None
    remarks: tuple[str, ...] = ()


def of_store(store: StoreConfig, snapshot: Snapshot | None) -> Settings:
    """The settings of a store of the run config."""
    given = _given(None if snapshot is None else snapshot.stores.get(store.name))
    name, queued = f"store {store.name!r}", store.name in QUEUED
    writers = given.num_writers or store.num_writers
    journal = _journal(given)
    remarks = [*_retention_remarks(name, given, known=store.name in RETAINED)]
    if queued and writers is not None and writers > MAX_WRITERS:
        remarks.append(
            f"{name}: {writers} writers are asked for; {MAX_WRITERS} are made use of, which is the most"
        )
    if journal is not None and not queued:
        remarks.append(f"{name}: it writes before it answers, so it has no journal")
    return Settings(
        max_write_queue_size=(
            given.max_write_queue_size or store.max_write_queue_size if queued else None
        ),
        num_writers=min(writers, MAX_WRITERS) if queued and writers is not None else None,
        journal=journal if queued else None,
        retention_seconds=given.retention_seconds if store.name in RETAINED else None,
        remarks=tuple(remarks),
    )


def of_provider(reference: ProviderReference, snapshot: Snapshot | None) -> Settings:
    """The settings of what a provider keeps for itself; of those only the retention is known.

    What is said of the store of that name counts where nothing is said of the reference: the rows are
    the same, whichever of the two places them.
    """
    key = provider_key(reference.api, reference.provider_id, reference.field)
    given = _given(None if snapshot is None else snapshot.providers.get(key))
    store = RETAINED_FIELDS.get((reference.api, reference.field))
    if store is None:
        remarks = tuple(_retention_remarks(f"provider field {key!r}", given, known=False))
        return Settings(remarks=remarks)
    beside = _given(None if snapshot is None else snapshot.stores.get(store))
    return Settings(retention_seconds=given.retention_seconds or beside.retention_seconds)


def awaiting_restart(running: Settings, wanted: Settings) -> tuple[str, ...]:
    """What of a changed snapshot a running store can't follow: the names of the settings.

    A queue is made once; the retention is followed at once.
    """
    followed = {"retention_seconds", "remarks"}
    return tuple(
        one.name
        for one in fields(Settings)
        if one.name not in followed and getattr(running, one.name) != getattr(wanted, one.name)
    )


def _given(found: StoreSettings | None) -> StoreSettings:
    return StoreSettings() if found is None else found


def _journal(given: StoreSettings) -> Path | None:
    wanted = given.durability
    if wanted is None or wanted.mode != "Journal" or wanted.path is None:
        return None
    return Path(wanted.path)


def _retention_remarks(name: str, given: StoreSettings, *, known: bool) -> Iterator[str]:
    if given.retention_seconds is not None and not known:
        yield f"{name}: this release keeps its rows; its retention of {given.retention_seconds} s is not done"
