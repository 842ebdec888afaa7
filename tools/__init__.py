"""What `make` runs beside the tests: generated pages, set-up. Nothing of it is installed."""
