#!/usr/bin/env bash
# fsspec 2026.9.0 with s3fs 2026.9.0, Python 3.11, x86-64: walk(on_error="raise") raises for the folder that it
# was given, and not for any below: the recursion is called without on_error, so that it is "omit" again. A
# folder of a bucket that may not be listed is then walked as an empty one, silently. Hence the loop
# of its own in pdn_jax/archive/walk.py.
#
# Output seen:
#   root refused: PermissionError
#   folder refused: [('bucket', ['album'], ['a.png']), ('bucket/album', [], [])]
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check fsspec==2026.9.0 s3fs==2026.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON' | tee seen.txt
import s3fs

LISTED = {
    "bucket": [
        {"name": "bucket/a.png", "type": "file", "size": 1},
        {"name": "bucket/album", "type": "directory", "size": 0},
    ]
}


class Bucket(s3fs.S3FileSystem):
    """Answers as a store whose listings may be refused, without one."""

    refused = ""

    async def _ls(self, path, detail=False, **_):
        if path == self.refused:
            raise PermissionError("Access Denied")
        return LISTED.get(path, [])


store = Bucket(anon=True, skip_instance_cache=True)
for said, store.refused in (("root refused", "bucket"), ("folder refused", "bucket/album")):
    try:
        seen = [(top, list(below), list(here)) for top, below, here in store.walk("bucket", on_error="raise")]
    except PermissionError:
        seen = "PermissionError"
    print(f"{said}: {seen}")
PYTHON
diff seen.txt - <<'EXPECTED'
root refused: PermissionError
folder refused: [('bucket', ['album'], ['a.png']), ('bucket/album', [], [])]
EXPECTED
