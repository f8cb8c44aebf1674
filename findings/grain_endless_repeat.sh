#!/usr/bin/env bash
# grain 0.2.18, Python 3.11, x86-64: the length of an endless `MapDataset.repeat()` is more than len()
# may return, so that taking it in batches of one, or slicing it, raises OverflowError, while batches
# of two work. A finite `repeat(2**31)` works for both.
#
# Output seen:
#   batch(2): [[0, 1], [2, 0]]
#   batch(1): OverflowError: cannot fit 'int' into an index-sized integer
#   repeat(2**31), batch(1): [[0], [1]]
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check grain==0.2.18 numpy==2.4.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON' | tee seen.txt
import grain


def first_two(dataset, size):
    try:
        batches = dataset.batch(size)[0:]
        return [batches[place].tolist() for place in (0, 1)]
    except OverflowError as error:
        return f"OverflowError: {error}"


endless = grain.MapDataset.range(3).repeat()
print("batch(2):", first_two(endless, 2))
print("batch(1):", first_two(endless, 1))
print("repeat(2**31), batch(1):", first_two(grain.MapDataset.range(3).repeat(2**31), 1))
PYTHON
diff seen.txt - <<'EXPECTED'
batch(2): [[0, 1], [2, 0]]
batch(1): OverflowError: cannot fit 'int' into an index-sized integer
repeat(2**31), batch(1): [[0], [1]]
EXPECTED
