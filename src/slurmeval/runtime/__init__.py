"""Where a command runs: natively, in a locked virtual environment."""
