"""Tables and figures of runs and studies, for the console, MLflow and the report's page.

Nothing is imported here: matplotlib is needed only when figures are drawn.
"""

from __future__ import annotations
