"""Frames a second of a film, with and without averages over time, and what the averages are worth.

    python -m benchmarks.films
    python -m benchmarks.films --height 96 --width 128 --frames 8 --repeats 1

Speed: a made film is decoded, enhanced and encoded by `enhance_film`; times of the frames between the
first ones, in which programs are compiled, and the last. Quality: photographs that stand still,
darkened to 4 % of their light with fresh noise σs = 3e-4·n, σr = 4e-6·n in every frame; PSNR beside
the photograph and beside what the network makes of the frame without noise, and the mean change of
the mean brightness from frame to frame, relative to frames that are enhanced alone.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data
from rich.console import Console
from rich.table import Table

from benchmarks.timing import present_device
from pdn_jax import image as im
from pdn_jax.cli import Parser
from pdn_jax.enhancer import Enhancer
from pdn_jax.video import Renderer, enhance_film
from pdn_jax.video_input import pyav
from pdn_jax.ycbcr import Coding, from_rgb, to_rgb

WARM = 3
"""Frames at the beginning that are not timed."""

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
"""What scikit-image brings along."""

CODING = Coding(1, False, 10)


def photograph(name: str, height: int, width: int) -> np.ndarray:
    """One of `PHOTOGRAPHS`, cut to the shape and made smaller by whole factors, in [0, 1]."""
    picture = jnp.asarray(getattr(skimage.data, name)(), jnp.float32) / 255
    factor = max(1, min(picture.shape[0] // height, picture.shape[1] // width))
    picture = picture[: height * factor, : width * factor]
    return np.asarray(im.pool(picture[None], factor)[0] if factor > 1 else picture)


def dark(picture: np.ndarray, generator: np.random.Generator, noise: float) -> np.ndarray:
    """The photograph with 4 % of its light and noise, sRGB rounded to 8 bits, float32."""
    light = 0.04 * np.asarray(im.linearize(jnp.asarray(picture)))
    light = light + generator.normal(size=light.shape) * np.sqrt(noise * (3e-4 * light + 4e-6))
    low = np.asarray(im.render(jnp.asarray(light.clip(0, 1), jnp.float32)))
    return np.rint(low * 255) / np.float32(255)


# --- speed -----------------------------------------------------------------------------------


def make_film(path: Path, height: int, width: int, frames: int) -> None:
    """A dark photograph that moves under a steady noise, H.264, 25 frames a second."""
    av, generator = pyav(), np.random.default_rng(0)
    picture = photograph("astronaut", 512, 512)
    tiled = np.tile(picture, (height // 512 + 2, width // 512 + 2, 1))
    noisy = (dark(tiled, generator, 1.0) * 255).astype(np.uint8)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(frames):
            part = np.ascontiguousarray(noisy[index : height + index, index : width + index])
            frame = av.VideoFrame.from_ndarray(part, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def frame_rate(enhancer: Enhancer, film: Path, *, steady: bool) -> float:
    """Frames a second of `enhance_film`, its first frames and its last aside."""
    moments = []
    with tempfile.TemporaryDirectory() as folder:
        enhance_film(
            film,
            Path(folder) / "out.mp4",
            enhancer,
            steady=steady,
            progress=lambda *_: moments.append(time.perf_counter()),
        )
    timed = moments[WARM:]
    return (len(timed) - 1) / (timed[-1] - timed[0])


# --- quality ---------------------------------------------------------------------------------


def played(enhancer: Enhancer, frames: Sequence[np.ndarray], *, steady: bool) -> np.ndarray:
    """Frames [h, w, 3] through a `Renderer`, as [n, h, w, 3]."""
    renderer = Renderer(enhancer, frames[0].shape[:2], CODING, CODING, steady=steady)
    planes = (jax.device_get(from_rgb(jnp.asarray(frame), CODING)) for frame in frames)
    return np.array([to_rgb(renderer(frame, 0.04), CODING) for frame in planes])


def psnr(film: np.ndarray, reference: np.ndarray) -> float:
    """Mean over the frames."""
    errors = ((film - reference) ** 2).mean((1, 2, 3))
    return float((-10 * np.log10(errors)).mean())


def gains(
    enhancer: Enhancer, picture: np.ndarray, *, frames: int, noise: float
) -> tuple[float, float, float]:
    """dB beside the photograph, dB beside the network's result without noise, share of flicker."""
    generator = np.random.default_rng(0)
    low = [dark(picture, generator, noise) for _ in range(frames)]
    clean = played(enhancer, [dark(picture, generator, 0.0)], steady=False)
    steady, single = (played(enhancer, low, steady=steady) for steady in (True, False))
    flicker = [np.abs(np.diff(film.mean((1, 2, 3)))).mean() for film in (steady, single)]
    return (
        psnr(steady, picture[None]) - psnr(single, picture[None]),
        psnr(steady, clean) - psnr(single, clean),
        float(flicker[0] / flicker[1]),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print two tables."""
    parser = Parser(prog="python -m benchmarks.films")
    parser.add_argument("--weights", nargs="+", default=["tiny", "small"])
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--frames", type=int, default=33, help="of the film that is timed")
    parser.add_argument("--repeats", type=int, default=3, help="of which the median is shown")
    parser.add_argument("--still", type=int, default=75, help="frames of each still scene")
    parser.add_argument("--noise", nargs="+", type=float, default=[0.3, 1.0, 3.0])
    parser.add_argument("--side", type=int, default=240, help="pixels a side of those scenes")
    options = parser.parse_args(argv)

    speed = Table("weights", "frames/s", "frames/s, each alone", title=present_device())
    names = ("noise n", "dB to photograph", "dB to noise-free", "flicker, largest")
    quality = Table("weights", *names, title="averages over time, less each frame alone")
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "low.mp4"
        make_film(film, options.height, options.width, options.frames)
        for name in options.weights:
            enhancer = Enhancer(name)
            rates: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(options.repeats):
                for steady, values in rates.items():
                    values.append(frame_rate(enhancer, film, steady=steady))
            speed.add_row(name, *(f"{statistics.median(rates[s]):.2f}" for s in (True, False)))
            for noise in options.noise:
                rows = [
                    gains(
                        enhancer,
                        photograph(picture, options.side, options.side),
                        frames=options.still,
                        noise=noise,
                    )
                    for picture in PHOTOGRAPHS
                ]
                near, clean, flicker = zip(*rows, strict=True)
                means = [f"{statistics.mean(values):+.2f}" for values in (near, clean)]
                quality.add_row(name, f"{noise:g}", *means, f"{max(flicker):.3f}")
    console = Console()
    console.print(speed, f"{options.width}×{options.height}, H.264 in and out", quality)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
