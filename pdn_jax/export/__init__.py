"""A trained network as one file for other runtimes: `formats` writes and checks it."""
