"""Programs for the sandbox with the outcomes wanted: hostile ones, which must not get through, and honest ones."""

from tests.sandbox.programs.case import read
from tests.sandbox.programs.escapes import ESCAPES
from tests.sandbox.programs.generated import BROKEN, CANONICAL, LARGE_HONEST, LARGE_LOADS

HOSTILE = [*ESCAPES, *read("loads"), *LARGE_LOADS, *read("forgeries"), *BROKEN]
HONEST = [*read("honest"), *LARGE_HONEST, *CANONICAL]
