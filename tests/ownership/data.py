"""Where the published fixtures are: `HEADRACE_DATA`, or beside the repository."""

import os
from pathlib import Path

OWNERSHIP = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[3] / "shared/data")) / "ownership"
EXAMPLES = Path(__file__).parents[2] / "examples/sovereignty"
