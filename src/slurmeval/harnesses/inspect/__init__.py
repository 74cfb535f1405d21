"""The `inspect` harness: tasks of inspect_evals and of one's own, run by Inspect AI."""
