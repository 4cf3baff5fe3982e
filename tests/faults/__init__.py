"""Fault injection: seeded disturbances of short runs, each of which must continue to the undisturbed result."""
