"""The page in a real browser, served and as files: what a person does with it, and what comes of it.

Chromium is the system's own, headless, driven through Playwright. Every state leaves a screenshot.
"""

import base64
import io
import shutil
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from photo_files import camera_jpeg, packet, png_bytes, scene
from PIL import Image

from pdn_jax import photo
from pdn_jax.cli import main
from pdn_jax.enhancer import Enhancer
from pdn_jax.page import folder, npm
from pdn_jax.photos import reader
from pdn_jax.types import InputError

ROOT = Path(__file__).parents[1]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
BROWSER = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium to look at the page with: apt-get install chromium"
)
DIALS = {"exposure": 2**0.7, "denoise": 0.4}


def darkened(pixels, seed=0):
    """A packaged photograph as a camera has it that saw a twelfth of the light, uint8."""
    noise = np.random.default_rng(seed).normal(0, 2, pixels.shape)
    return np.uint8(np.rint(255 * (pixels / 255 * 0.32) + noise).clip(0, 255))


PHOTOGRAPH = darkened(skimage.data.astronaut()[60:260, 60:360])


# --- fetching the runtime ------------------------------------------------------------------------


def test_npm_that_is_missing_or_brings_something_else(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"needs npm to bring onnxruntime-web@1\.\d+\.\d+"):
        npm.archive(npm.RUNTIME, tmp_path)
    fake = tmp_path / "npm"
    fake.write_text('#!/bin/sh\nfor last; do :; done\nprintf other > "$last/a-1.tgz"\n')
    fake.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(fake))
    with pytest.raises(InputError, match="another onnxruntime-web"):
        npm.archive(npm.RUNTIME, tmp_path)
    fake.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    with pytest.raises(InputError, match=r"cannot bring onnxruntime-web@.*\(no network\)"):
        npm.archive(npm.RUNTIME, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["npm"]


def test_an_archive_that_is_there_is_held_against_its_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    package = npm.Package("some", "1.0.0", "")
    path = tmp_path / "some-1.0.0.tgz"
    path.write_bytes(b"known")
    assert npm.archive(package._replace(digest=npm.digest(path)), tmp_path) == path
    with pytest.raises(InputError, match="needs npm"):
        npm.archive(package, tmp_path)


def test_two_weights_of_one_name(tmp_path, capsys):
    code = main(["page", "-o", str(tmp_path / "out"), "--weights", "tiny", "tiny"])
    assert code == 2
    assert "tiny is named twice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_cache_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    (tmp_path / "cache").write_text("")
    monkeypatch.setattr(npm, "cache", lambda: tmp_path / "cache" / "npm")
    assert main(["page", "-o", str(tmp_path / "out"), "--weights", "tiny"]) == 2
    error = capsys.readouterr().err
    assert f"cannot keep onnxruntime-web in {tmp_path}" in error
    assert error.count("\n") == 1


def test_files_of_a_persons_own_are_not_replaced(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(folder, "_networks", lambda *_: asked.append(1) or ({}, {}))
    monkeypatch.setattr(npm, "archive", lambda *_: None)
    monkeypatch.setattr(npm, "unpacked", lambda *_: {})
    (tmp_path / "theirs").mkdir()
    for name, path in (("one.html", "one.html"), ("theirs", "theirs/index.html")):
        (tmp_path / path).write_text("<title>mine</title>")
        with pytest.raises(InputError, match=r"exists: .*\(--overwrite\)"):
            folder.write(tmp_path / name, ["tiny"])
        assert (tmp_path / path).read_text() == "<title>mine</title>"
        assert asked == []
    (tmp_path / "theirs" / "index.html").rename(tmp_path / "theirs" / "main.js")
    with pytest.raises(InputError, match=r"main\.js exists"):
        folder.write(tmp_path / "theirs", ["tiny"])
    folder.write(tmp_path / "theirs", ["tiny"], overwrite=True)
    folder.write(tmp_path / "theirs", ["tiny"])  # it is ours now
    folder.write(tmp_path / "one.html", ["tiny"], overwrite=True)
    assert folder.TITLE in (tmp_path / "one.html").read_bytes()


def test_a_folder_for_a_file_and_a_file_for_a_folder(tmp_path):
    (tmp_path / "a.html").mkdir()
    (tmp_path / "file").write_text("")
    for name, reason in (("a.html", "is a folder: give the name of a file"), ("file", "is a file")):
        with pytest.raises(InputError, match=reason):
            folder.write(tmp_path / name, ["tiny"])


# --- the browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        # Without a sandbox, as the tests may be run by root, who may not have one.
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Open a page in a context of its own; whatever it complains of fails the test."""
    complaints, contexts = [], []

    def at(address, **options):
        options = {"viewport": {"width": 1280, "height": 900}, **options}
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(120_000)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        tab.goto(address)
        tab.wait_for_selector("body[data-ready]")
        return tab

    yield at
    for context in contexts:
        context.close()
    # A refused photograph is an answer of status 422, which Chromium reports there.
    assert [text for text in complaints if "status of 422" not in text] == []


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    command = [sys.executable, "-m", "pdn_jax", "serve", "--no-browser", "--weights", "tiny"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    yield process.stdout.readline().strip()
    process.terminate()
    process.wait(30)
    process.stdout.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The page as a folder of files, on a plain web server."""
    place = tmp_path_factory.mktemp("page")
    try:
        folder.write(place, ["tiny", "small"])
    except InputError as error:
        pytest.skip(f"{error} (apt-get install npm)")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=place))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


