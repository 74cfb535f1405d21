"""Commands that see only what they are shown: Linux namespaces without root."""
