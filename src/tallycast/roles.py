"""Roles: what somebody may do in an app."""

from typing import Literal, get_args

import msgspec

# Each may do what those before it may.
Role = Literal["viewer", "editor", "approver", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)


class OpenApp(msgspec.Struct, frozen=True):
    """An app that a person may open, and as what."""

    app_id: str
    name: str
    time_zone: str
    role: Role

    def allows(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)