EVENT = """([target, kind, files]) => {
  globalThis.wasBusy = false;  // it may be so for less than a frame
  const seen = new MutationObserver(() => { globalThis.wasBusy = true; });
  seen.observe(document.querySelector("#busy"), { attributes: true });
  const data = new DataTransfer();
  for (const [name, type, text] of files) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], name, { type }));
  }
  const options = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
  const Kind = kind === "paste" ? ClipboardEvent : DragEvent;
  document.querySelector(target).dispatchEvent(new Kind(kind, options));
}"""
TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "HEIC": "image/heic"}


def give(tab, *files, kind="drop"):
    """Drop or paste files, (name, bytes) each, and wait until all are looked at."""
    sent = [
        (name, TYPES.get(name.rpartition(".")[2], ""), base64.b64encode(data).decode())
        for name, data in files
    ]
    tab.evaluate(EVENT, ["#drop", kind, sent])
    tab.wait_for_function("globalThis.wasBusy || !fault.hidden")
    settled(tab)


def settled(tab):
    tab.wait_for_selector("#busy", state="hidden")
    tab.wait_for_timeout(600)  # until the dials have stood
    tab.wait_for_selector("#busy", state="hidden")


def dial(tab):
    """Both dials, to what `DIALS` says."""
    tab.locator("#exposure").fill("0.7")
    tab.locator("#denoise").fill("0.4")


def downloaded(tab, button="#one"):
    with tab.expect_download() as coming:
        tab.click(button)
    return coming.value.suggested_filename, Path(coming.value.path()).read_bytes()


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)


def on_screen(tab, name):
    """The pixels of a canvas, [h, w, 3]."""
    code = """(canvas) => [canvas.width, canvas.height,
        [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]]"""
    width, height, values = tab.locator(f"canvas.{name}").evaluate(code)
    return np.reshape(values, (height, width, 4))[..., :3]


def part_before(tab):
    """How much of the frame's width shows what was before, from what is clipped."""
    code = """() => {
      const [frame, sheet] = [".frame", ".sheet"].map((s) => document.querySelector(s).getBoundingClientRect());
      const sides = getComputedStyle(document.querySelector("canvas.before")).clipPath.match(/[\\d.]+/g);
      const cut = Number(sides[1] ?? sides[0]);
      return (sheet.width - cut) / sheet.width;
    }"""
    return tab.evaluate(code)


