"""Flows and what the compiler makes of them: written by users, read by the core. No clock, no I/O but imports."""
