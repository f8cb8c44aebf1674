"""The server as an ASGI application: the page's files, and what the page asks for.

    POST   photos?name=dark.jpg            the file's bytes -> id, name, result
    GET    photos/ID/before                as it came, a JPEG to be looked at
    POST   photos/ID/preview?weights=      -> `preview.packed`
    POST   photos/ID/result?weights=&exposure=&denoise=[&look=1]
    DELETE photos/ID
    GET    queue                           -> how many are worked on or wait

A sentence for a person comes as {"error": …} with status 4xx.
"""

import json
import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from pdn_jax import __version__, page
from pdn_jax.errors import InputError
from pdn_jax.serve.desk import Desk
from pdn_jax.serve.guard import Guard

mimetypes.add_type("text/javascript", ".js")  # which some systems call something else


EXPOSURE = 64
"""The dial may ask for so many times the network's own, and for as much less."""


class Gone(Exception):
    """Nobody waits for the answer any more."""


class Line:
    """Work is done one after the other, in the order in which it was asked for."""

    def __init__(self):
        """Nobody waits."""
        self.limiter = anyio.CapacityLimiter(1)
        self.length = 0

    async def run(self, request: Request, work: Callable, *arguments: Any) -> Any:
        """Wait for one's turn, and work in a thread.

        Args:
            request: who asked; if nobody is there any more at its turn, nothing is done.
            work: a function.
            *arguments: of it.

        Returns:
            What it gives.

        Raises:
            Gone: nothing was done.
        """
        self.length += 1
        try:
            async with self.limiter:
                if await request.is_disconnected():
                    raise Gone
                return await anyio.to_thread.run_sync(work, *arguments)
        finally:
            self.length -= 1


def make(desk: Desk, token: str, host: str) -> Guard:
    """The application.

    Args:
        desk: has the photographs.
        token: the first part of every path.
        host: what the server is bound to.

    Returns:
        It, guarded.
    """
    routes = _Routes(desk, Line())
    paths = [
        Route("/", routes.file),
        Route("/config.json", routes.config),
        Route("/queue", routes.queue),
        Route("/photos", routes.take, methods=["POST"]),
        Route("/photos/{key}", routes.remove, methods=["DELETE"]),
        Route("/photos/{key}/before", routes.before),
        Route("/photos/{key}/preview", routes.preview, methods=["POST"]),
        Route("/photos/{key}/result", routes.result, methods=["POST"]),
        Route("/{name}", routes.file),
    ]
    mounted = [
        Route(f"/{token}", lambda request: RedirectResponse(f"/{token}/")),
        Mount(f"/{token}", routes=paths),
    ]
    failures = {InputError: _refused, Gone: _gone, ClientDisconnect: _gone}
    return Guard(Starlette(routes=mounted, exception_handlers=failures), token, host)


async def _refused(request: Request, error: InputError) -> Response:
    return JSONResponse({"error": str(error)}, 422)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


class _Routes:
    def __init__(self, desk: Desk, line: Line):
        self.desk, self.line = desk, line
        self.files = {path.name: path for path in page.SITE.iterdir() if path.is_file()}

    async def file(self, request: Request) -> Response:
        """One of the page's own files; no path is made from what the client says."""
        path = self.files.get(request.path_params.get("name", "index.html"))
        return FileResponse(path) if path else Response(status_code=404)

    async def config(self, request: Request) -> Response:
        limits = self.desk.limits
        return JSONResponse(
            {
                "engine": "served",
                "version": __version__,
                "variants": list(self.desk.specs),
                "chosen": self.desk.chosen,
                "bytes": limits.bytes,
                "pixels": limits.pixels,
            }
        )

    async def queue(self, request: Request) -> Response:
        return JSONResponse({"length": self.line.length})

    async def take(self, request: Request) -> Response:
        name = request.query_params.get("name", "photograph")
        key, path = self.desk.place(name)
        try:
            await self._written(request, name, path)
            # Looking at the header is quick, and nobody's turn.
            return JSONResponse(
                await anyio.to_thread.run_sync(self.desk.take, key, name, path), 201
            )
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    async def _written(self, request: Request, name: str, path: Path) -> None:
        most, count = self.desk.limits.bytes, 0
        declared = request.headers.get("content-length", "0")
        refusal = InputError(f"{name} is too large: at most {most / 1e6:.4g} MB are taken")
        if declared.isdigit() and int(declared) > most:
            raise refusal
        try:
            async with await anyio.open_file(path, "xb") as file:
                async for chunk in request.stream():
                    count += len(chunk)
                    if count > most:
                        raise refusal
                    await file.write(chunk)
        except OSError as error:
            raise InputError(f"{name} cannot be kept here: {error.strerror}") from error

    async def remove(self, request: Request) -> Response:
        self.desk.remove(request.path_params["key"])
        return Response(status_code=204)

    async def preview(self, request: Request) -> Response:
        arguments = request.path_params["key"], self._weights(request)
        data = await self.line.run(request, self.desk.preview, *arguments)
        return Response(data, media_type="application/octet-stream")

    async def before(self, request: Request) -> Response:
        path = await self.line.run(request, self.desk.before, request.path_params["key"])
        return _Once(path)

    async def result(self, request: Request) -> Response:
        dials = [_number(request, name) for name in ("exposure", "denoise")]
        arguments = request.path_params["key"], self._weights(request), *dials
        look = "look" in request.query_params

        def work():
            return self.desk.result(*arguments, look=look)

        path, lost, notes = await self.line.run(request, work)
        notes = [note for note in notes if note]
        return _Once(path, headers={"x-lost": json.dumps(lost), "x-notes": json.dumps(notes)})

    def _weights(self, request: Request) -> str:
        return request.query_params.get("weights", self.desk.chosen)


def _number(request: Request, name: str) -> float:
    text = request.query_params.get(name, "1")
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{name} must be a number, got {text}") from error
    if name == "exposure" and not 1 / EXPOSURE <= value <= EXPOSURE:
        raise InputError(f"exposure must lie in 1/{EXPOSURE} to {EXPOSURE}, got {text}")
    return value


class _Once(FileResponse):
    """A file that is removed once it was sent, or could not be."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            if not Path(self.path).exists():
                raise Gone  # its photograph was removed meanwhile
            await super().__call__(scope, receive, send)
        finally:
            Path(self.path).unlink(missing_ok=True)