def walk_through(tab, shots, reference):
    """All that a person does with one photograph; gives the download."""
    tab.screenshot(path=shots / "0-empty.png")
    give(tab, ("dark.png", png_bytes(PHOTOGRAPH)))
    assert tab.locator("#fault").is_hidden()
    tab.screenshot(path=shots / "1-brightened.png")
    np.testing.assert_array_equal(on_screen(tab, "before"), PHOTOGRAPH)
    assert (
        abs(on_screen(tab, "after") - reference(PHOTOGRAPH, exposure=1.0, denoise=1.0)).max() <= 2
    )
    assert tab.locator("#strip li").count() == 8  # dark, 4 stages, 3 levels
    dial(tab)
    settled(tab)
    wanted = reference(PHOTOGRAPH, **DIALS)
    assert abs(on_screen(tab, "after") - wanted).max() <= 3  # by a table
    assert tab.locator("#exposure").get_attribute("aria-valuetext") == "+0.70 EV"
    tab.screenshot(path=shots / "2-dials.png")

    box = tab.locator(".divider span").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    sheet = tab.locator(".sheet").bounding_box()
    tab.mouse.move(*middle)
    tab.mouse.down()
    tab.mouse.move(sheet["x"] + 0.25 * sheet["width"], middle[1], steps=4)
    tab.mouse.up()
    assert part_before(tab) == pytest.approx(0.25, abs=0.01)
    divider = tab.locator(".divider")
    divider.press("ArrowRight")
    assert part_before(tab) == pytest.approx(0.27, abs=0.01)
    assert divider.get_attribute("aria-valuenow") == "27"
    divider.press("End")
    assert part_before(tab) == pytest.approx(1.0, abs=0.001)
    divider.press("Home")
    assert part_before(tab) == pytest.approx(0.0, abs=0.001)
    tab.screenshot(path=shots / "3-divider.png")

    result = downloaded(tab)
    tab.click("#full")
    tab.wait_for_selector("#view[data-full]")
    ratio = tab.evaluate("devicePixelRatio")
    assert tab.locator(".sheet").bounding_box()["width"] == PHOTOGRAPH.shape[1] / ratio
    for name, image, most in (("before", PHOTOGRAPH, 3), ("after", wanted, 3)):
        assert abs(on_screen(tab, name) - image).mean() <= most  # served, they are JPEGs
    tab.screenshot(path=shots / "4-full.png")
    tab.click("#reset")
    tab.wait_for_function("document.querySelector('#exposure').value === '0'")
    assert tab.locator("#denoise").input_value() == "1"
    settled(tab)
    tab.click("#fit")
    return result


@pytest.fixture(scope="module")
def enhanced():
    networks = {}

    def run(low, variant="tiny", **dials):
        networks.setdefault(variant, Enhancer(variant))
        return networks[variant](low, **dials).astype(int)

    return run


@BROWSER
@pytest.mark.slow
def test_served(opened, served, tmp_path, enhanced):
    tab = opened(served)
    name, data = walk_through(tab, tmp_path, enhanced)
    assert name == "dark.png"
    assert abs(pixels(data) - enhanced(PHOTOGRAPH, **DIALS)).max() <= 1


@BROWSER
@pytest.mark.slow
def test_as_files_and_without_a_network(opened, files, tmp_path, enhanced):
    tab = opened(files)
    tab.select_option("#variant", "tiny")
    asked = []
    tab.context.on("request", lambda request: asked.append((request.method, request.url)))
    name, data = walk_through(tab, tmp_path, enhanced)
    assert name == "dark.png"
    assert abs(pixels(data) - enhanced(PHOTOGRAPH, **DIALS)).max() <= 2
    tab.context.set_offline(True)
    tab.reload()
    tab.wait_for_selector("body[data-ready]")
    assert tab.evaluate("crossOriginIsolated")  # so that several threads may be used
    for variant in ("tiny", "small"):
        tab.select_option("#variant", variant)
        give(tab, ("again.png", png_bytes(PHOTOGRAPH)))
        dial(tab)
        name, data = downloaded(tab)
        assert name == "again.png"
        assert abs(pixels(data) - enhanced(PHOTOGRAPH, variant, **DIALS)).max() <= 2
    tab.screenshot(path=tmp_path / "5-offline.png")
    assert {method for method, _ in asked} == {"GET"}  # nothing is uploaded
    assert [url for _, url in asked if not url.startswith((files, "blob:"))] == []


KEPT = "document.querySelector('#where').textContent.includes('without a network')"


