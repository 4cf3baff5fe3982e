"""Stage B."""
