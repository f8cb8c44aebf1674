"""The server behind the page: who may ask, what is taken and kept, one photograph at a time."""

import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx2 as httpx
import numpy as np
import pytest
from photo_files import camera_exif, camera_jpeg, deep_scene, packet, png_bytes, scene
from PIL import Image
from starlette.testclient import TestClient

from pdn_jax import page, photo, serve_command, weights
from pdn_jax.cli import main
from pdn_jax.enhancer import Enhancer
from pdn_jax.photos import reader
from pdn_jax.serve import app, scratch
from pdn_jax.serve.desk import Desk, Limits
from pdn_jax.types import InputError

ROOT = Path(__file__).parents[1]
TOKEN, HERE = "token", "http://127.0.0.1:8000"
SMALL = Limits(bytes=200_000, pixels=20_000)


@pytest.fixture(scope="module")
def enhancer():
    return Enhancer("tiny")


@pytest.fixture
def desk(tmp_path, enhancer):
    kept = Desk(tmp_path, "tiny", SMALL)
    kept._enhancers["tiny"] = enhancer
    return kept


@pytest.fixture
def client(desk):
    with TestClient(app.make(desk, TOKEN, "127.0.0.1"), base_url=f"{HERE}/{TOKEN}/") as client:
        yield client


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def hand_in(client, data, name="dark.png"):
    answer = client.post("photos", params={"name": name}, content=data)
    assert answer.status_code == 201, answer.text
    return answer.json()


def unpacked(data):
    """What `preview.packed` packs, read as its docstring says."""
    (length,) = struct.unpack_from("<I", data)
    head, at, arrays = json.loads(data[4 : 4 + length]), 4 + length, {}
    for described in head["arrays"]:
        count = int(np.prod(described["shape"]))
        array = np.frombuffer(data, described["type"], count, at)
        arrays[described["name"]] = array.reshape(described["shape"])
        at += array.nbytes + -array.nbytes % 4
    assert at == len(data)
    return head, arrays


# --- who may ask ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({}, f"/{TOKEN}/config.json", 200),
        ({"origin": HERE}, f"/{TOKEN}/config.json", 200),
        ({"host": "localhost:8000"}, f"/{TOKEN}/config.json", 200),
        ({"host": "[::1]:8000"}, f"/{TOKEN}/config.json", 200),
        ({}, "/config.json", 404),
        ({}, "/", 404),
        ({}, "/tokem/config.json", 404),
        ({}, f"/{TOKEN}x/config.json", 404),
        ({"origin": "http://elsewhere.example"}, f"/{TOKEN}/config.json", 403),
        ({"origin": "http://127.0.0.1:8001"}, f"/{TOKEN}/config.json", 403),
        ({"origin": "null"}, f"/{TOKEN}/config.json", 403),
        ({"host": "rebound.example:8000"}, f"/{TOKEN}/config.json", 421),
        ({"host": "192.168.0.7:8000"}, f"/{TOKEN}/config.json", 421),
        ({"host": ""}, f"/{TOKEN}/config.json", 421),
    ],
)
def test_token_host_and_origin(client, headers, path, status):
    answer = client.get(HERE + path, headers=headers)
    assert answer.status_code == status
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_beyond_loopback_its_addresses_are_its_names(desk):
    served = app.make(desk, TOKEN, "0.0.0.0")
    for host, reason in (
        ("192.168.0.7:8000", None),
        (f"{socket.gethostname()}:8000", None),
        ("rebound.example:8000", 421),
    ):
        refusal = served.refusal(f"/{TOKEN}/", {"host": host.encode()})
        assert (refusal and refusal[0]) == reason


def test_the_page_and_nothing_beside_it(client):
    text = client.get("").text
    names = re.findall(r'(?:src|href)="([\w.-]+)"', text)
    assert {"main.js", "page.css"} <= set(names)
    for script in page.SITE.glob("*.js"):
        names += re.findall(r'from "\./([\w.-]+)"', script.read_text())
    assert [name for name in names if client.get(name).status_code != 200] == []
    assert client.get("main.js").headers["content-type"].startswith("text/javascript")
    for path in ("../__init__.py", "..%2f__init__.py", "%2fetc%2fpasswd", "none.js"):
        assert client.get(f"{HERE}/{TOKEN}/{path}").status_code == 404


