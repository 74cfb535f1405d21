"""`python -m slurmeval`."""

from slurmeval.cli.main import main

main()
