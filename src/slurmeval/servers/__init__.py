"""Servers: leases on them, their submission, and the supervisor that keeps one engine answering."""
