"""The embedded default: a tiny policy and four miniature tasks; no download, no GPU.

``code``, ``math``, ``qa`` and ``writing`` make rows in the schemas of the real training sets;
``demonstrations`` writes what the warm start imitates; ``make`` remakes the packaged policy
from nothing; ``policy`` holds it in Hugging Face format. ``docs/embedded.md`` says what it can do.
"""

from __future__ import annotations
