"""What runs inside a box. Only the standard library, and no module of ours from outside this package."""

from __future__ import annotations
