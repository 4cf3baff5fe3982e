"""Evaluation of a policy: on held-out prompts between stages, and on benchmark suites by ``validate``."""
