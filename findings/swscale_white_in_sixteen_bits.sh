#!/usr/bin/env bash
# PyAV 18.1.0 (libswscale 9.5.102), CPU: frames of 8 or 10 bits that swscale converts to RGB of 16 bits
# have a white that is none, 65280 or 65283 of 65535 by the format that they come from, where a frame
# of 16 bits keeps 65535. Whoever divides by 65535 gets every film 0.4 % too dark, a whole level of
# 8 bits at white, and grey films another 0.005 % off from those in colour.
#
# Output seen: as below.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check av==18.1.0 numpy==2.4.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON' | tee seen.txt
import av
import numpy as np

WHITE = {
    "gray": (255,),
    "yuvj444p": (255, 128, 128),
    "yuv444p": (235, 128, 128),
    "yuv444p10le": (940, 512, 512),
    "gbrp": (255, 255, 255),
    "gbrp16le": (65535, 65535, 65535),
}
for name, values in WHITE.items():
    frame = av.VideoFrame(16, 16, name)
    kind = np.uint16 if "10" in name or "16" in name else np.uint8
    for plane, value in zip(frame.planes, values, strict=True):
        plane.update(np.full(plane.buffer_size // kind().itemsize, value, kind).tobytes())
    print(name, *frame.reformat(format="rgb48le").to_ndarray()[0, 0])
PYTHON
diff seen.txt - <<'EXPECTED'
gray 65280 65280 65280
yuvj444p 65280 65280 65280
yuv444p 65283 65283 65283
yuv444p10le 65283 65283 65283
gbrp 65283 65283 65283
gbrp16le 65535 65535 65535
EXPECTED