@BROWSER
@pytest.mark.slow
@pytest.mark.parametrize("reloads", [False, True])
def test_without_a_network_before_any_photograph(opened, files, enhanced, reloads):
    tab = opened(files)
    tab.wait_for_function(KEPT)
    tab.context.set_offline(True)
    if reloads:
        tab.reload()
        tab.wait_for_selector("body[data-ready]")
    for variant in ("tiny", "small"):
        tab.select_option("#variant", variant)
        give(tab, ("dark.png", png_bytes(PHOTOGRAPH)))
        assert tab.locator("#fault").is_hidden()
        _, data = downloaded(tab)
        assert abs(pixels(data) - enhanced(PHOTOGRAPH, variant)).max() <= 2


@BROWSER
@pytest.mark.slow
def test_a_runtime_that_does_not_come_is_told(browser, files):
    context = browser.new_context(service_workers="block")
    tab = context.new_page()
    tab.goto(files)
    tab.wait_for_selector("body[data-ready]")
    tab.wait_for_load_state("networkidle")  # the worker's own modules are there, the runtime is not
    tab.context.set_offline(True)
    give(tab, ("dark.png", png_bytes(PHOTOGRAPH)))
    fault = tab.inner_text("#fault")
    context.close()
    assert fault.startswith("The network tiny cannot be loaded (")
    assert fault.endswith("): see to the connection, and load the page again.")


@BROWSER
@pytest.mark.slow
def test_a_single_file_from_the_disk(opened, tmp_path, enhanced):
    try:
        folder.write(tmp_path / "page.html", ["tiny"])
    except InputError as error:
        pytest.skip(f"{error} (apt-get install npm)")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    tab = opened((tmp_path / "page.html").as_uri(), offline=True)
    name, data = walk_through(tab, tmp_path, enhanced)
    assert name == "dark.png"
    assert abs(pixels(data) - enhanced(PHOTOGRAPH, **DIALS)).max() <= 2


@BROWSER
@pytest.mark.slow
def test_tiles_are_one_photograph(opened, files, enhanced):
    tab = opened(files)
    tab.select_option("#variant", "tiny")
    low = darkened(np.asarray(Image.fromarray(skimage.data.coffee()).resize((1507, 301))))
    give(tab, ("wide.png", png_bytes(low)))
    dial(tab)
    _, data = downloaded(tab)
    assert abs(pixels(data) - enhanced(low, **DIALS)).max() <= 2


def night():
    """A quarter without light but for a sensor's noise, a lamp, and no bars."""
    noise = abs(np.random.default_rng(1).normal(0, 0.5, PHOTOGRAPH.shape))
    low = PHOTOGRAPH * 1.0
    low[:, :80] = noise[:, :80]
    return np.uint8(np.rint(low).clip(0, 255))


def barred():
    low = PHOTOGRAPH.copy()
    low[:41] = low[-30:] = 0
    return low


BLACKS = {
    "night": night,
    "bars": barred,
    "black": lambda: np.zeros((64, 96, 3), np.uint8),
    "cap": lambda: np.uint8(np.random.default_rng(0).integers(0, 4, (64, 96, 3))),
    "grey": lambda: np.repeat(PHOTOGRAPH[..., :1], 3, axis=-1),
}


@BROWSER
@pytest.mark.slow
@pytest.mark.parametrize("case", BLACKS)
@pytest.mark.parametrize("dials", [{}, DIALS])
def test_black_bars_and_grey_are_as_those_of_enhance(opened, files, case, dials):
    low = BLACKS[case]()
    picture, enhancer = photo.Photo(low, None, 8, "PNG"), Enhancer("tiny")
    made = photo.developed(picture, lambda low, there: enhancer(low, there=there, **dials))
    tab = opened(files)
    tab.select_option("#variant", "tiny")
    give(tab, ("dark.png", png_bytes(low)))
    if dials:
        dial(tab)
    _, data = downloaded(tab)
    apart = abs(pixels(data) - made.pixels.astype(int))
    assert (apart.max() <= 4, apart.mean() < 0.3) == (True, True), (apart.max(), apart.mean())
    assert abs(on_screen(tab, "after") - made.pixels.astype(int)).mean() < 1
    for note in made.notes:
        assert note in tab.inner_text("#note")


