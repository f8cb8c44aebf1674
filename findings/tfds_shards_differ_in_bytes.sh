#!/usr/bin/env bash
# tensorflow-datasets 4.9.10 with protobuf 6.33.6 and array_record 0.8.6, Python 3.11, no TensorFlow: the
# same examples, built by the same code in the same order, give a shard of other bytes in another
# process, since the features of an example are a protobuf map, written in an order that each process
# draws. What is read back is the same. So a hash of a shard says nothing about whether two machines
# prepared the same data; one of what is decoded does.
#
# Output seen: as below.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check tensorflow-datasets==4.9.10 \
  protobuf==6.33.6 array_record==0.8.6 importlib-resources numpy
cd "$folder"
cat > build.py <<'PYTHON'
import hashlib
import sys
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds


class Numbers(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        scalar = tfds.features.Scalar(np.int64)
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({name: scalar for name in "abcdefgh"}),
            disable_shuffling=True,
        )

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(100):
            yield number, {name: number for name in "abcdefgh"}


tfds.disable_progress_bar()
builder = Numbers(data_dir=sys.argv[1])
builder.download_and_prepare(file_format="array_record")
(shard,) = Path(sys.argv[1]).rglob("*.array_record*")
decoded = [sorted((k, int(v)) for k, v in row.items()) for row in builder.as_data_source("train")]
for text in (shard.read_bytes(), repr(decoded).encode()):
    print(hashlib.sha256(text).hexdigest())
PYTHON
for turn in 1 2 3 4 5 6; do
  "$folder/venv/bin/python" build.py "$folder/$turn" 2>/dev/null | tail -2 > "$turn.txt"
done
shards="$(head -qn1 ?.txt | sort -u | wc -l)"
contents="$(tail -qn1 ?.txt | sort -u | wc -l)"
echo "six builds: shards of one content: $([ "$contents" = 1 ] && echo yes)"
echo "six builds: shards of the same bytes: $([ "$shards" = 1 ] && echo yes || echo no)"
[ "$contents" = 1 ] && [ "$shards" -gt 1 ]
