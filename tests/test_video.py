"""Films as files: times, sound, words, colours, what is refused, and what a kill leaves."""

import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import video_clips as clips

from pdn_jax import temporal, video_input, video_output, weights, ycbcr
from pdn_jax.cli import main
from pdn_jax.enhancer import Enhancer
from pdn_jax.errors import InputError
from pdn_jax.video import enhance_film
from train import head

TAGS_OF = ("colorspace", "color_primaries", "color_trc", "color_range")


@pytest.fixture(scope="module")
def enhancer():
    return Enhancer("tiny")


@pytest.fixture(scope="module")
def pictures():
    generator = np.random.default_rng(0)
    return [clips.bytes_of(clips.dark(clips.scene(1), generator)) for _ in range(6)]


def tags(frame):
    return tuple(int(getattr(frame, name)) for name in TAGS_OF)


def times(path):
    return [float(frame.pts * frame.time_base) for frame in clips.frames(path)]


# --- what is kept ----------------------------------------------------------------------------


def test_every_frame_is_brightened_and_keeps_its_time(tmp_path, enhancer, pictures):
    ticks = [0, 614, 1228, 9000, 9614, 15000]
    clips.write(tmp_path / "low.mp4", pictures, times=ticks)
    calls = []
    summary = enhance_film(
        tmp_path / "low.mp4", tmp_path / "out.mp4", enhancer, progress=lambda *a: calls.append(a)
    )
    assert times(tmp_path / "out.mp4") == [tick / clips.SECOND for tick in ticks]
    assert (summary.frames, summary.cuts, summary.notes) == (6, 0, ())
    assert summary.seconds == pytest.approx(15000 / clips.SECOND)
    assert [done for done, _ in calls] == [tick / clips.SECOND for tick in ticks]
    made = [clips.light(frame) for frame in clips.frames(tmp_path / "out.mp4")]
    assert min(made) > 2 * clips.light(clips.frames(tmp_path / "low.mp4")[0])
    assert summary.exposure > 1


@pytest.mark.parametrize("extension", video_output.FORMATS)
def test_all_containers_are_written(tmp_path, enhancer, pictures, extension):
    clips.write(tmp_path / "low.mp4", pictures[:3], sound=False, turned=90)
    enhance_film(tmp_path / "low.mp4", tmp_path / f"out{extension}", enhancer)
    assert times(tmp_path / f"out{extension}") == pytest.approx([0.0, 0.04, 0.08], abs=1e-3)
    assert clips.frames(tmp_path / f"out{extension}")[0].rotation == 90


def test_sound_is_copied_with_its_timing(tmp_path, enhancer, pictures):
    ticks = [3000 + index * 614 for index in range(6)]  # the picture begins after the sound
    clips.write(tmp_path / "low.mp4", pictures, times=ticks)
    enhance_film(tmp_path / "low.mp4", tmp_path / "out.mp4", enhancer)
    sound = clips.packets(tmp_path / "low.mp4", "audio")
    assert len(sound) > 10
    assert clips.packets(tmp_path / "out.mp4", "audio") == sound
    assert times(tmp_path / "out.mp4") == times(tmp_path / "low.mp4")


def test_subtitles_are_copied_with_their_timing(tmp_path, enhancer, pictures):
    clips.write(tmp_path / "low.mkv", pictures, words=[(0, "It was", 80), (120, "dark.", 60)])
    enhance_film(tmp_path / "low.mkv", tmp_path / "out.mkv", enhancer)
    words = clips.packets(tmp_path / "low.mkv", "subtitles")
    assert [(time, text) for time, text in words] == [(0.0, b"It was"), (0.12, b"dark.")]
    assert clips.packets(tmp_path / "out.mkv", "subtitles") == words
    with av.open(str(tmp_path / "out.mkv")) as made:
        assert made.streams.subtitles[0].metadata["language"] == "deu"


def test_title_shape_and_rotation_are_kept(tmp_path, enhancer, pictures):
    clips.write(tmp_path / "low.mp4", pictures[:2], turned=-90, aspect=Fraction(4, 3))
    enhance_film(tmp_path / "low.mp4", tmp_path / "out.mp4", enhancer)
    with av.open(str(tmp_path / "out.mp4")) as made:
        frame = next(made.decode(video=0))
        assert made.metadata["title"] == "a dark film"
        assert made.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        assert (frame.width, frame.height, frame.rotation) == (128, 96, -90)


