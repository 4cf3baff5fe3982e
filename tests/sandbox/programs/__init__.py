"""Programs for the sandbox with the outcomes wanted: hostile ones, which must not get through, and honest ones."""

from tests.sandbox.programs.case import Case, read
from tests.sandbox.programs.escapes import ESCAPES
from tests.sandbox.programs.humaneval import BROKEN, CANONICAL
from tests.sandbox.programs.large import LARGE_HONEST, LARGE_LOADS

HOSTILE = [*ESCAPES, *read("loads"), *LARGE_LOADS, *read("forgeries"), *BROKEN]
HONEST = [*read("honest"), *LARGE_HONEST, *CANONICAL]

__all__ = ["HONEST", "HOSTILE", "Case"]
