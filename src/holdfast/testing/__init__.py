"""For tests of flows, stores and runtimes, yours and ours. Nothing else in Holdfast imports it."""
