"""What a run will do and take, worked out before anything starts."""
