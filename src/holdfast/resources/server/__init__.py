"""The kind `server`: a process on this machine that is treated as a machine, with a driver that needs nothing installed."""