# --- photographs ---------------------------------------------------------------------------------


def test_a_preview_is_what_the_network_makes(client, enhancer):
    low = scene()
    kept = hand_in(client, png_bytes(low))
    answer = client.post(f"photos/{kept['id']}/preview")
    head, arrays = unpacked(answer.content)
    assert (head["full"], head["region"]) == ([96, 64], [0, 0, 64, 96])
    stages = enhancer.stages(low)
    for name, image in (
        ("before", low),
        ("brightened", stages.enhanced[-1]),
        ("restored", stages.restored),
    ):
        np.testing.assert_array_equal(arrays[name].transpose(1, 2, 0), image)
    path = enhancer.global_pass(low).increments[0].sum(axis=0)
    np.testing.assert_allclose(arrays["path"].transpose(1, 2, 0), path, rtol=1e-6)
    strip = [name for name in arrays if name not in ("before", "brightened", "restored", "path")]
    assert strip[0] == "dark"
    assert strip[-1] == "denoised"
    assert len(strip) == 1 + len(stages.enhanced) + len(stages.denoised)


def test_bars_and_black_are_shown_as_they_are(client):
    low = np.zeros((96, 128, 3), np.uint8)
    black = hand_in(client, png_bytes(low))
    head, arrays = unpacked(client.post(f"photos/{black['id']}/preview").content)
    assert head["region"] == [0, 0, 0, 0]
    assert not arrays["restored"].any()
    low[16:80] = scene(64, 128)
    barred = hand_in(client, png_bytes(low))
    head, arrays = unpacked(client.post(f"photos/{barred['id']}/preview").content)
    assert head["region"] == [16, 0, 64, 128]
    assert arrays["path"].shape == (3, 8, 16)
    assert not arrays["restored"][:, :16].any()
    assert arrays["restored"][:, 16:80].mean() > 2 * low[16:80].mean()


def test_a_large_one_is_seen_at_screen_size(desk, client, enhancer):
    desk.limits = Limits()
    kept = hand_in(client, png_bytes(scene(100, 2000)))
    head, arrays = unpacked(client.post(f"photos/{kept['id']}/preview").content)
    assert head["full"] == [2000, 100]
    assert arrays["restored"].shape == (3, 64, 1280)


CASES = {
    "dark.jpg": lambda: camera_jpeg(scene(), xmp=packet(), exif=camera_exif(orientation=6)),
    "dark.tif": lambda: photo.encoded(photo_of_depth(), deep_scene(), "TIFF", note="somebody").data,
    "dark.webp": lambda: in_format("WEBP", lossless=True),
}


def photo_of_depth():
    return photo.Photo(deep_scene(), None, 16, "TIFF")


def in_format(kind, **options):
    data = io.BytesIO()
    Image.fromarray(scene()).save(data, kind, **options)
    return data.getvalue()


