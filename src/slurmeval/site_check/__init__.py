"""What a cluster's nodes offer, asked by one small job on each kind of them (`slurmeval doctor --site`)."""
