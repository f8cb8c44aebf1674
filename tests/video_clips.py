"""Small films, made with PyAV for the tests of the video modules."""

from fractions import Fraction

import av
import jax.numpy as jnp
import numpy as np

from pdn_jax import image as im

SECOND = 15360
"""Ticks a second of the films' pictures."""


def scene(number, height=96, width=128):
    """A made-up photograph, well exposed: shaded rectangles that differ from scene to scene."""
    generator = np.random.default_rng(number)
    picture = np.full((height, width, 3), 0.3) + 0.2 * np.linspace(0, 1, width)[:, None]
    for _ in range(12):
        top, left = generator.integers(0, height - 8), generator.integers(0, width - 8)
        rows, columns = generator.integers(8, height // 2), generator.integers(8, width // 2)
        picture[top : top + rows, left : left + columns] = generator.uniform(0.05, 0.95, 3)
    return picture.astype(np.float32)


def dark(picture, generator, *, exposure=0.04, noise=1.0):
    """The scene as a camera sees it with too little light, with fresh noise, float32 sRGB."""
    light = exposure * np.asarray(im.linearize(jnp.asarray(picture)))
    spread = np.sqrt(noise * (3e-4 * light + 4e-6))
    light = np.clip(light + spread * generator.normal(size=light.shape), 0, 1)
    return np.asarray(im.render(jnp.asarray(light, jnp.float32)))


def write(
    path,
    frames,
    *,
    times=None,
    codec="libx264",
    pixels="yuv444p",
    options=None,
    tags=(1, 1, 1, 1),
    turned=None,
    sound=True,
    words=(),
    aspect=None,
    kind=None,
):
    """Make a film of uint8 frames [h, w, 3], in ticks of `SECOND`, 25 a second unless said.

    sound: a tone of the film's length, AAC. words: (start, text, length) in milliseconds.
    """
    times = [index * SECOND // 25 for index in range(len(frames))] if times is None else times
    with av.open(str(path), "w", format=kind) as output:
        video = output.add_stream(codec, rate=25, options=options or {"crf": "1"})
        video.height, video.width = size(frames[0])
        video.pix_fmt = pixels
        context = video.codec_context
        video.time_base = context.time_base = Fraction(1, SECOND)
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = tags
        if aspect:
            context.sample_aspect_ratio = aspect
        if turned:
            video.set_display_rotation(turned)
        tone = output.add_stream("aac", rate=44100, layout="mono") if sound else None
        text = output.add_mux_stream("subrip") if words else None
        if text:
            text.metadata["language"] = "deu"
        output.metadata["title"] = "a dark film"
        for values, time in zip(frames, times, strict=True):
            frame = values if isinstance(values, av.VideoFrame) else picture(values, pixels, tags)
            frame.pts, frame.time_base = time, Fraction(1, SECOND)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for start, line, length in words:
            packet = av.Packet(line.encode())
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = length
            output.mux(packet)
        if tone:
            for start in range(0, round(44100 * (times[-1] / SECOND + 0.04)), 1024):
                wave = np.sin(np.arange(start, start + 1024) * 0.06)[None].astype(np.float32)
                chunk = av.AudioFrame.from_ndarray(wave * 0.3, format="fltp", layout="mono")
                chunk.sample_rate, chunk.pts, chunk.time_base = 44100, start, Fraction(1, 44100)
                output.mux(tone.encode(chunk))
            output.mux(tone.encode(None))


def size(values):
    """Height and width of an array or a frame."""
    return (values.height, values.width) if hasattr(values, "planes") else values.shape[:2]


def picture(values, pixels, tags=(1, 1, 1, 1)):
    """uint8 [h, w, 3] -> a frame of these pixels, coded as the tags say."""
    flags = av.video.reformatter.Interpolation
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format="rgb24")
    matrix = {2: 5, 6: 5}.get(tags[0], tags[0])
    return frame.reformat(
        format=pixels,
        dst_colorspace=matrix,
        src_color_range=2,
        dst_color_range=tags[3] or 1,
        interpolation=flags.BILINEAR | flags.FULL_CHR_H_INT | flags.ACCURATE_RND,
    )


def bytes_of(picture):
    """Float [0, 1] -> uint8."""
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def packets(path, kind):
    """(pts in seconds, bytes) of all packets of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.size]


def frames(path):
    """All frames of a film, as PyAV has them."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def light(frame):
    """Mean luma of a frame, limited range 8 or 10 bit, in [0, 1]."""
    bits = frame.format.components[0].bits
    plane = frame.planes[0]
    values = np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16)
    values = values.reshape(plane.height, -1)[:, : plane.width] / 2 ** (bits - 8)
    return (values.mean() - 16) / 219
