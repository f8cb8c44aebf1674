"""The page in a headless Chromium: seconds of a photograph of 600×400, and how fast the dials answer.

    python -m benchmarks.page
    python -m benchmarks.page --weights tiny --repeats 3

The page is written as a folder and served by a plain web server. Each time is that from the click on
Download to the file, decoding, all of the network and encoding a PNG included: with one thread, as on
the first visit, and with several, as on later ones, where the page stands alone. Beside it the exported
file in native ONNX Runtime with one thread and with two, and the `Enhancer`, from pixels to pixels.
Written are the fastest and the median run. The dials are moved on a photograph of 1280×853; their times
are from the event to the frame after it.
"""

import argparse
import io
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnxruntime
import skimage.data
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.count import positive_integer
from pdn_jax import weights
from pdn_jax.cli import Parser, explained
from pdn_jax.enhancer import Enhancer
from pdn_jax.export import formats
from pdn_jax.page import folder
from pdn_jax.types import InputError

NAMES = ("chromium", "chromium-browser", "google-chrome")

MOVE = """async (stops) => {
  const [dial, begin] = [document.querySelector("#exposure"), performance.now()];
  dial.value = stops;
  dial.dispatchEvent(new Event("input"));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - begin;
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        """Nothing is printed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments; None for the process's own.

    Returns:
        The exit code.
    """
    parser = Parser(prog="benchmarks.page", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", nargs="+", default=["tiny", "small"], help="which networks")
    parser.add_argument("--repeats", type=positive_integer, default=5, help="runs of each")
    arguments = parser.parse_args(argv)
    return explained(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print a table.

    Args:
        arguments: of `main`.

    Raises:
        InputError: Chromium or Playwright is missing.
    """
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        raise InputError("there is no Chromium: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise InputError('playwright is missing: pip install "pdn_jax[test]"') from error
    table = Table("", "fastest, s", "median, s", title="a photograph of 600×400")
    low = dark(600, 400)
    with tempfile.TemporaryDirectory(prefix="pdn-jax-page-") as place:
        folder.write(place, arguments.weights)
        with _server(place) as address, sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for name in arguments.weights:
                for row, times in measured(browser, address, name, low, arguments.repeats):
                    table.add_row(row, f"{min(times):.2f}", f"{statistics.median(times):.2f}")
                for row, times in native(name, low, arguments.repeats):
                    table.add_row(row, f"{min(times):.2f}", f"{statistics.median(times):.2f}")
            dials = dialled(browser, address)
            browser.close()
    console = Console()
    console.print(table)
    most = max(dials)
    console.print(f"dials at 1280×853: median {statistics.median(dials):.0f} ms, most {most:.0f}")


def dark(width: int, height: int) -> np.ndarray:
    """A packaged photograph as a camera has it that saw a twelfth of the light.

    Args:
        width: in pixels.
        height: in pixels.

    Returns:
        uint8 [h, w, 3].
    """
    photo = np.asarray(Image.fromarray(skimage.data.coffee()).resize((width, height)), float)
    noise = np.random.default_rng(0).normal(0, 2, photo.shape)
    return np.uint8(np.rint(0.32 * photo + noise).clip(0, 255))


class _server:
    """A plain web server of a folder, by its address."""

    def __init__(self, place: str):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=place))

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever).start()
        return f"http://127.0.0.1:{self.server.server_address[1]}/"

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()


def measured(browser, address: str, name: str, low: np.ndarray, repeats: int):
    """Seconds from a click to a file, with one thread and with those there are.

    Args:
        browser: of Playwright.
        address: of the page.
        name: of the network.
        low: the photograph.
        repeats: how often.

    Yields:
        What was measured, and its seconds.
    """
    with browser.new_context() as context:
        tab = context.new_page()
        for _ in range(2):  # on the second visit the page stands alone
            _shown(tab, address, name, low)
            several = tab.evaluate("crossOriginIsolated")
            threads = tab.evaluate("Math.min(4, navigator.hardwareConcurrency)") if several else 1

            def click(tab=tab):
                with tab.expect_download(timeout=600_000) as coming:
                    tab.click("#one")
                coming.value.path()

            yield f"{name}, browser, {threads} threads", timed(click, repeats)
            tab.evaluate("navigator.serviceWorker.ready")


def _shown(tab, address: str, name: str, low: np.ndarray) -> None:
    data = io.BytesIO()
    Image.fromarray(low).save(data, "PNG")
    tab.goto(address)
    tab.wait_for_selector("body[data-ready]")
    if name:
        tab.select_option("#variant", name)
    file = {"name": "dark.png", "mimeType": "image/png", "buffer": data.getvalue()}
    tab.set_input_files("#files", file)
    tab.wait_for_selector("#look:not([hidden])", timeout=600_000)
    tab.wait_for_selector("#busy", state="hidden")


def native(name: str, low: np.ndarray, repeats: int):
    """Seconds of the same network outside of a browser, from pixels to pixels.

    Args:
        name: of the network.
        low: the photograph.
        repeats: how often.

    Yields:
        What was measured, and its seconds.
    """
    loaded = weights.load(name)
    data = formats.written(loaded, "onnx")
    ones = {dial: np.array(1.0, np.float32) for dial in ("exposure", "denoise")}
    for threads in (1, 2):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        given = {"photograph": np.float32(low)[None] / 255, **ones}
        work = partial(session.run, None, given)
        yield f"{name}, native ONNX Runtime, {threads} threads", timed(work, repeats)
    yield f"{name}, Enhancer", timed(partial(Enhancer(loaded), low), repeats)


def dialled(browser, address: str) -> list[float]:
    """Milliseconds that the dials take.

    Args:
        browser: of Playwright.
        address: of the page.

    Returns:
        Of twenty moves.
    """
    with browser.new_context() as context:
        tab = context.new_page()
        _shown(tab, address, "", dark(1280, 853))
        return [tab.evaluate(MOVE, index / 10) for index in range(-10, 10)]


def timed(work: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of every run but a first one.

    Args:
        work: what to do.
        repeats: how often.

    Returns:
        As many numbers.
    """
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    raise SystemExit(main())
