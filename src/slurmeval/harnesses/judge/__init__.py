"""Judges: a model grades or compares stored answers, or a jury puts several judges' verdicts together."""