@pytest.mark.parametrize("name", CASES)
def test_a_result_is_that_of_the_command(client, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    data = CASES[name]()
    kept = hand_in(client, data, name)
    assert kept["result"] == name
    dials = {"exposure": 1.5, "denoise": 0.5}
    answer = client.post(f"photos/{kept['id']}/result", params={"weights": "tiny", **dials})
    assert answer.status_code == 200
    Path("in").mkdir()
    Path("in", name).write_bytes(data)
    options = ["--exposure", "1.5", "--denoise", "0.5", "--weights", "tiny"]
    assert main(["enhance", f"in/{name}", "-o", f"out/{name}", *options]) == 0
    assert answer.content == Path("out", name).read_bytes()
    assert json.loads(answer.headers["x-lost"]) == []
    if name == "dark.jpg":
        result = reader.from_bytes(answer.content, name)
        assert result.metadata.xmp == packet()
        assert b"Camera & Co" in result.metadata.exif
        assert result.size == (96, 64)  # upright


def test_what_is_looked_at_at_full_size_is_a_jpeg(client, desk, enhancer):
    kept = hand_in(client, CASES["dark.tif"](), "dark.tif")
    before = client.get(f"photos/{kept['id']}/before")
    after = client.post(f"photos/{kept['id']}/result?look=1")
    low = photo.srgb(photo_of_depth())
    for answer, wanted in ((before, low), (after, enhancer(low))):
        assert answer.content[:2] == b"\xff\xd8"
        seen = np.asarray(Image.open(io.BytesIO(answer.content)), int)
        assert abs(seen - wanted).mean() < 2
    assert files_in(desk.folder) == [f"{kept['id']}.tif"]


def test_no_path_comes_from_the_client(client, desk):
    for name in ("../../evil.png", "..\\evil.png", "/etc/cron.d/evil.png", "a\0b\n.png", ""):
        kept = hand_in(client, png_bytes(scene()), name)
        assert "/" not in kept["name"]
        assert kept["result"].endswith(".png")
        assert kept["result"].isprintable()
        assert client.post(f"photos/{kept['id']}/result").status_code == 200
    assert all(re.fullmatch(r"[0-9a-f]{16}(\.png)?", name) for name in files_in(desk.folder))
    for key in ("..", "%2e%2e", "0" * 16):
        assert client.post(f"photos/{key}/preview").status_code in (404, 405, 422)


def test_removed_is_gone(client, desk):
    kept = hand_in(client, png_bytes(scene()))
    assert client.delete(f"photos/{kept['id']}").status_code == 204
    assert files_in(desk.folder) == []
    answer = client.post(f"photos/{kept['id']}/preview")
    assert answer.status_code == 422
    assert answer.json() == {"error": "that photograph is not here any more: choose it once more"}


def test_a_range_that_is_none_leaves_nothing(client, desk):
    kept = hand_in(client, png_bytes(scene()))
    headers = {"range": "bytes=99999999-"}
    assert client.get(f"photos/{kept['id']}/before", headers=headers).status_code == 416
    assert files_in(desk.folder) == [f"{kept['id']}.png"]


def test_what_was_made_of_a_removed_one_is_gone(client, desk, monkeypatch):
    kept = hand_in(client, png_bytes(scene()))
    (desk.folder / f"{kept['id']}-0a.png").write_bytes(b"left")
    assert client.delete(f"photos/{kept['id']}").status_code == 204
    assert files_in(desk.folder) == []
    kept = hand_in(client, png_bytes(scene()))
    run = photo.run

    def removed_meanwhile(*arguments):
        outcome = run(*arguments)
        desk.remove(kept["id"])
        Path(arguments[0].target).write_bytes(b"as if it were written now")
        return outcome

    monkeypatch.setattr(photo, "run", removed_meanwhile)
    answer = client.post(f"photos/{kept['id']}/result")
    assert answer.status_code == 422
    assert "is not here any more" in answer.json()["error"]
    assert files_in(desk.folder) == []


# --- bad input: one sentence, nothing lost -------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "name", "sentence"),
    [
        (b"no picture at all", "notes.png", r"^notes\.png is .*expected one of \.jpg"),
        (b"", "empty.png", r"^empty\.png is empty"),
        (png_bytes(scene(12, 40)), "low.png", r"^low\.png is 40×12 pixels: expected at least 16"),
        (png_bytes(scene())[:900], "half.png", r"^half\.png is damaged or cut short"),
    ],
)
def test_what_is_no_photograph(client, data, name, sentence):
    other = hand_in(client, png_bytes(scene()))
    kept = hand_in(client, data, name)
    for what in ("preview", "result"):
        answer = client.post(f"photos/{kept['id']}/{what}")
        assert answer.status_code == 422
        assert re.search(sentence, answer.json()["error"])
        assert "\n" not in answer.json()["error"]
        assert str(kept["id"]) not in answer.json()["error"]
    assert client.post(f"photos/{other['id']}/preview").status_code == 200


