"""Holdfast broken on purpose: a cluster of real processes, faults from a printed seed, a witness of its own, and a
checker that reads what the witness heard (`make chaos`)."""
