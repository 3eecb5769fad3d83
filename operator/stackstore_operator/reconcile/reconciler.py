"""Look at a stack or a backend: read, plan, apply."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from stackstore_operator.api.backend import StorageBackend, StorageBackendStatus
from stackstore_operator.api.binding import StoreBinding, StoreBindingStatus
from stackstore_operator.api.conditions import Reason
from stackstore_operator.api.part import ObjectMeta
from stackstore_operator.kube import workloads
from stackstore_operator.kube.client import ApiError, Client
from stackstore_operator.kube.events import post
from stackstore_operator.probe.prober import Prober
from stackstore_operator.reconcile import conditions, consumers, files, news, record, sharing
from stackstore_operator.reconcile.apply import apply_outputs
from stackstore_operator.reconcile.backends import BackendState
from stackstore_operator.reconcile.backends import look as look_at
from stackstore_operator.reconcile.backends import status as backend_status
from stackstore_operator.reconcile.budget import demand, ruling
from stackstore_operator.reconcile.budget.ledger import Ledger
from stackstore_operator.reconcile.cache import Cache, Unreadable
from stackstore_operator.reconcile.conditions import Said, turned
from stackstore_operator.reconcile.contest import Contests, Place, fingerprint
from stackstore_operator.reconcile.failure import after_failure
from stackstore_operator.reconcile.following import follow
from stackstore_operator.reconcile.guard import Guard
from stackstore_operator.reconcile.inputs import BackendInputs, Key, StackInputs
from stackstore_operator.reconcile.invalid import backend_status as unreadable_backend_status
from stackstore_operator.reconcile.invalid import binding_status
from stackstore_operator.reconcile.looks import Look
from stackstore_operator.reconcile.outputs import config_map_name, secret_name
from stackstore_operator.reconcile.plan import Announcement, Plan, plan, prepare
from stackstore_operator.reconcile.rollout.decision import CONDITION as ROLLED_OUT
from stackstore_operator.reconcile.rollout.rollouts import Rollouts
from stackstore_operator.reconcile.sharing import Claim, Sharing
from stackstore_operator.reconcile.sources import Source
from stackstore_operator.reconcile.uses import use_of, uses_of
from stackstore_operator.reconcile.waits import Waits

logger = logging.getLogger(__name__)

Status = StorageBackendStatus | StoreBindingStatus

_POSTPONED_SECONDS = 2.0
_SOON_SECONDS = 0.5


class Reconciler:
    """Turns looks into writes.

    Args:
        client: the way to the API server.
        cache: what is known of our own kinds.
        key: what revisions are computed with.
        prober: visits databases.
        waits: how long to wait for what.

    Attributes:
        ask: asks for a look at something else that a look has news for.
        wake: asks for a look in some seconds; called for what a look at something else concerns.
    """

    def __init__(
        self,
        client: Client,
        cache: Cache,
        key: bytes,
        prober: Prober,
        waits: Waits | None = None,
    ) -> None:
        self.ask: Callable[[Look], None] = lambda _: None
        self._client = client
        self._cache = cache
        self._key = key
        self._prober = prober
        waits = waits or Waits()
        self._contests = Contests(waits.contests)
        self._rollouts = Rollouts(client, self._contests, waits.rollout)
        self._guard = Guard(client, cache)
        self._sharing = Sharing()
        self.wake: Callable[[Look, float], None] = lambda look, seconds: None
        self._ledger = Ledger(lambda kind, key, seconds: self.wake(Look(kind, *key), seconds))

    def begin(self) -> None:
        """Act from now on: what was granted is read anew, in the first look at each stack."""
        self._ledger.begin(self._cache.stacks())
        self._sharing.begin(self._cache.stacks())

    async def look(self, look: Look) -> float | None:
        """Look once; returns in how many seconds to look again."""
        if look.kind == "backend":
            return await self._backend(look)
        return await self._stack(look)

    async def _stack(self, look: Look) -> float | None:
        stack = (look.namespace, look.name)
        unreadable = self._cache.unreadable_of(*stack)
        for found in unreadable:
            said = binding_status(*found, int(time.time()))
            await self._say_unreadable("StoreBinding", found, said)
        bindings = self._cache.bindings_of(look.namespace, look.name)
        if not bindings and not unreadable:
            self._rollouts.forget(stack)
            self._contests.forget(
                Place("Secret", look.namespace, secret_name(look.name)),
                Place("ConfigMap", look.namespace, config_map_name(look.name)),
            )
            self._ledger.forget((look.namespace, look.name))
            self._wake_consuming(look)
            self._share(stack, {})
            # Outputs whose last binding is being deleted are there until it is gone.
            if self._cache.all_bindings_of(look.namespace, look.name):
                await self._read_in_force(look)
            return None
        inputs = await self._read(look, bindings, unreadable)
        prepared = prepare(inputs)
        rulings = self._ledger.note(stack, prepared.demand.claims, prepared.demand.places)
        if rulings is None:
            # It asks for more than it holds, and not everybody is known yet.
            return _POSTPONED_SECONDS
        decided = plan(inputs, prepared, rulings)
        self._share(stack, decided.claims)
        held = self._cache.in_force(stack)
        self._cache.note_in_force(stack, held | decided.uses)
        try:
            if not await self._guard.protect(decided.uses - held):
                return _SOON_SECONDS
            contested = await apply_outputs(self._client, inputs, decided, self._contests)
        except ApiError as error:
            await self._say(bindings, after_failure(inputs, decided, str(error)))
            raise
        if not contested:
            self._cache.note_in_force(stack, set(decided.uses))
            for key in held ^ decided.uses:
                self.ask(Look("backend", *key))
        agains = [c.again_in for c in contested]
        if contested:
            words = "; ".join(f"{c.kind} '{c.name}': {c.words}" for c in contested)
            told = f"{words}. It is put back now and then; make the other leave it alone"
            decided = after_failure(inputs, decided, told, Reason.FIELD_CONTESTED)
        else:
            try:
                agains += await self._rollouts.roll(stack, bindings, decided.rolling)
            except ApiError as error:
                failed = after_failure(inputs, decided, str(error), about=ROLLED_OUT)
                await self._say(bindings, failed)
                raise
        if files.turned(bindings, decided.statuses):
            self._wake_consuming(look)
        agains += await self._say(bindings, decided)
        self._cache.note_earlier(stack, dict(decided.earlier))
        if decided.again_at is not None:
            agains.append(max(1.0, decided.again_at - inputs.now))
        return min(agains, default=None)

    def _wake_consuming(self, look: Look) -> None:
        """Other stacks of the namespace may share a file with this one, or do so no longer."""
        for binding in self._cache.consuming(look.namespace):
            if binding.spec.stack != look.name and files.concerns(binding.status.conditions):
                self.wake(Look("stack", look.namespace, binding.spec.stack), 0)

    def _share(self, stack: Key, claims: Mapping[Claim, str]) -> None:
        """Note what a stack uses; those who are told otherwise now look, too."""
        complete = self._sharing.complete
        others = self._sharing.put(stack, claims)
        if not complete and self._sharing.complete:
            others = {other for other in self._cache.stacks() - {stack} if self._turned(other)}
        for other in others:
            self.ask(Look("stack", *other))

    def _turned(self, stack: Key) -> bool:
        """Whether something else is to be said of a stack than stands in the cluster."""
        said = self._sharing.said(stack)
        before = (
            conditions.known(binding.status.conditions, sharing.CONDITION)
            for binding in self._cache.bindings_of(*stack)
        )
        return any(one is None or conditions.repeated(one) != said for one in before)

    async def _say(self, bindings: tuple[StoreBinding, ...], decided: Plan) -> list[float]:
        """Write statuses and post events; only what differs.

        Returns:
            In how many seconds to look again at statuses that somebody else keeps changing.
        """
        by_name = {binding.metadata.name: binding for binding in bindings}
        stack = next(((b.metadata.namespace, b.spec.stack) for b in bindings), ("", ""))
        said = self._sharing.said(stack)
        statuses = sharing.told(bindings, decided.statuses, said, int(time.time()))
        agains = []
        for name, status in statuses.items():
            about = by_name[name].metadata
            place = Place("StoreBinding", about.namespace, about.name)
            if self._may_say(place, status, by_name[name].status):
                await self._write_binding(by_name[name], status)
                self._contests.wrote(place, _wish(status))
                for announcement in decided.announcements:
                    if announcement.name == name:
                        await post(self._client, "StoreBinding", about, announcement)
            again_in = self._contests.again_in(place)
            if again_in is not None:
                agains.append(again_in)
        return agains

    def _may_say(self, place: Place, status: Status, there: object) -> bool:
        """Whether a status is to be written: what is there is otherwise, and not contested."""
        if there in (status, status.model_dump(by_alias=True, exclude_none=True)):
            self._contests.agrees(place)
            return False
        return self._contests.may_write(place, _wish(status))

    async def _backend(self, look: Look) -> float | None:
        key = (look.namespace, look.name)
        unreadable = self._cache.unreadable_backends.get(key)
        if unreadable is not None:
            self._prober.forget(key)
            said = unreadable_backend_status(*unreadable, int(time.time()))
            await self._say_unreadable("StorageBackend", unreadable, said)
            about = ObjectMeta.model_validate(unreadable.obj["metadata"])
            return await self._guard.settle(key, about)
        backend = self._cache.backends.get(key)
        if backend is None:
            self._prober.forget(key)
            self._ledger.place(key, None)
            return None
        # First of all: what nobody uses any more goes, whatever its Secret is like.
        again_in = await self._guard.settle(key, backend.metadata)
        backend = self._cache.backends.get(key)
        if backend is None:
            self._prober.forget(key)
            self._ledger.place(key, None)
            return None
        holding = self._guard.users(key, backend.metadata)
        secrets, config_maps = await self._referents([backend])
        users = self._cache.users_of(key)
        may = sum(self._cache.allows(backend, user.metadata.namespace) for user in users)
        inputs = BackendInputs(
            backend=backend,
            secrets=secrets,
            config_maps=config_maps,
            bindings=may,
            key=self._key,
            finding=self._prober.finding(key),
            uses=uses_of(self._cache, backend),
            refused=len(users) - may,
            namespaces_readable=self._cache.namespaces.readable,
            holding=None if holding is None else str(holding),
        )
        state = look_at(backend, secrets, config_maps, self._key)
        inputs = replace(inputs, within=self._within(inputs, state))
        status = backend_status(inputs, int(time.time()), state)
        follow(self._prober, backend, state, status, inputs.uses)
        place = Place("StorageBackend", *key)
        if self._may_say(place, status, backend.status):
            await self._write_backend(backend, status)
            self._contests.wrote(place, _wish(status))
            ready = status.conditions[0]
            if turned(backend.status.conditions, ready):
                told = Announcement(look.name, ready.status != "True", ready.reason, ready.message)
                await post(self._client, "StorageBackend", backend.metadata, told)
        for other in news.of_status(self._cache, backend, status):
            self.ask(other)
        agains = [
            seconds for seconds in (again_in, self._contests.again_in(place)) if seconds is not None
        ]
        return min(agains, default=None)

    def _within(self, inputs: BackendInputs, state: BackendState) -> Said | None:
        """Whether what is granted of a backend is within its budget."""
        backend = inputs.backend
        key = (backend.metadata.namespace, backend.metadata.name)
        self._ledger.place(key, demand.place(backend, state.snapshot))
        return ruling.of_backend(
            backend, self._ledger.budget(key), self._ledger.total(key), inputs.finding
        )

    async def _read(
        self, look: Look, bindings: tuple[StoreBinding, ...], unreadable: Iterable[Unreadable]
    ) -> StackInputs:
        secret, in_force = await self._read_in_force(look)
        keys = {key for binding in bindings for key in self._cache.backends_of(binding)}
        # What is in force is followed, even where the bindings no longer name it.
        keys |= in_force
        backends = {key: self._cache.backends[key] for key in keys if key in self._cache.backends}
        # Nothing of a backend that doesn't allow this namespace is read, so that it takes no longer
        # than one that isn't there.
        secrets, config_maps = await self._referents(
            backend for backend in backends.values() if self._cache.allows(backend, look.namespace)
        )
        for binding in bindings:
            reference = binding.spec.base_config_ref
            if reference is not None:
                await self._read_config_map((look.namespace, reference.name), config_maps)
        named = consumers.named(bindings)
        neighbours = files.neighbours(
            look.name,
            bindings,
            self._cache.consuming(look.namespace),
            partial(self._cache.usable, look.namespace),
        )
        theirs = [consumer for neighbour in neighbours for consumer in neighbour.consumers]
        run_by = await workloads.read(
            self._client, look.namespace, {(c.kind, c.name) for c in (*named, *theirs)}
        )
        self._expect(look, consumers.expected(consumers.observe(named, run_by)), backends)
        return StackInputs(
            namespace=look.namespace,
            stack=look.name,
            bindings=bindings,
            backends=backends,
            secrets=secrets,
            config_maps=config_maps,
            config_map=await self._client.get(
                "ConfigMap", look.namespace, config_map_name(look.name)
            ),
            secret=secret,
            key=self._key,
            now=int(time.time()),
            unreadable=tuple(
                ObjectMeta.model_validate(found.obj["metadata"]) for found in unreadable
            ),
            workloads=run_by,
            neighbours=neighbours,
            observed=await self._rollouts.observe((look.namespace, look.name), bindings, run_by),
            findings={
                key: found for key in backends if (found := self._prober.finding(key)) is not None
            },
            uses={
                key: use_of(self._cache, backend, (look.namespace, look.name))
                for key, backend in backends.items()
                if self._cache.allows(backend, look.namespace)
            },
            labels=self._cache.namespaces.labels(look.namespace),
            ending=frozenset(
                key[0] for key in backends if self._cache.namespaces.is_ending(key[0])
            ),
        )

    def _expect(
        self, look: Look, processes: int | None, backends: Mapping[Key, StorageBackend]
    ) -> None:
        """Note how many processes a stack should have; its backends count them."""
        if self._cache.note_expected((look.namespace, look.name), processes):
            for key, backend in backends.items():
                if self._cache.allows(backend, look.namespace):
                    self.ask(Look("backend", *key))

    async def _read_in_force(self, look: Look) -> tuple[dict[str, Any] | None, set[Key]]:
        """A stack's Secret, and the backends whose logins it holds."""
        secret = await self._client.get("Secret", look.namespace, secret_name(look.name))
        noted = record.read(secret, self._key, look.namespace, look.name)
        in_force = set(noted.origins.values())
        self._cache.note_in_force((look.namespace, look.name), in_force)
        return secret, in_force

    async def _referents(
        self, backends: Iterable[StorageBackend]
    ) -> tuple[dict[Key, Mapping[str, bytes]], dict[Key, Mapping[str, str]]]:
        secrets: dict[Key, Mapping[str, bytes]] = {}
        config_maps: dict[Key, Mapping[str, str]] = {}
        for backend in backends:
            namespace, spec = backend.metadata.namespace, backend.spec
            wanted = []
            if spec.credentials is not None:
                wanted.append(spec.credentials.secret_ref.name)
            ca = spec.postgres.tls.ca_ref if spec.postgres is not None else None
            if ca is not None and ca.kind == "Secret":
                wanted.append(ca.name)
            if ca is not None and ca.kind == "ConfigMap":
                await self._read_config_map((namespace, ca.name), config_maps)
            for name in wanted:
                if (namespace, name) not in secrets:
                    obj = await self._client.get("Secret", namespace, name)
                    if obj is not None:
                        secrets[namespace, name] = Source.of(obj)
        return secrets, config_maps

    async def _read_config_map(self, key: Key, config_maps: dict[Key, Mapping[str, str]]) -> None:
        if key not in config_maps:
            obj = await self._client.get("ConfigMap", *key)
            if obj is not None:
                config_maps[key] = obj.get("data") or {}

    async def _say_unreadable(self, kind: str, found: Unreadable, status: Status) -> None:
        about = ObjectMeta.model_validate(found.obj["metadata"])
        place = Place(kind, about.namespace, about.name)
        if self._may_say(place, status, found.obj.get("status")):
            await self._apply_status(kind, about, status)
            self._contests.wrote(place, _wish(status))

    async def _write_binding(self, binding: StoreBinding, status: StoreBindingStatus) -> None:
        obj = await self._apply_status("StoreBinding", binding.metadata, status)
        self._cache.put_binding(StoreBinding.from_object(obj))

    async def _write_backend(self, backend: StorageBackend, status: StorageBackendStatus) -> None:
        obj = await self._apply_status("StorageBackend", backend.metadata, status)
        self._cache.put_backend(StorageBackend.from_object(obj))

    async def _apply_status(
        self,
        kind: str,
        about: ObjectMeta,
        status: Status,
    ) -> dict[str, Any]:
        return await self._client.apply(
            {
                "apiVersion": "stackstore.dev/v1alpha1",
                "kind": kind,
                "metadata": {
                    "name": about.name,
                    "namespace": about.namespace,
                    # Never a status for another object that took the name meanwhile.
                    "uid": about.uid,
                },
                "status": status.model_dump(by_alias=True, exclude_none=True),
            },
            subresource="status",
        )


def _wish(status: Status) -> str:
    """A fingerprint of what is said, whenever it turned."""
    said = status.model_dump(by_alias=True)
    for condition in said["conditions"]:
        del condition["lastTransitionTime"]
    return fingerprint(said)
