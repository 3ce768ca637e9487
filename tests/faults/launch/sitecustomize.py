"""Python runs this at its start where PYTHONPATH names this folder: how the processes of a fault test get their faults."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
from faults import points

points.install()
