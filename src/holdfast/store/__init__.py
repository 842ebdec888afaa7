"""The store: what Holdfast remembers."""