def test_heic_without_its_extra(client, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    kept = hand_in(client, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "IMG_1.HEIC")
    answer = client.post(f"photos/{kept['id']}/preview")
    assert answer.status_code == 422
    wanted = 'IMG_1.HEIC needs the package pillow_heif: pip install "pdn_jax[photos]"'
    assert answer.json()["error"] == wanted


def test_too_large(client, desk):
    noise = np.random.default_rng(0).integers(0, 255, (260, 300, 3), np.uint8)
    data = png_bytes(noise)
    assert len(data) > SMALL.bytes
    sentence = "big.png is too large: at most 0.2 MB are taken"
    for content in (data, iter([data[:150_000], data[150_000:]])):  # declared, and not
        answer = client.post("photos?name=big.png", content=content)
        assert (answer.status_code, answer.json()["error"]) == (422, sentence)
    answer = client.post("photos?name=wide.png", content=png_bytes(scene(140, 150)))
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("wide.png has 0.021 million pixels: at most 0.02")
    assert files_in(desk.folder) == []


def test_one_that_pillow_refuses_is_told_our_limit(client, monkeypatch):
    kept = hand_in(client, png_bytes(scene()), "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2500)  # of 6144, that is more than twice
    for what in ("preview", "result"):
        error = client.post(f"photos/{kept['id']}/{what}").json()["error"]
        assert error == (
            "bomb.png has too many pixels: at most 0.005 million are taken, scale it down"
        )


def test_dials_and_weights_that_cannot_be(client):
    kept = hand_in(client, png_bytes(scene()))
    for query, sentence in (
        ("exposure=much", "exposure must be a number, got much"),
        ("exposure=-1", "exposure"),
        ("exposure=nan", "exposure must lie in 1/64 to 64, got nan"),
        ("exposure=1e9", "exposure must lie in 1/64 to 64, got 1e9"),
        ("denoise=2", "denoise"),
        ("weights=huge", "there are no weights huge: choose one of tiny, small, base"),
        ("weights=../../x", "there are no weights"),
    ):
        answer = client.post(f"photos/{kept['id']}/result?{query}")
        assert answer.status_code == 422
        assert answer.json()["error"].startswith(sentence)


def test_weights_of_ones_own(tmp_path):
    weights.save(tmp_path / "mine.safetensors", weights.load("tiny"))
    kept = Desk(tmp_path, str(tmp_path / "mine.safetensors"), SMALL)
    assert list(kept.specs) == ["mine.safetensors", "tiny", "small", "base"]
    assert kept.enhancer(kept.chosen).weights.variant == "tiny"
    with pytest.raises(InputError, match="none"):
        Desk(tmp_path, str(tmp_path / "none.safetensors"), SMALL)


# --- one at a time -------------------------------------------------------------------------------


def test_one_at_a_time_and_the_queue_says_its_length(client, desk, monkeypatch):
    going, most, lengths, lock = [], [], [], threading.Lock()

    def slow(key, name):
        with lock:
            going.append(key)
            most.append(len(going))
        time.sleep(0.05)
        with lock:
            going.remove(key)
        return b"done"

    monkeypatch.setattr(desk, "preview", slow)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(client.post, f"photos/{n}/preview") for n in range(8)]
        while not all(answer.done() for answer in answers):
            lengths.append(client.get("queue").json()["length"])
    assert [answer.result().content for answer in answers] == [b"done"] * 8
    assert max(most) == 1
    assert 2 <= max(lengths) <= 8
    assert client.get("queue").json() == {"length": 0}


def test_what_nobody_waits_for_is_not_done():
    import anyio

    done = []

    async def run():
        line = app.Line()
        gone = SimpleNamespace(is_disconnected=_always(True))
        here = SimpleNamespace(is_disconnected=_always(False))
        with pytest.raises(app.Gone):
            await line.run(gone, done.append, "gone")
        await line.run(here, done.append, "here")
        assert line.length == 0

    anyio.run(run)
    assert done == ["here"]


def _always(value):
    async def answer():
        return value

    return answer


# --- its folder ----------------------------------------------------------------------------------


def test_the_folder_is_gone_at_exit_and_those_of_the_dead_at_the_next_start(tmp_path):
    with scratch.scratch(tmp_path) as first:
        assert first.stat().st_mode & 0o077 == 0
        (first / "a.jpg").write_bytes(b"x")
        code = (
            "import os, sys; from pdn_jax.serve import scratch\n"
            "with scratch.scratch(sys.argv[1]) as folder:\n"
            "    (folder / 'b.jpg').write_bytes(b'x'); os.kill(os.getpid(), 9)"
        )
        killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
        assert killed.returncode == -signal.SIGKILL
        left = [path for path in tmp_path.iterdir() if path != first]
        assert [(path / "b.jpg").exists() for path in left] == [True]
        with scratch.scratch(tmp_path) as second:
            assert sorted(tmp_path.iterdir()) == sorted([first, second])
    assert files_in(tmp_path) == []


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="cannot keep photographs in"),
        scratch.scratch(tmp_path / "file"),
    ):
        pass


