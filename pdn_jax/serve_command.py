"""The `serve` command: the page in a browser, this process behind it."""

import argparse
import contextlib
import importlib
import secrets
import signal
import socket
import threading

from pdn_jax.errors import InputError


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command.

    Args:
        parser: gets them.
    """
    add = parser.add_argument
    add("--weights", help="tiny, small or base, a .safetensors file, or a run folder")
    add("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1, here alone)")
    add("--port", type=_port, default=0, help="port to listen at (default any free one)")
    add("--no-browser", action="store_true", help="only print the address")
    add("--megabytes", type=_positive, metavar="N", help="of a file at most (default 256)")
    add("--megapixels", type=_positive, metavar="N", help="of a photo at most (default 100)")


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a whole number up to 65535, got {text}")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C.

    Args:
        arguments: what a parser with `add_options` gives.

    Returns:
        The exit code, 0.

    Raises:
        InputError: the extra is missing, the port is taken, or the weights cannot be used.
    """
    for module in ("anyio", "starlette", "uvicorn"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(f'serve needs {module}: pip install "pdn_jax[serve]"') from error
    with contextlib.closing(_bound(arguments.host, arguments.port)) as listener:
        from pdn_jax import weights
        from pdn_jax.serve import app, desk, scratch

        limits = desk.Limits(
            int(1e6 * (arguments.megabytes or desk.MEGABYTES)),
            int(1e6 * (arguments.megapixels or desk.MEGAPIXELS)),
        )
        with scratch.scratch(scratch.place()) as folder:
            kept = desk.Desk(folder, arguments.weights or weights.DEFAULT, limits)
            token = secrets.token_urlsafe(24)
            served = app.make(kept, token, arguments.host)
            _serve(served, listener, _address(listener, token), not arguments.no_browser)
    return 0


def _bound(host: str, port: int) -> socket.socket:
    try:
        kind, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(kind, socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"--host {host} is no address here: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen at {host} port {port}: {error.strerror}; choose another --port"
        ) from error
    return listener


def _address(listener: socket.socket, token: str) -> str:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{token}/"


def _serve(served: object, listener: socket.socket, address: str, browser: bool) -> None:
    import webbrowser

    import uvicorn

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)  # so that what is to be removed is
    print(f"{address}\nThe page is there until Ctrl-C; the address is its key.", flush=True)
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    config = uvicorn.Config(served, log_level="warning", access_log=False, server_header=False)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
