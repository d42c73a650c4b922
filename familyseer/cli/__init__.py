"""The command line: one file a command, each importing what it needs only when it runs."""

# a tuning run's time counts from the first import of this package
from familyseer.cli._clock import STARTED_AT

__all__ = ["STARTED_AT"]
