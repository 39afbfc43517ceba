"""Base of every value that has a JSON form.

One form serves the Engine API and the database: attribute names are Python's, JSON names are
Docker's (Engine API 1.5x, the OpenAPI file). Unknown keys are ignored while decoding, as Docker
does. Values are immutable; change them with :func:`replace`.
"""

from __future__ import annotations

from typing import dataclass_transform

import msgspec

replace = msgspec.structs.replace


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen struct whose JSON names are given field by field."""


def _plain(value: object) -> str:
    # msgspec encodes no subclasses of str (a Digest) by itself.
    if isinstance(value, str):
        return str.__str__(value)
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_plain)


def encode(value: object) -> bytes:
    """Return ``value`` as JSON: UTF-8, no white space, nothing escaped for HTML."""
    return _encoder.encode(value)
