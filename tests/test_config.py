"""Options of two trainings: which differ, and which may."""

import json

from configs import debug
from train.config import differences, flattened
from train.distributed import OWN
from train.run_dir import FREE


def test_options_by_their_dotted_names():
    assert flattened({"a": 1, "b": {"c": (), "d": {"e": 2}}}) == {"a": 1, "b.c": (), "b.d.e": 2}


def test_what_differs_is_named_and_what_may_is_not():
    there = {"seed": 0, "log": {"every": 1}, "data": {"mixture": [["a", 1]], "cache": 2.0}}
    here = {"seed": 1, "log": {"every": 2}, "data": {"mixture": (("a", 1),), "cache": 1.0}}
    assert differences(there, here, ()) == [
        "data.cache: 2.0 there, 1.0 here",
        "log.every: 1 there, 2 here",
        "seed: 0 there, 1 here",
    ]
    assert differences(there, here, ("log", "data.cache")) == ["seed: 0 there, 1 here"]
    assert differences(here, here | {"more": 3}, ()) == ["more: None there, 3 here"]


def test_a_config_is_what_its_file_says():
    options = debug.get_config().to_dict()
    assert differences(json.loads(json.dumps(options)), options, ()) == []


def test_what_may_differ_is_an_option_or_a_section():
    options = debug.get_config().to_dict()
    assert set(FREE + OWN) <= options.keys() | flattened(options).keys()