@BROWSER
@pytest.mark.slow
def test_what_is_transparent_stays_so_and_is_told(opened, files):
    alpha = np.full(PHOTOGRAPH.shape[:2], 255, np.uint8)
    alpha[50:90, 100:160] = 0  # a transparent border would be left out, as a bar
    tab = opened(files)
    tab.select_option("#variant", "tiny")
    give(tab, ("cut.png", png_bytes(np.dstack([PHOTOGRAPH, alpha]))))
    _, data = downloaded(tab)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)))[..., 3], alpha)
    settled(tab)
    assert "what is transparent was seen as black" in tab.inner_text("#note")


@BROWSER
@pytest.mark.slow
def test_webgpu_where_there_is_one(files, browser, enhanced):
    flags = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
    options = {"executable_path": CHROMIUM, "args": ["--no-sandbox", *flags]}
    started = browser.browser_type.launch(**options)
    try:
        tab = started.new_page()
        tab.set_default_timeout(600_000)  # it is a processor that plays a graphics card
        tab.goto(files)
        if not tab.evaluate("navigator.gpu?.requestAdapter().then((one) => one !== null)"):
            pytest.skip("this Chromium has no WebGPU")
        with tab.expect_request("**/*.asyncify.wasm"):
            tab.select_option("#variant", "tiny")
            give(tab, ("dark.png", png_bytes(PHOTOGRAPH[:96, :128])))
        dial(tab)
        _, data = downloaded(tab)
        wanted = enhanced(np.ascontiguousarray(PHOTOGRAPH[:96, :128]), **DIALS)
        assert abs(pixels(data) - wanted).max() <= 2
    finally:
        started.close()


@BROWSER
@pytest.mark.slow
def test_the_dials_answer_at_once(opened, served):
    tab = opened(served)
    low = darkened(np.asarray(Image.fromarray(skimage.data.coffee()).resize((1280, 853))))
    give(tab, ("dark.png", png_bytes(low)))
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    # How long that takes, says `benchmarks.page`; here, that nothing is waited for.
    code = """(stops) => {
      const dial = document.querySelector("#exposure");
      const seen = () => document.querySelector("#view .after");
      const mean = () => {
        const { width, height } = seen();
        const { data } = seen().getContext("2d").getImageData(0, 0, width, height);
        return data.reduce((sum, value) => sum + value, 0) / data.length;
      };
      const before = mean();
      dial.value = stops;
      dial.dispatchEvent(new Event("input"));
      return [before, mean()];
    }"""
    moves = [tab.evaluate(code, stops) for stops in (-1, 0.5, 1)]
    assert all(abs(after - before) > 1 for before, after in moves), moves
    assert asked == []


@BROWSER
@pytest.mark.slow
def test_many_formats_paste_zip_and_what_is_kept(opened, served, tmp_path, monkeypatch):
    tab = opened(served)
    jpeg = camera_jpeg(scene(), xmp=packet())
    tiff = photo.encoded(
        photo.open(_written(tmp_path / "a.png", png_bytes(scene()))), scene(), "TIFF"
    )
    give(tab, ("dark.jpg", jpeg), ("dark.tif", tiff.data))
    give(tab, ("dark.jpg", jpeg), kind="paste")
    assert tab.locator("#photos li").count() == 3
    name, data = downloaded(tab, "#all")
    assert name == "brightened.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["dark.jpg", "dark.tif", "dark-2.jpg"]
        results = {each: archive.read(each) for each in archive.namelist()}
    monkeypatch.chdir(tmp_path)
    Path("dark.jpg").write_bytes(jpeg)
    assert main(["enhance", "dark.jpg", "-o", "out.jpg", "--weights", "tiny"]) == 0
    assert results["dark.jpg"] == results["dark-2.jpg"] == Path("out.jpg").read_bytes()
    assert reader.from_bytes(results["dark.tif"], "dark.tif").kind == "TIFF"
    tab.click("[aria-label='Remove dark.tif']")
    assert tab.locator("#photos li").count() == 2
    assert tab.inner_text("#status") == "dark.tif removed"
    tab.screenshot(path=tmp_path / "6-many.png")


@BROWSER
@pytest.mark.slow
def test_previews_of_three_photographs_are_held(opened, served):
    tab = opened(served)
    asked = []
    tab.on("request", lambda request: "/preview" in request.url and asked.append(request.url))
    names = [f"{index}.png" for index in range(4)]
    give(tab, *((name, png_bytes(PHOTOGRAPH)) for name in names))
    for name, wanted in (("1.png", 4), ("3.png", 4), ("0.png", 5), ("3.png", 5), ("2.png", 6)):
        tab.click(f"#photos button[title='{name}']")
        settled(tab)
        assert tab.inner_text("#status") == f"{name} is brightened"
        assert len(asked) == wanted


