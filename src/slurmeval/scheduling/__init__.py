"""When servers and evaluations run: leases, Slurm jobs, and what keeps both going."""
