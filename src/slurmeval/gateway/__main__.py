"""`python -m slurmeval.gateway <config.json>`."""

import sys

from slurmeval.gateway.run import main

sys.exit(main(sys.argv[1:]))
