"""Code that runs inside a box. It imports the standard library and this package only."""

from __future__ import annotations
