"""Inference engines: one module for each, behind one interface (`base.Engine`)."""
