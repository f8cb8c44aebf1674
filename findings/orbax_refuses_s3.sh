#!/usr/bin/env bash
# orbax-checkpoint 0.12.8, Python 3.11, x86-64: arrays are written to gs:// through tensorstore, while
# s3:// is taken for a relative path and refused; and where gs:// has a commit marker, s3:// would get a
# rename, which a store does as copies. Hence train/mirror.py.
#
# Output seen:
#   gs://bucket/run: gcs; CommitFileTemporaryPath
#   s3://bucket/run: ValueError: Checkpoint path should be absolute. Got s3:/bucket/run; AtomicRenameTemporaryPath
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check orbax-checkpoint==0.12.8
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON' | tee seen.txt
import logging

from etils import epath
from orbax.checkpoint._src.path import atomicity_defaults
from orbax.checkpoint._src.serialization import tensorstore_utils

logging.disable()
for url in ("gs://bucket/run", "s3://bucket/run"):
    try:
        said = tensorstore_utils.build_kvstore_tspec(url)["base"]["driver"]
    except ValueError as error:
        said = f"ValueError: {error}"
    commit = atomicity_defaults.get_default_temporary_path_class(epath.Path(url)).__name__
    print(f"{url}: {said}; {commit}")
PYTHON
diff seen.txt - <<'EXPECTED'
gs://bucket/run: gcs; CommitFileTemporaryPath
s3://bucket/run: ValueError: Checkpoint path should be absolute. Got s3:/bucket/run; AtomicRenameTemporaryPath
EXPECTED
