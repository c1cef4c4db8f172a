"""How hard Hypothesis searches: chosen with the environment variable HYPOTHESIS_PROFILE."""

import os
import sys
from pathlib import Path

from hypothesis import Phase, settings

# For `symbolic` and the references: pytest's importlib mode adds no folder by itself.
sys.path.append(str(Path(__file__).parent))

settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("nightly", max_examples=2000, deadline=None, print_blob=True)
settings.register_profile(  # for `make mutants`: whether a test fails is all that matters, not on which example
    "mutants", max_examples=25, derandomize=True, deadline=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
