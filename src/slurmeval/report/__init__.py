"""The report: an offline page, one for samples, and the score table as CSV and LaTeX."""

from slurmeval.report.build import build

__all__ = ["build"]
