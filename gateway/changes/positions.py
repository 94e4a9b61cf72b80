"""What a client has been told, and the sealed token of it that is the `id` of an event.

So a client that comes back, to any gateway, is told what differs and nothing else.
"""

from __future__ import annotations

import base64
import hmac
import struct
from dataclasses import dataclass, field
from hashlib import blake2b

# As many as a service tells of one learner. With them a token has 1,800 characters.
SESSIONS_MAX = 64
FINGERPRINT_BYTES = 8

_SEAL_BYTES = 12
_FORM = 1
# The form, the time of the sessions in ms, the version of the progress, the length of the fingerprint.
_HEAD = struct.Struct(">Bqqb")
_SESSION = struct.Struct(">16si")
_UNKNOWN = -1
# Stands in the place of a version, which is 1 at least.
_LEFT_OUT = 0


@dataclass(slots=True)
class Position:
    """What one client has been told; None for what it has not been told yet.

    `sessions` are versions by id. They are complete up to `as_of_ms`, a time of session_service's database.
    An empty `fingerprint` stands for "no active account". Sessions up to `left_out` are told only if they are
    among `sessions`: there were too many.
    """

    as_of_ms: int | None = None
    sessions: dict[bytes, int] = field(default_factory=dict)
    progress: int | None = None
    fingerprint: bytes | None = None
    left_out: bytes = b""


class PositionTokens:
    """Writes and reads positions.

    A token holds for one learner. One that was not written for the learner, with this secret and in this
    form, reads as "nothing is known". Then the client is told the present state, which is the learner's own.

    Args:
        secret: the secret that the processes of one deployment share.
    """

    def __init__(self, *, secret: str) -> None:
        self._key = blake2b(secret.encode(), digest_size=32, person=b"homeroom-events").digest()

    def write(self, user_id: str, position: Position) -> str:
        """The URL-safe token of a position."""
        fingerprint = position.fingerprint
        sessions = sorted(position.sessions.items())
        left_out = position.left_out
        if len(sessions) > SESSIONS_MAX:
            left_out = max(left_out, sessions[-SESSIONS_MAX - 1][0])
        payload = b"".join(
            (
                _HEAD.pack(
                    _FORM,
                    _UNKNOWN if position.as_of_ms is None else position.as_of_ms,
                    _UNKNOWN if position.progress is None else position.progress,
                    _UNKNOWN if fingerprint is None else len(fingerprint),
                ),
                fingerprint or b"",
                _SESSION.pack(left_out, _LEFT_OUT) if left_out else b"",
                *(_SESSION.pack(*each) for each in sessions[-SESSIONS_MAX:]),
            )
        )
        return base64.urlsafe_b64encode(self._seal(user_id, payload) + payload).decode().rstrip("=")

    def read(self, user_id: str, token: str) -> Position:
        """The position in a token of this learner; an empty position for any other text."""
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except ValueError:  # binascii.Error is a ValueError
            return Position()
        seal, payload = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(user_id, payload)) or payload[:1] != bytes([_FORM]):
            return Position()
        _, as_of_ms, progress, length = _HEAD.unpack_from(payload)
        rest = payload[_HEAD.size :]
        fingerprint = None if length == _UNKNOWN else rest[:length]
        sessions = dict(_SESSION.iter_unpack(rest[max(0, length) :]))
        left_out = next((each for each, version in sessions.items() if version == _LEFT_OUT), b"")
        sessions.pop(left_out, None)
        return Position(
            as_of_ms=None if as_of_ms == _UNKNOWN else as_of_ms,
            sessions=sessions,
            progress=None if progress == _UNKNOWN else progress,
            fingerprint=fingerprint,
            left_out=left_out,
        )

    def _seal(self, user_id: str, payload: bytes) -> bytes:
        digest = blake2b(user_id.encode(), key=self._key, digest_size=_SEAL_BYTES)
        digest.update(b"\0")
        digest.update(payload)
        return digest.digest()
