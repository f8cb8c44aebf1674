"""How large and how fast it is: `python -m benchmarks.count`, `.forward` and `.train`."""
