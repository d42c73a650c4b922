"""From the best schedules to a library: compiled, checked against the untuned one, used."""
