"""The contents of every file that processes exchange. `paths` and `servers.folder` have the names."""