def current(tab):
    return tab.locator("#photos .pick[aria-current=true]").inner_text()


@BROWSER
@pytest.mark.slow
def test_the_focus_stays_in_the_list(opened, served):
    tab = opened(served)
    names = ["a.png", "b.png", "c.png"]
    give(tab, *((name, png_bytes(PHOTOGRAPH)) for name in names))
    tab.locator("#photos button[title='a.png']").press("Enter")
    settled(tab)
    focused = "document.activeElement.title || document.activeElement.ariaLabel"
    assert tab.evaluate(focused) == "a.png"
    for gone, wanted in (("b.png", "Remove c.png"), ("c.png", "Remove a.png")):
        tab.locator(f"[aria-label='Remove {gone}']").press("Enter")
        assert tab.evaluate(focused) == wanted
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "choose"


@BROWSER
@pytest.mark.slow
def test_what_a_person_looks_at_stays(opened, served):
    tab = opened(served)
    good = png_bytes(PHOTOGRAPH)
    give(tab, ("a.png", good), ("b.png", good))
    assert current(tab) == "b.png"
    give(tab, ("bad.png", b"no picture"))
    assert current(tab) == "b.png"  # a fault takes nothing away
    assert tab.inner_text("#fault").startswith("bad.png is")
    tab.click("#photos button[title='a.png']")
    assert tab.locator("#fault").is_hidden()
    settled(tab)

    def slowly(route):
        tab.locator("#photos button[title='a.png']").evaluate("(button) => button.click()")
        route.continue_()

    tab.route("**/photos?name=c.png", slowly, times=1)
    give(tab, ("c.png", good))
    assert current(tab) == "a.png"
    tab.click("[aria-label='Remove bad.png']")
    assert tab.locator("#fault").is_hidden()


@BROWSER
@pytest.mark.slow
def test_what_is_changed_during_downloads_is_for_the_next(opened, served, enhanced):
    tab = opened(served)
    give(tab, ("a.png", png_bytes(PHOTOGRAPH)), ("b.png", png_bytes(PHOTOGRAPH)))

    def change(route):
        tab.locator("#exposure").fill("1.5")
        tab.evaluate("document.querySelector('#variant').value = 'small'")
        route.continue_()

    tab.route("**/result?*", change, times=1)
    _, data = downloaded(tab, "#all")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            assert abs(pixels(archive.read(name)) - enhanced(PHOTOGRAPH)).max() <= 1
    parts = """async () => {
      const { parted } = await import("./zip.js");
      const files = [3, 4, 9, 1, 2].map((size) => ({ blob: { size } }));
      return parted(files, 7).map((part) => part.map(({ blob }) => blob.size));
    }"""
    assert tab.evaluate(parts) == [[3, 4], [9], [1, 2]]


@BROWSER
@pytest.mark.slow
def test_a_browser_that_remembers_nothing(browser, served):
    context = browser.new_context()
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })"
    )
    tab = context.new_page()
    tab.goto(served)
    tab.wait_for_selector("body[data-ready]")
    tab.click("#theme")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    context.close()


def _written(path, data):
    path.write_bytes(data)
    return path


