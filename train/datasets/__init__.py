"""Data sets: found and surveyed (`listing`, `survey`), built with TFDS (`builders`), read (`store`)."""

from train.datasets.store import Item as Item
from train.datasets.store import Split as Split
from train.datasets.store import data_dir as data_dir
from train.datasets.store import names as names
from train.datasets.store import open_split as open_split
from train.datasets.store import plan as plan
