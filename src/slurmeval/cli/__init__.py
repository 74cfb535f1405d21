"""The commands of `slurmeval`."""
