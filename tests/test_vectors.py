"""The width of vectors that training asks XLA for: once, and never against a person's own choice."""

import os

import pytest

from train import vectors


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, vectors.WIDE),
        ("--xla_force_host_platform_device_count=2", None),
        ("--xla_cpu_prefer_vector_width=128", "--xla_cpu_prefer_vector_width=128"),
    ],
)
def test_wide_adds_to_the_flags_what_they_do_not_say(monkeypatch, given, wanted):
    if given is None:
        monkeypatch.delenv("XLA_FLAGS", raising=False)
    else:
        monkeypatch.setenv("XLA_FLAGS", given)
    for _ in range(2):
        vectors.wide()
        assert os.environ["XLA_FLAGS"] == (wanted or f"{given} {vectors.WIDE}")
