#!/usr/bin/env bash
# jax and jaxlib 0.10.2, Python 3.11, CPU: with the default threefry keys, fold_in(key, i) is the very
# key split(key, n)[i], for every n above i. A program that splits a key for its named draws and folds
# a small number into the same key for one more draw uses one key twice, and nothing says so: here a
# coin that should be independent of a normal draw decides its sign every time.
#
# Output seen: as below.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.2
cd "$folder"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON' | tee seen.txt
import jax
import numpy as np

key = jax.random.key(0)
for count in (4, 7, 100):
    folded = jax.random.key_data(jax.random.fold_in(key, 3))
    print(count, bool((folded == jax.random.key_data(jax.random.split(key, count)[3])).all()))


def draws(key):
    gains = jax.random.normal(jax.random.split(key, 7)[3])
    coin = jax.random.uniform(jax.random.fold_in(key, 3)) < 0.5
    return gains < 0, coin


negative, coin = jax.vmap(draws)(jax.random.split(key, 4000))
print("the coin says the sign in", int(np.sum(negative == coin)), "of 4000")
PYTHON
diff seen.txt - <<'EXPECTED'
4 True
7 True
100 True
the coin says the sign in 4000 of 4000
EXPECTED
