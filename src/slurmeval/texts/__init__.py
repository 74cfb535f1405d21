"""Metrics that compare answers with reference texts: sacrebleu's, and ROUGE for every script."""
