"""slurmeval: evaluate large language models on academic Slurm clusters."""

__version__ = "0.1.0"
