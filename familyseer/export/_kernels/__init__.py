"""Making kernel libraries: schedules chosen, lowered, compiled, and their C."""
