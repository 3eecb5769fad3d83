"""Who may do what: a policy, tenants, and what is asked of them; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stackstore.access.errors import AccessDeniedError
from stackstore.access.owners import Owner
from stackstore.access.policy import Action, Policy, Ruling, policy
from stackstore.access.resources import names_of
from stackstore.access.tenancy import Tenancy
from stackstore.access.users import User, acting_as, current_user
from stackstore.access.visible import Question
from stackstore.errors import InvalidArgumentError
from stackstore.sql.names import shown

Unowned = Literal["deny", "policy"]

_MOST_KEPT = 1_000
"""Of how many users it is kept what follows from them."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and where.

    Attributes:
        user: who; None: anybody, because authorization is off.
        tenant: in which tenant; None: in none.
        owner: whose what is written will be.
        questions: what he asked before, for `Access` alone.
    """

    user: User | None
    tenant: str | None
    owner: Owner
    questions: dict[tuple[Action, str], Question] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def binding(self) -> list[Any]:
        """What cursors are bound to; attributes may change while somebody turns pages."""
        return ["as", self.tenant, None if self.user is None else self.user.principal]


class Access:
    """The rules of one store.

    Args:
        rules: a policy, see `stackstore.access.policy`.
        auth: whether there are users. Without, everything is everybody's, explicitly.
        tenancy: whether there are tenants.
        unowned: rows that belong to nobody: "deny": nobody may act on them; "policy": as it says.

    Raises:
        InvalidArgumentError: one of them isn't possible.
    """

    def __init__(
        self,
        rules: Policy | Sequence[Any] | str | None = None,
        *,
        auth: bool = True,
        tenancy: Tenancy | None = None,
        unowned: Unowned = "deny",
    ) -> None:
        if not isinstance(auth, bool):
            # A setting that is missing must not make everything public.
            raise InvalidArgumentError(f"auth is True or False, not {shown(auth)}")
        if not isinstance(tenancy, Tenancy | None):
            raise InvalidArgumentError(
                f'tenancy is a Tenancy, as Tenancy("multi"), not {shown(tenancy)}'
            )
        self.policy = policy(rules)
        self.auth = auth
        self.tenancy = tenancy or Tenancy()
        self._by_policy = unowned == "policy"
        if unowned not in ("deny", "policy"):
            raise InvalidArgumentError(f'unowned is "deny" or "policy", not {shown(unowned)}')
        if not auth and self.tenancy.mode == "multi":
            raise InvalidArgumentError(
                "tenancy mode multi needs auth: a tenant comes with a user, and without auth there is none"
            )
        self._rulings: dict[tuple[Action, str], Ruling] = {}
        self._askers: dict[User | None, Asker] = {}

    def asker(self) -> Asker:
        """Who asks now.

        Raises:
            AccessDeniedError: nobody does, or somebody without a tenant, or of another one.
        """
        user = current_user() if self.auth else None
        found = self._askers.get(user)
        if found is None:
            found = self._asker(user)
            if len(self._askers) >= _MOST_KEPT:
                self._askers.clear()
            self._askers[user] = found
        return found

    def _asker(self, user: User | None) -> Asker:
        tenancy = self.tenancy
        if user is None:
            if self.auth:
                raise AccessDeniedError(
                    "there is no current user, and authorization is on: wrap the call in acting_as(user)"
                )
            return Asker(None, tenancy.default_tenant, Owner(tenancy.default_tenant))
        if tenancy.mode == "disabled":
            tenant = tenancy.default_tenant
        elif tenancy.mode == "single":
            tenant = tenancy.default_tenant
            if user.tenant_id not in (None, tenant):
                raise AccessDeniedError("the user is of another tenant than this store's only one")
        else:
            tenant = user.tenant_id
            if tenant is None:
                raise AccessDeniedError("the user has no tenant, and tenancy mode is multi")
        return Asker(user, tenant, Owner.of(user, tenant))

    def question(self, action: Action, table: str, asker: Asker) -> Question:
        """What is asked when somebody does something with a table's rows."""
        return self.question_within(action, names_of(table), asker)

    def question_within(self, action: Action, before: str, asker: Asker) -> Question:
        """The same of what is in no table: its names are `before` and then an id."""
        found = asker.questions.get((action, before))
        if found is None:
            ruling = self._rulings.get((action, before))
            if ruling is None:
                ruling = self._rulings[action, before] = self.policy.ruling_within(action, before)
            found = Question(asker.user, asker.tenant, ruling, self.tenancy, self._by_policy)
            asker.questions[action, before] = found
        return found

    def user_of(self, owner: Owner) -> User | None:
        """As whom to go on with what an owner began; None: authorization is off.

        Raises:
            AccessDeniedError: it is nobody's, or of a tenant that isn't there.
        """
        tenant = self.tenancy.belongs(owner.tenant)
        if not self.auth:
            asker = self.asker()
        elif owner.principal is None:
            raise AccessDeniedError("it is nobody's, so there is no user to go on as")
        else:
            attributes = {kind: sorted(values) for kind, values in owner.attributes.items()}
            with acting_as(User(owner.principal, attributes, tenant)):
                asker = self.asker()
        if asker.tenant != tenant:
            raise AccessDeniedError("it is of another tenant")
        return asker.user
