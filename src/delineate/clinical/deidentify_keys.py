"""What the secret key makes of identifiers: new UIDs, pseudonyms and date shifts, the same in every run with that key.

Knows no DICOM objects. Without the key nothing can be traced back; with it, a known original can be recognised, so it
is kept as carefully as the originals.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from delineate.errors import InputError, ResourceError

KEY_BYTES = 32
LEAST_DAYS, MOST_DAYS = 30, 3650
"""Dates are moved into the past by this many days; a constant of the patient."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """Everything that depends on the secret."""

    secret: bytes

    def uid(self, original: str) -> str:
        """Return the UID that replaces one: ``2.25.`` and a UUID (version 8, RFC 9562) of HMAC-SHA256."""
        number = int.from_bytes(self._digest("uid", original)[:16], "big")
        number = (number & ~(0xF << 76)) | (0x8 << 76)  # version
        number = (number & ~(0x3 << 62)) | (0x2 << 62)  # variant
        return f"2.25.{number}"

    def pseudonym(self, patient: str) -> str:
        """Return what a patient is called: ``P`` and 12 hexadecimal digits."""
        return "P" + self._digest("patient", patient).hex()[:12].upper()

    def days(self, patient: str) -> int:
        """Return by how many days a patient's dates are moved; negative."""
        number = int.from_bytes(self._digest("days", patient)[:8], "big")
        return -(LEAST_DAYS + number % (MOST_DAYS - LEAST_DAYS + 1))

    def label(self, tag: int, original: str) -> str:
        """Return a dummy text for a value; different values of an attribute stay different."""
        return "D" + self._digest(f"label {tag:08x}", original).hex()[:8].upper()

    @property
    def fingerprint(self) -> str:
        """What tells one key from another without telling the key."""
        return self._digest("fingerprint", "").hex()[:16]

    def _digest(self, purpose: str, value: str) -> bytes:
        return hmac.new(self.secret, f"{purpose}\0{value}".encode(), hashlib.sha256).digest()


def new_keys() -> Keys:
    """Return keys of a fresh secret."""
    return Keys(secret=secrets.token_bytes(KEY_BYTES))


def read_keys(path: Path) -> Keys:
    """Read a secret of 64 hexadecimal digits.

    Raises
    ------
    InputError
        If the file is missing or holds something else.
    """
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a key of {2 * KEY_BYTES} hexadecimal digits; it cannot be read.") from error
    if len(secret) != KEY_BYTES:
        raise InputError(
            f"{path}: expected a key of {2 * KEY_BYTES} hexadecimal digits; found {2 * len(secret)}. Choose the file "
            "that an earlier run made."
        )
    return Keys(secret=secret)


def make_keys(path: Path) -> Keys:
    """Read the secret of a file, or make a fresh one there that only its owner can read.

    Raises
    ------
    InputError
        If the file holds something else.
    ResourceError
        If it cannot be written.
    """
    if path.exists():
        return read_keys(path)
    keys = new_keys()
    write_private(path, keys.secret.hex() + "\n")
    return keys


def write_private(path: Path, text: str) -> None:
    """Write a text whole or not at all, readable by its owner only (mode 0600, folder 0700 if it is made).

    Raises
    ------
    ResourceError
        If it cannot be written.
    """
    temporary = path.with_name(f".partial-{secrets.token_hex(8)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ResourceError(f"Could not write {path} ({error.strerror}). Choose another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)
