"""Tables and figures that show what a run learned and what it forgot, on the screen and on paper.

Nothing is imported here: matplotlib is needed only when figures are drawn.
"""

from __future__ import annotations