def huge_png(side=20_000):
    """A whole PNG of one grey, with many more pixels than are taken."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(b"\0" + b"\5" * side) for _ in range(side)) + packer.flush()
    parts = [b"\x89PNG\r\n\x1a\n"]
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    for kind, part in ((b"IHDR", head), (b"IDAT", data), (b"IEND", b"")):
        parts.append(struct.pack(">I", len(part)) + kind + part)
        parts.append(struct.pack(">I", zlib.crc32(kind + part)))
    return b"".join(parts)


@BROWSER
@pytest.mark.slow
def test_one_too_large_for_a_browser_and_what_it_may_lack(opened, files):
    tab = opened(files)
    give(tab, ("huge.png", huge_png()))
    assert tab.inner_text("#fault").startswith(
        "huge.png has 400 million pixels: a browser holds 40"
    )
    give(tab, ("dark.jpg", camera_jpeg(scene())))
    downloaded(tab)
    note = "The last download: it may lack what it had of metadata (EXIF, XMP, IPTC), a colour profile (it is sRGB now)."
    settled(tab)
    assert tab.inner_text("#note") == note


BAD = {
    "none.png": (b"no picture", "none.png is", "none.png is no photograph"),
    "low.png": (png_bytes(scene(8, 40)), *["low.png is 40×8 pixels: expected at least 16"] * 2),
    "IMG.HEIC": (b"\0\0\0\x18ftypheic", "IMG.HEIC is damaged", "IMG.HEIC is HEIC, which this"),
}


@BROWSER
@pytest.mark.slow
@pytest.mark.parametrize("where", ["served", "files"])
def test_bad_photographs_leave_the_others(opened, where, request, tmp_path):
    tab = opened(request.getfixturevalue(where))
    tab.select_option("#variant", "tiny")
    give(tab, ("good.png", png_bytes(scene())))
    for name, (data, *sentences) in BAD.items():
        give(tab, (name, data))
        fault = tab.inner_text("#fault")
        assert fault.startswith(sentences[where == "files"])
        assert "\n" not in fault
    tab.screenshot(path=tmp_path / "7-fault.png")
    tab.click("#photos button[title='good.png']")
    settled(tab)
    name, data = downloaded(tab)
    assert (name, pixels(data).shape) == ("good.png", (64, 96, 3))
    assert tab.locator("#fault").is_hidden()


@BROWSER
@pytest.mark.slow
def test_one_too_large_is_told_before_it_is_sent(opened, served):
    tab = opened(served)
    tab.route("**/config.json", lambda route: route.fulfill(json=_smaller(route.fetch().json())))
    tab.reload()
    tab.wait_for_selector("body[data-ready]")
    give(
        tab,
        ("big.png", png_bytes(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))),
    )
    assert tab.inner_text("#fault") == "big.png is too large: at most 0.01 MB are taken."


def _smaller(config):
    return {**config, "bytes": 10_000}


@BROWSER
@pytest.mark.slow
def test_a_phone_a_finger_and_both_looks(opened, served, tmp_path):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    tab = opened(served, **phone, device_scale_factor=2, color_scheme="dark")
    give(tab, ("dark.png", png_bytes(PHOTOGRAPH)))
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    sheet = tab.locator(".sheet").bounding_box()
    tab.touchscreen.tap(sheet["x"] + 0.8 * sheet["width"], sheet["y"] + 20)
    assert part_before(tab) == pytest.approx(0.8, abs=0.01)
    small = "[...document.querySelectorAll('button, select')].filter((b) => b.offsetParent && b.offsetHeight < 32).length"
    assert tab.evaluate(small) == 0
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = tab.evaluate(ground)
    tab.screenshot(path=tmp_path / "8-phone-dark.png", full_page=True)
    tab.click("#theme")
    light = tab.evaluate(ground)
    tab.screenshot(path=tmp_path / "8-phone-light.png", full_page=True)
    shades = [np.mean([int(n) for n in each[4:-1].split(",")]) for each in (dark, light)]
    assert shades[0] < 60 < 200 < shades[1]
    tab.reload()
    tab.wait_for_selector("body[data-ready]")
    assert tab.evaluate(ground) == light  # it is remembered


@BROWSER
@pytest.mark.slow
def test_whoever_listens_hears_what_is_there(opened, served):
    tab = opened(served)
    give(tab, ("dark.png", png_bytes(PHOTOGRAPH)))
    assert tab.inner_text("#status") == "dark.png is brightened"
    heard = tab.locator("body").aria_snapshot()
    for part in (
        'combobox "Network"',
        'slider "Divider between before and after"',
        'slider "Exposure"',
        'slider "Denoise"',
        'button "Remove dark.png"',
        'button "100 %"',
        'button "Download"',
        'img "Histogram: mean',
        'img "brighter 1"',
        'list "Photographs"',
    ):
        assert part in heard
    assert "button\n" not in heard  # one without a name
    reached = set()
    for _ in range(20):  # by the keyboard alone
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"variant", "choose", "divider", "exposure", "denoise", "reset", "one"} <= reached
