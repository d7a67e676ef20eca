"""``python -m headrace.sim``: see :mod:`headrace.sim.run`."""

import sys

from headrace.sim.run import main

if __name__ == "__main__":
    sys.exit(main())
