"""Results as Parquet: one partition per evaluation, and the tables over all of them."""

SCHEMA_VERSION = 1
"""Version of the partitions. A newer one has evaluations run again, from their stored answers."""

TABLES_VERSION = 2
"""Version of what is only in the tables over all evaluations. A newer one has them gathered again."""
