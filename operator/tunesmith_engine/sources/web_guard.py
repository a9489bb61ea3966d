"""Where a web server may send a request on to: over https, and not into somebody's network.

The manifest names a host, and that host may be a private one. Whatever it redirects to is chosen by
a stranger: the metadata service of a cloud, which gives credentials to whoever asks, or a service
that is reached from inside a cluster alone. Hosts that a redirect must reach all the same, such as
a private store behind a private catalogue, are named in the source's secret.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from tunesmith_api.uris import redacted
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.errors import Role, SourceError

# A key of the source's secret: hosts, separated by commas.
ALLOWED_HOSTS: Final = "HTTP_ALLOWED_HOSTS"
_SCHEMES: Final = frozenset({"https"})
# NAT64 and 6to4 carry an address of the old kind, which Python takes for a public one.
_WRAPPED: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16"))


@dataclass(frozen=True, slots=True)
class WebGuard:
    """What may be asked on behalf of `uri`; `allowed` are hosts that its secret names."""

    uri: str
    role: Role
    allowed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, uri: str, *, secret: Secret, role: Role) -> "WebGuard":
        """The guard of a source with this secret."""
        names = (secret.get(ALLOWED_HOSTS) or "").split(",")
        return cls(uri, role, frozenset(name.strip().lower() for name in names if name.strip()))

    def check(self, url: str) -> None:
        """Do nothing if `url` may be asked.

        Raises:
            SourceError: it is not asked over https, or lies where no redirect may lead.
        """
        # NB: the name is looked up once more for the connection, and might say otherwise then. The
        # certificate is what a stranger's name for a private address does not pass.
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        is_named = host == (urlsplit(self.uri).hostname or "").lower()
        # A registry on this machine has no certificate, and needs none.
        if parts.scheme not in _SCHEMES and not (is_named and _is_this_machine(host)):
            raise self._refused(host, because="is not asked over https")
        if host in self.allowed:
            return
        for address in _addresses(host, parts.port):
            if address.is_link_local or not (is_named or _is_public(address)):
                raise self._refused(host, because="is an address inside of a network")

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Check, as a middleware of aiohttp, every request and every redirect."""
        await asyncio.to_thread(self.check, str(request.url))
        return await handler(request)

    def _refused(self, host: str, *, because: str) -> SourceError:
        return SourceError(
            self.role.missing,
            f"{self.role.name}: {redacted(self.uri)} leads to {host}, which {because}; name the "
            f"place itself, or allow that host in the key {ALLOWED_HOSTS} of the secret of "
            "secretRef.",
        )


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _addresses(host: str, port: int | None) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        # The connection will say so, in the words for what cannot be reached.
        return []
    return [ipaddress.ip_address(str(where[0]).partition("%")[0]) for *_, where in found]


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_public(address.ipv4_mapped)
        if any(address in network for network in _WRAPPED):
            return False
    return address.is_global and not address.is_multicast
