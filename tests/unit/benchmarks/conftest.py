"""Lets tests import the benchmarks. Last on the path: the folder beside them holds names that are others' too."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[3])
if ROOT not in sys.path:
    sys.path.append(ROOT)
