"""The page with this machine behind it: photographs go to one local process, and nowhere else."""
