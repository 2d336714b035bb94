"""Starts workers, or finds them: on this machine, on its GPUs, behind a running scheduler."""
