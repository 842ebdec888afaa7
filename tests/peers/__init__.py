"""BMCs and machines that tests talk to: real ones, as processes of their own, and one that lies."""
