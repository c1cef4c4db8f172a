"""How hard Hypothesis searches: chosen with the environment variable HYPOTHESIS_PROFILE."""

import os
import sys
from pathlib import Path

from hypothesis import settings

sys.path.append(str(Path(__file__).parent))  # for `generators`: pytest's importlib mode adds no folder by itself

settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("nightly", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
