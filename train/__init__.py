"""The training program: configs turned into calls of `pdn_jax`."""
