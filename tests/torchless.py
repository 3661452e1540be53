"""Preloaded before the tests' workers: leaves the libraries of training out, so that a fork takes milliseconds."""

import sys
from types import ModuleType

for name in ("evaluation", "sets", "training"):
    module = ModuleType(f"service.jobs.{name}")
    module.__getattr__ = lambda attribute: None  # type: ignore[method-assign]  a job that is never asked for here
    sys.modules[module.__name__] = module
