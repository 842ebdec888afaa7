"""The tests mirror src/holdfast/; beside that: shape (the code's own form), simulate, replay and crash.

No mocks, no sleeps: a clock that jumps, signals to wait on, real files and real processes.
"""
