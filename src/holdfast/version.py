"""Which Holdfast this is. It stands apart because a worker says it, which may not see what is above it."""

__version__ = "0.1.0"
