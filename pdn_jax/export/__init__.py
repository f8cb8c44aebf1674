"""A trained network as one file for other runtimes: `formats` writes and checks it."""

FORMATS = ("onnx", "stablehlo")
"""What there is: for ONNX Runtime, and for `jax.export`."""
