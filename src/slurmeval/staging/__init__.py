"""Weights and data, brought into HF_HOME before anything runs, pinned and with a manifest."""
