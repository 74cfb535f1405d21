"""Perplexity of texts of one's own: log-probabilities of prompts, asked of the model's server."""
