"""Who may talk to the server: those who know the token, from its own page, under its own name."""

import ipaddress
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable], Callable[[Any], Awaitable]], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; worker-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
"""What every answer carries: nothing from elsewhere is loaded, nobody else may show it."""


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's alone.

    Args:
        host: a name or an address.

    Returns:
        That.
    """
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> Any:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class Guard:
    """Passes on what comes under /TOKEN/, with a Host and an Origin that are the server's own.

    A page from elsewhere cannot know the token; a name that was made to point at this machine is not
    in `Host` what the server is called; and a request that another page makes says so in `Origin`.
    """

    def __init__(self, app: App, token: str, host: str):
        """Guard an application.

        Args:
            app: gets what passes.
            token: the first part of every path.
            host: what the server is bound to. Beyond loopback every address of it will do, and this
                machine's own name.
        """
        self.app, self.token, self.loopback = app, token, is_loopback(host)
        self.names = {"localhost"} if self.loopback else {"localhost", host, socket.gethostname()}

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """An ASGI application.

        Args:
            scope: as ASGI has it.
            receive: likewise.
            send: likewise.
        """
        if scope["type"] != "http":  # the start and the end of the process
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        refusal = self.refusal(scope["path"], headers)

        async def marked(message):
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in more if name not in given),
                ]
            await send(message)

        if refusal is None:
            await self.app(scope, receive, marked)
        else:
            status, sentence = refusal
            body = json.dumps({"error": sentence}).encode()
            kind = [(b"content-type", b"application/json"), (b"connection", b"close")]
            await marked({"type": "http.response.start", "status": status, "headers": kind})
            await marked({"type": "http.response.body", "body": body})

    def refusal(self, path: str, headers: MutableMapping[str, bytes]) -> tuple[int, str] | None:
        """Why a request is refused.

        Args:
            path: of its URL.
            headers: by name in small letters.

        Returns:
            A status and a sentence; None where it passes.
        """
        host = headers.get("host", b"").decode("latin-1").lower()
        if not self._is_ours(host):
            return 421, "This server is not called by that name."
        origin = headers.get("origin")
        if origin is not None and origin.decode("latin-1").lower() != f"http://{host}":
            return 403, "This server answers its own page only."
        token = path.split("/")[1] if path.startswith("/") else ""
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            return 404, "Open the whole address that pdn_jax serve has printed."
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if _has_port(host) else host
        name = name.removeprefix("[").removesuffix("]")
        address = _address(name)
        if address is not None:
            return address.is_loopback or not self.loopback
        return name in {each.lower() for each in self.names}


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and not host.endswith("]")
