"""The options of two trainings, compared; as `config.to_dict()` or the json of it gives them."""

import json
from collections.abc import Collection
from typing import Any


def flattened(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'train': {'steps': 7}} -> {'train.steps': 7}."""
    found = {}
    for name, value in options.items():
        inside = isinstance(value, dict)
        found |= flattened(value, f"{prefix}{name}.") if inside else {prefix + name: value}
    return found


def differences(there: dict[str, Any], here: dict[str, Any], free: Collection[str]) -> list[str]:
    """'train.steps: 7 there, 8 here' for each that differs; free: options and sections that may."""
    # as json says them, which knows no tuples
    there, here = (flattened(json.loads(json.dumps(options))) for options in (there, here))

    def may_differ(key: str) -> bool:
        return key in free or key.split(".")[0] in free

    return [
        f"{key}: {there.get(key)} there, {here.get(key)} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key) and not may_differ(key)
    ]
