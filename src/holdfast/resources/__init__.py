"""Resources: kinds of things that tasks act on, what is desired of each, and what is true of it."""
