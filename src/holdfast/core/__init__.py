"""The engine's decisions: standard library only, no clock, no chance, no I/O."""