# --- colours ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "given", "wanted"),
    [
        ((96, 128), (2, 2, 2, 0), (6, 6, 6, 1)),
        ((576, 64), (2, 2, 2, 0), (5, 5, 6, 1)),
        ((720, 64), (2, 2, 2, 0), (1, 1, 1, 1)),
        ((96, 128), (1, 1, 1, 1), (1, 1, 1, 1)),
        ((96, 128), (9, 9, 14, 2), (9, 9, 14, 2)),
    ],
)
def test_what_is_not_said_of_colours_is_filled_in(tmp_path, size, given, wanted):
    blank = np.zeros((*size, 3), np.uint8)
    clips.write(tmp_path / "low.mp4", [blank], tags=given, pixels="yuv420p", sound=False)
    film = video_input.examine(tmp_path / "low.mp4")
    assert film.tags == wanted
    assert (film.coding.matrix, film.coding.full) == (wanted[0], wanted[3] == 2)


def test_tags_are_written(tmp_path, enhancer, pictures):
    clips.write(tmp_path / "low.mp4", pictures[:2], tags=(2, 2, 2, 0))
    enhance_film(tmp_path / "low.mp4", tmp_path / "out.mp4", enhancer)
    assert tags(clips.frames(tmp_path / "out.mp4")[0]) == (6, 6, 6, 1)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p10le", "nv12", "bgr0", "gray", "yuvj420p"])
def test_colours_are_read_rightly(tmp_path, pixels):
    """From a lossless film; PyAV's own conversion of greys would be off by half a level."""
    ramp = np.repeat(np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], 32, 0), 3, 2)
    kind = {"nv12": "rawvideo", "yuvj420p": "mjpeg"}.get(pixels, "ffv1")
    full = 2 if pixels in ("bgr0", "gray", "yuvj420p") else 1
    options = {"qscale": "1", "flags": "qscale", "global_quality": "118"}
    clips.write(
        tmp_path / "low.mkv",
        [clips.picture(ramp, pixels, (1, 1, 1, full))],
        codec=kind,
        pixels=pixels,
        tags=(1, 1, 1, full),
        sound=False,
        options=options if kind == "mjpeg" else {"level": "3"} if kind == "ffv1" else {},
    )
    film = video_input.examine(tmp_path / "low.mkv")
    planes = video_input.planes_of(clips.frames(tmp_path / "low.mkv")[0], film)
    rgb = np.asarray(ycbcr.to_rgb(planes, film.coding)) * 255
    # Limited range has 219 steps, JPEG rounds more.
    assert np.abs(rgb - ramp).max() < (2.5 if kind == "mjpeg" else 0.6)
    assert abs((rgb - ramp).mean()) < 0.05


def test_ten_bits_stay_ten(tmp_path, enhancer, pictures):
    clips.write(tmp_path / "low.mp4", pictures[:3], pixels="yuv420p10le")
    enhance_film(tmp_path / "low.mp4", tmp_path / "out.mp4", enhancer)
    frame = clips.frames(tmp_path / "out.mp4")[0]
    assert frame.format.name == "yuv420p10le"
    values = np.frombuffer(frame.planes[0], np.uint16).reshape(96, -1)[:, :128]
    assert (values % 4 > 0).mean() > 0.5
    low = clips.frames(tmp_path / "low.mp4")[0]
    assert clips.light(frame) > 2 * clips.light(low)


def test_eight_and_ten_bits_agree(tmp_path, enhancer, pictures):
    lights = []
    for pixels in ("yuv444p", "yuv444p10le"):
        clips.write(tmp_path / f"{pixels}.mp4", pictures[:3], pixels=pixels, sound=False)
        enhance_film(tmp_path / f"{pixels}.mp4", tmp_path / f"{pixels}-out.mp4", enhancer)
        lights.append(clips.light(clips.frames(tmp_path / f"{pixels}-out.mp4")[0]))
    assert lights[0] == pytest.approx(lights[1], abs=1 / 255)


def test_grey_films_stay_grey(tmp_path, enhancer, pictures):
    options = {"level": "3"}
    given = {"codec": "ffv1", "pixels": "gray", "sound": False, "options": options}
    clips.write(tmp_path / "low.mkv", pictures[:1], **given)
    enhance_film(tmp_path / "low.mkv", tmp_path / "out.mkv", enhancer)
    frame = clips.frames(tmp_path / "out.mkv")[0]
    for plane in frame.planes[1:]:
        values = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width]
        assert (values == 128).all()


