"""Results as Parquet: one partition per evaluation, and the tables over all of them."""

SCHEMA_VERSION = 1
"""Version of the tables. A newer one has evaluations run again, from their stored answers."""
