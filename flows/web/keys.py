"""Who may ask, and how users' names are kept."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b

import pyarrow as pa

from planners.errors import InvalidInput
from warehouse.findings import ApiKey
from warehouse.places.connect import Place
from warehouse.store import Warehouse

KEYS, SECRET = "POSTERITY_API_KEYS", "POSTERITY_USER_KEY"
"""Environment variables: the keys that clients may use, and what users' names are hashed with."""
USED, NO_SECRET = "user-keys", "none"
"""The file beside the log with a hash of each secret that gateways had, and the word for none."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@ -]{0,99}")
"""Names that keys may have."""


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
    try:
        own = (_hashed(name, key),) if key else ()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{name!r} is no text in UTF-8, so no user has this name") from error
    given = (name,) if re.fullmatch("[0-9a-f]{32}", name) else ()
    if not own and not given:
        raise InvalidInput(f"set {SECRET} to the key that the gateway had, or give the hash")
    return own + given


def _hashed(name: str, key: str) -> str:
    secret = key.encode("utf-8", "surrogateescape")  # bytes of the environment, whatever they are
    return hmac.new(secret, name.encode(), "blake2s").hexdigest()[:32]


def other_secrets(place: Place, remember: bool = False) -> bool:
    """Whether users asked here while gateways had another secret than the environment's, or none.
    With `remember`, that this one is used from now on; nothing of it is kept but a hash.
    """
    file, key = place.landing / USED, os.environ.get(SECRET)
    mine = _hashed(USED, key) if key else NO_SECRET
    used = set(file.read_text("utf-8").split()) if file.exists() else set()
    if remember and mine not in used:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as kept:
            kept.write(f"{mine}\n")
    return bool(used - {mine})


class Clients:
    """Whose requests come in: those with a key of the environment or of the warehouse, or all if
    there never was one. When the last is revoked, nobody's do.
    """

    def __init__(self, made: Sequence[ApiKey] = ()) -> None:
        keys = os.environ.get(KEYS, "")
        if not keys.isascii():
            raise InvalidInput(f"{KEYS} has characters that no header may have; use ASCII")
        self._own = [_digest(key.strip()) for key in keys.split(",") if key.strip()]
        self.asks = bool(self._own)
        self.know(made)

    def know(self, made: Sequence[ApiKey]) -> None:
        """Take the keys of the warehouse, revoked ones too."""
        opening = [one for one in made if one.revoked_at is None]
        self._made = [(one.key_hash.encode(), one.pages) for one in opening]
        self.asks |= bool(made)

    def has(self, key: str, page: bool) -> bool:
        """Whether a key opens the API, or the pages. The environment's open both."""
        digest = _digest(key)
        found = [hmac.compare_digest(digest, own) for own in self._own]
        for made, pages in self._made:  # all of them, in constant time
            found.append(hmac.compare_digest(digest, made) and (pages or not page))
        return any(found)


def open_keys(warehouse: Warehouse) -> list[ApiKey]:
    """The keys of a warehouse that were not revoked."""
    return warehouse.every(ApiKey, revoked_at=None)


def keys_table(warehouse: Warehouse) -> pa.Table:
    """All keys of a warehouse by name and time, as people read them: columns `name`, `opens`,
    `made`, `revoked`.
    """
    made = sorted(warehouse.every(ApiKey), key=lambda one: (one.name, one.made_at))
    return pa.table(
        {
            "name": [one.name for one in made],
            "opens": ["API and pages" if one.pages else "API" for one in made],
            "made": [f"{one.made_at} UTC" for one in made],
            "revoked": [one.revoked_at and f"{one.revoked_at} UTC" for one in made],
        }
    )


def make_key(warehouse: Warehouse, name: str, pages: bool) -> str:
    """Make a key for a client, of which only the hash is kept. Raises InvalidInput if the name is
    none, or another key's.
    """
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} is no name for a key: letters, digits, _ . @ - and spaces, at most 100"
        )
    if any(one.name == name for one in open_keys(warehouse)):
        raise InvalidInput(f"{name!r} has a key; revoke it first (--revoke), or name another")
    key = f"pk-{secrets.token_urlsafe(32)}"
    warehouse.write([ApiKey(_digest(key).decode(), name, pages, _now())])
    return key


def revoke_key(warehouse: Warehouse, name: str) -> None:
    """Let a client's key open nothing any more. Raises InvalidInput if there is none."""
    if not warehouse.revoke(name, _now()):
        known = ", ".join(repr(one.name) for one in open_keys(warehouse))
        raise InvalidInput(f"there is no key named {name!r}; there is {known or 'none'}")


def _now() -> datetime:
    """The time in UTC, without a zone; in whole seconds."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def _digest(key: str) -> bytes:
    # Keys are drawn at random, or should be: a slow hash would protect nothing.
    return blake2b(key.encode()).hexdigest().encode()
