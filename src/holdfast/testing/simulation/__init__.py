"""What the seeded simulator is made of: a world of several processes on one clock and one disk, and those who watch it.

Run it: testing/simulate.py.
"""
