"""Apptainer images: locks, pulls, checks and commands in them."""