def test_odd_sides(tmp_path, enhancer, pictures):
    odd = [picture[:95, :127] for picture in pictures[:2]]
    clips.write(tmp_path / "low.mp4", odd, pixels="yuv444p", sound=False)
    enhance_film(tmp_path / "low.mp4", tmp_path / "out.mp4", enhancer)
    frame = clips.frames(tmp_path / "out.mp4")[0]
    assert (frame.width, frame.height) == (127, 95)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tags": (9, 9, 18, 1)}, r"HDR \(HLG\)"),
        ({"tags": (9, 9, 16, 1)}, r"HDR \(PQ\)"),
        ({"tags": (1, 1, 8, 1)}, "tone curve 8"),
        ({"tags": (8, 1, 1, 1)}, "colour matrix 8"),
        ({"codec": "ffv1", "pixels": "yuva420p", "options": {"level": "3"}}, "transparency"),
        ({"options": {"x264-params": "interlaced=1"}, "pixels": "yuv420p"}, "interlaced"),
        ({"codec": "ffv1", "pixels": "yuv411p", "options": {"level": "3"}}, "format yuv411p"),
    ],
)
def test_what_would_come_out_wrong_is_refused_by_name(tmp_path, given, said):
    pixels = given.get("pixels", "yuv444p")
    frame = av.VideoFrame(128, 96, pixels)
    clips.write(tmp_path / "low.mkv", [frame] * 3, times=[0, 600, 1200], sound=False, **given)
    with pytest.raises(InputError, match=said) as refusal:
        enhance_film(tmp_path / "low.mkv", tmp_path / "out.mkv", "tiny")
    assert "low.mkv" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert os.listdir(tmp_path) == ["low.mkv"]


def test_files_that_cannot_be_used_are_named(tmp_path, pictures):
    source, out = tmp_path / "low.mp4", tmp_path / "out.mp4"
    clips.write(source, pictures[:2])
    whole = source.read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.mp4").write_text("no film")
    with av.open(str(tmp_path / "sound.mp4"), "w") as sound:
        sound.add_stream("aac", rate=44100, layout="mono")
        sound.start_encoding()
    cases = {
        (tmp_path / "none.mp4", out): "does not exist",
        (tmp_path, out): "is a folder",
        (tmp_path / "half.mp4", out): "is it a whole film",
        (tmp_path / "text.mp4", out): "is it a whole film",
        (tmp_path / "sound.mp4", out): "no film that can be decoded|is it a whole film",
        (source, tmp_path / "out.avi"): "must be one of .mp4",
        (source, tmp_path / "none" / "out.mp4"): "there is no folder",
        (source, source): "--overwrite",
        (source, tmp_path / "out.webm"): r"audio \(aac\)",
    }
    before = sorted(os.listdir(tmp_path))
    for (low, target), said in cases.items():
        with pytest.raises(InputError, match=said):
            enhance_film(low, target, "tiny")
    assert sorted(os.listdir(tmp_path)) == before
    assert source.read_bytes() == whole


def test_a_change_of_size_is_refused(tmp_path):
    film = video_input.Film(
        *(96, 128, "yuv420p", "yuv420p"),
        ycbcr.Coding(1, False, 8, 2, 2),
        (1, 1, 1, 1),
        Fraction(25),
        *(None, None, None),
    )
    from pdn_jax.video import _check_like

    frame = av.VideoFrame(64, 48, "yuv420p")
    frame.pts, frame.time_base = 50, Fraction(1, 25)
    with pytest.raises(InputError, match=r"128×96 yuv420p to 64×48 yuv420p at 2.00 s"):
        _check_like(frame, film, Path("low.ts"))


def test_a_missing_pyav_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r'pip install "pdn_jax\[video\]"'):
        enhance_film("low.mp4", tmp_path / "out.mp4", "tiny")


def test_films_are_known_by_their_names():
    assert video_input.is_film("a/b.MP4")
    assert not video_input.is_film("a/b.jpg")
    assert set(video_output.FORMATS) <= set(video_input.EXTENSIONS)


# --- faults on the way -----------------------------------------------------------------------


def test_packets_that_cannot_be_decoded_are_counted(tmp_path, enhancer, pictures):
    source = tmp_path / "low.avi"
    clips.write(source, pictures, codec="mjpeg", pixels="yuvj420p", sound=False, options={})
    data = source.read_bytes()
    starts = [at for at in range(len(data)) if data.startswith(b"\xff\xd8\xff", at)]
    assert len(starts) == 6
    source.write_bytes(data[: starts[3]] + bytes(starts[4] - 8 - starts[3]) + data[starts[4] - 8 :])
    summary = enhance_film(source, tmp_path / "out.mp4", enhancer)
    assert summary.frames == 5
    assert [note for note in summary.notes if note.startswith("1 packets could not be decoded")]


