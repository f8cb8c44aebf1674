"""What the `info` command says of a photograph."""

from collections.abc import Iterator

from pdn_jax import photo
from pdn_jax.photos import exposure, presence, raw, reader
from pdn_jax.places import Location


def lines(path: str | Location) -> Iterator[str]:
    """A photograph in words.

    Args:
        path: of the file, or of an object in a store.

    Yields:
        "name: value", one after the other.

    Raises:
        InputError: for a file that is no photograph that can be read.
    """
    data = reader.file_bytes(path)
    loaded = reader.from_bytes(data, str(path))
    height, width = loaded.size
    few, there, middle = presence.glimpse(loaded)
    yield f"format: {loaded.kind}"
    yield f"size: {width}×{height} pixels, {loaded.pixels.shape[-1]} of colour, {loaded.bits} bits each"
    yield f"colours: {loaded.colour.name}"
    if loaded.alpha is not None:
        yield "transparency: yes"
    dark = "dark" if photo.is_dark(few, there) else "not dark: --auto leaves it alone"
    yield f"exposure: {exposure.stops(few, there):+.1f} stops from usual ({dark})"
    yield f"noise: {exposure.noise(middle):.1f} of 255, estimated"
    profile = raw.noise_profile(data)
    if profile is not None:
        yield f"noise profile: σs {profile.shot:.2e}, σr {profile.read:.2e} (linear light, white 1)"
    metadata = loaded.metadata
    for name in ("exif", "xmp", "photoshop"):
        if content := getattr(metadata, name):
            yield f"{name}: {len(content):,} bytes"
    for name in ("comments", "chunks"):
        if parts := getattr(metadata, name):
            yield f"{name}: {len(parts)}"
    for note in loaded.notes:
        yield f"note: {note}"
    for name in loaded.lost:
        yield f"not kept in a result: {name}"
