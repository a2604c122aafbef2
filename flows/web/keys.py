"""Who may ask, and how users' names are kept: what the environment says of both."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from hashlib import blake2b

from planners.errors import InvalidInput

KEYS, SECRET = "POSTERITY_API_KEYS", "POSTERITY_USER_KEY"
"""Environment variables: the keys that clients may use, and what users' names are hashed with."""


class Names:
    """Hashes the names of users and sessions with the key of the environment. Without one, users of
    this process are told apart, and nobody is known again later.
    """

    def __init__(self) -> None:
        self._secret = os.environ.get(SECRET) or secrets.token_hex(32)

    def hashed(self, name: str | None) -> str | None:
        """A name as it is kept."""
        return None if name is None else _hashed(name, self._secret)


def hashed_name(name: str) -> tuple[str, ...]:
    """The hashes that a name may stand for: that with the key of the environment, and the name
    itself if it looks like a hash. Raises InvalidInput if there is none, for want of the key.
    """
    key = os.environ.get(SECRET)
    own = (_hashed(name, key),) if key else ()
    given = (name,) if re.fullmatch("[0-9a-f]{32}", name) else ()
    if not own and not given:
        raise InvalidInput(f"set {SECRET} to the key that the gateway had, or give the hash")
    return own + given


def _hashed(name: str, key: str) -> str:
    return hmac.new(key.encode(), name.encode(), "blake2s").hexdigest()[:32]


def known_keys() -> list[bytes]:
    """The hashes of the keys that clients may use, from the environment."""
    keys = os.environ.get(KEYS, "")
    return [blake2b(key.strip().encode()).digest() for key in keys.split(",") if key.strip()]