@pytest.mark.parametrize("sound", [False, True])
def test_a_film_that_was_cut_short_is_done_as_far_as_it_goes_and_said(
    tmp_path, enhancer, pictures, sound
):
    source, times = tmp_path / "low.mkv", [k * clips.SECOND for k in range(len(pictures))]
    options = {"crf": "1", "bf": "0"}  # in the order in which they are shown
    clips.write(source, pictures, times=times, sound=sound, options=options)
    whole = enhance_film(source, tmp_path / "whole.mkv", enhancer)
    assert not [note for note in whole.notes if "cut short" in note]
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 2 // 5])
    summary = enhance_film(source, tmp_path / "out.mkv", enhancer)
    assert 0 < summary.frames < whole.frames
    assert [note for note in summary.notes if "cut short" in note]


def test_nothing_is_left_where_writing_fails(tmp_path, enhancer, pictures, monkeypatch):
    clips.write(tmp_path / "low.mp4", pictures, sound=False)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video_output.Writer, "frame", fail)
    with pytest.raises(InputError, match=r"cannot write .*out.mp4: No space left on device"):
        enhance_film(tmp_path / "low.mp4", tmp_path / "out.mp4", enhancer)
    assert os.listdir(tmp_path) == ["low.mp4"]


@pytest.mark.slow
def test_a_kill_leaves_the_old_film(tmp_path, pictures):
    clips.write(tmp_path / "low.mp4", pictures)
    (tmp_path / "out.mp4").write_bytes(b"the old one")
    code = (
        "import os, signal, sys; from pdn_jax.video import enhance_film\n"
        "stop = lambda done, _: done > 0.1 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "enhance_film(*sys.argv[1:], 'tiny', overwrite=True, progress=stop)"
    )
    command = [sys.executable, "-c", code, tmp_path / "low.mp4", tmp_path / "out.mp4"]
    killed = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "out.mp4").read_bytes() == b"the old one"
    assert [n for n in os.listdir(tmp_path) if not n.startswith(".pdn-")] == ["low.mp4", "out.mp4"]


# --- over time -------------------------------------------------------------------------------


def test_a_film_is_steadied_unless_it_is_not_to_be(tmp_path, enhancer, pictures):
    """A network without a head that looks along rows alone flickers; steadied neither does."""
    loaded = head.fitted_to(weights.load("tiny"), evidence=False)
    flickering = Enhancer(loaded._replace(model=loaded.model | {"texture": "rows"}))
    clips.write(tmp_path / "low.mp4", pictures, sound=False)

    def flicker(enhancer, steady):
        out = tmp_path / "out.mp4"
        enhance_film(tmp_path / "low.mp4", out, enhancer, steady=steady, overwrite=True)
        lights = [clips.light(frame) for frame in clips.frames(out)]
        return np.abs(np.diff(lights[1:])).mean()

    before = flicker(flickering, False)
    assert flicker(flickering, True) < 0.5 * before
    steadied = flicker(enhancer, True)
    assert steadied < 0.5 * before
    assert steadied < 0.8 * flicker(enhancer, False)


def test_cuts_are_counted(tmp_path, enhancer):
    generator = np.random.default_rng(0)
    scenes = [clips.scene(number) for number in (1, 1, 2, 2, 2, 3)]
    low = [clips.bytes_of(clips.dark(scene, generator)) for scene in scenes]
    clips.write(tmp_path / "low.mp4", low, sound=False)
    assert enhance_film(tmp_path / "low.mp4", tmp_path / "out.mp4", enhancer).cuts == 2
    assert temporal.FRAMES > 1


# --- the command ---------------------------------------------------------------------------------


def test_the_command_enhances_a_film(tmp_path, pictures):
    source, target = tmp_path / "dark.mp4", tmp_path / "bright.mp4"
    clips.write(source, pictures)
    command = ["enhance", str(source), "-o", str(target), "--weights", "tiny"]
    assert main(command) == 0
    assert len(times(target)) == len(times(source))
    assert main(command) == 2  # it is there


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["other.mp4"], "-o names a folder"),
        (["--auto"], "--auto is for photographs"),
    ],
)
def test_what_films_do_not_have_is_refused(tmp_path, capsys, more, says):
    assert main(["enhance", "a.mp4", *more, "-o", str(tmp_path / "b.mp4")]) == 2
    assert says in capsys.readouterr().err
