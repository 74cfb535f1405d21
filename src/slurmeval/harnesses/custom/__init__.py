"""Benchmarks of one's own: questions from a file, a template, and scorers, without code."""
