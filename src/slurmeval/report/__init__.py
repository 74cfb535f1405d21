"""The report: one offline page with its sample pages, and the score table as CSV and LaTeX."""

from slurmeval.report.build import build

__all__ = ["build"]
