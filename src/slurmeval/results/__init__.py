"""Results as Parquet: one partition per evaluation, and the tables over all of them."""

ANSWERS_VERSION = 1
"""Version of what harnesses are told. A newer one has evaluations run again."""

SCHEMA_VERSION = 2
"""Version of the tables. A newer one has partitions written anew from what the harnesses left: no evaluation
runs again, and no server starts."""
