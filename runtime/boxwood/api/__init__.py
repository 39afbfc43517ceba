"""The Engine API over HTTP: wire JSON to model and back. No decision is taken here.

:class:`ApiServer` is what the daemon starts; everything else is this package's own.
"""

from boxwood.api.http.listen import Listener, activated_sockets, open_tcp, open_unix
from boxwood.api.server import ApiServer

__all__ = ["ApiServer", "Listener", "activated_sockets", "open_tcp", "open_unix"]
