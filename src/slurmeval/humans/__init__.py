"""Studies in which people rate stored answers: drawn, sent to raters, read back."""