# --- the command ---------------------------------------------------------------------------------


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main(["serve", "--no-browser", "--port", port]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"pdn_jax: error: cannot listen at 127.0.0.1 port {port}: ")
    assert error.count("\n") == 1
    assert error.endswith("choose another --port\n")


def test_without_its_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "--no-browser"]) == 2
    wanted = 'pdn_jax: error: serve needs uvicorn: pip install "pdn_jax[serve]"\n'
    assert capsys.readouterr().err == wanted


@pytest.mark.parametrize(
    "options",
    [["--host", "nowhere.invalid"], ["--weights", "none"], ["--port", "x"], ["--megabytes", "0"]],
)
def test_options_that_cannot_be(options, capsys):
    try:
        code = main(["serve", "--no-browser", *options])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::1"])
def test_its_address(bound):
    try:
        listener = serve_command._bound(bound, 0)
    except InputError:
        pytest.skip(f"{bound} is no address here")
    with listener:
        address = httpx.URL(serve_command._address(listener, "abc"))
    host = {"0.0.0.0": socket.gethostname()}.get(bound, bound)
    assert (address.host, address.path) == (host.lower(), "/abc/")


@pytest.fixture
def process(tmp_path):
    """The command in a process of its own: (address, process)."""
    command = [sys.executable, "-m", "pdn_jax", "serve", "--no-browser", "--weights", "tiny"]
    place = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "XLA_FLAGS": ""}
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=place)
    address = started.stdout.readline().strip()
    yield address, started
    started.kill()
    started.wait()
    started.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_leaves_nothing(process, tmp_path, how):
    address, started = process
    with httpx.Client(base_url=address) as client:
        for _ in range(100):
            try:
                hand_in(client, png_bytes(scene()))
                break
            except httpx.ConnectError:
                time.sleep(0.1)
    folder = tmp_path / "pdn_jax" / "serve"
    assert len([*folder.rglob("*.png")]) == 1
    started.send_signal(how)
    assert started.wait(30) == 0
    assert files_in(folder) == []


def resident(pid):
    """Bytes of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_200_in_parallel_lose_none_and_take_no_more_memory(process):
    address, started = process
    data = png_bytes(scene(64, 96))

    def ask(index, client):
        kept = hand_in(client, data, f"{index}.png")
        dials = {"exposure": 1 + index / 200, "denoise": 0.5}
        answer = client.post(f"photos/{kept['id']}/result", params=dials)
        preview = client.post(f"photos/{kept['id']}/preview")
        client.delete(f"photos/{kept['id']}")
        return answer.status_code, preview.status_code, answer.content

    limits = httpx.Limits(max_connections=200)
    with httpx.Client(base_url=address, timeout=300, limits=limits) as client:
        first = [ask(index, client) for index in range(20)]
        before = resident(started.pid)
        with ThreadPoolExecutor(200) as pool:
            answers = [*pool.map(lambda index: ask(index, client), range(200))]
        after = resident(started.pid)
    assert {answer[:2] for answer in answers} == {(200, 200)}
    assert [answer[2] for answer in answers[:20]] == [answer[2] for answer in first]
    assert len({answer[2] for answer in answers}) > 20  # each got its own
    assert after < 1.1 * before, f"{before / 1e6:.0f} MB became {after / 1e6:.0f}"
