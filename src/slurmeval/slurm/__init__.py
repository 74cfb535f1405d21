"""Slurm: calling its programs, and what is asked of it."""
