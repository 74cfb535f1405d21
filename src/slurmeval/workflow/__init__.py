"""What the Snakefile calls: start, progress and end of a run."""
