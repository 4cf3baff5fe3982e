"""Stages, schedulers, the score matrix and forgetting, the planning of orders."""
