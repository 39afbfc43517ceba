"""Asking the ``admit`` hooks: allow, change or refuse a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from boxwood.drivers.extension import AdmissionRequest, Peer
from boxwood.drivers.extensions import implementations
from boxwood.errors import BoxwoodError, PluginError

if TYPE_CHECKING:
    import pluggy

    from boxwood.api.http import message

Hooks = Callable[[AdmissionRequest], AdmissionRequest]
"""Calls every plugin's ``admit`` in turn; what it raises is the answer to the client."""

T = TypeVar("T")


def hooks_of(manager: pluggy.PluginManager) -> Hooks | None:
    """Return what asks every extension in turn, each with what the one before it returned.

    None when no extension has the hook.
    """
    hooks = list(implementations(manager, "admit"))
    if not hooks:
        return None

    def ask(request: AdmissionRequest) -> AdmissionRequest:
        for name, hook in hooks:
            try:
                answer = hook(request=request)
            except BoxwoodError:
                raise
            except Exception as error:  # a stranger's code: whatever it raises gets its name
                raise PluginError(f"admit: {request.action}: {name}: {error}") from error
            if isinstance(answer, AdmissionRequest):
                request = answer
            elif answer is not None:
                raise PluginError(
                    f"admit: {request.action}: {name}: returned {type(answer).__name__}"
                )
        return request

    return ask


class Admission:
    """The question about one request.

    A route with a typed body asks with :meth:`typed` before it acts; for every other route that
    has an action the server asks with no value.
    """

    __slots__ = ("_action", "_hooks", "_object", "_peer")

    def __init__(self, hooks: Hooks | None, action: str, name: str, peer: message.Peer) -> None:
        self._hooks = hooks
        self._action = action
        self._object = name
        self._peer = peer

    def typed(self, value: T, name: str = "") -> T:
        """Return ``value`` as the hooks leave it.

        Args:
            value: the decoded body, or None.
            name: the object, where the path does not name it.

        Raises:
            PermissionDenied: a plugin refuses; any error class of ours passes as it is.
            PluginError: a plugin failed, or returned something else than it was given.
        """
        if self._hooks is None or not self._action:
            return value
        asked = AdmissionRequest(
            action=self._action, object=name or self._object, peer=_peer(self._peer), value=value
        )
        answer = self._hooks(asked)
        if not isinstance(answer.value, type(value)):
            got, want = type(answer.value).__name__, type(value).__name__
            raise PluginError(f"admit: {self._action}: a plugin returned {got}, not {want}")
        return answer.value

    def further(self, action: str, name: str) -> None:
        """Ask about what the request does beside its route's own action.

        Raises:
            PermissionDenied, PluginError: as :meth:`typed`.
        """
        if self._hooks is not None:
            self._hooks(AdmissionRequest(action=action, object=name, peer=_peer(self._peer)))


def _peer(peer: message.Peer) -> Peer:
    return msgspec.convert(
        {"uid": peer.uid, "gid": peer.gid, "pid": peer.pid or -1, "subject": peer.common_name},
        Peer,
    )
