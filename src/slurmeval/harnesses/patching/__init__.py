"""The `patching` harness: what inside a model carries an answer, by activation patching."""
