"""Measuring a policy on held-out prompts."""

from __future__ import annotations
