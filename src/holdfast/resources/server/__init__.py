"""The kind `server`: a process on this machine, treated as a machine, with a driver that needs nothing installed."""
