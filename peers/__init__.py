"""Real counterparts for tests, the demo and the benchmarks: BMCs that speak their protocols on loopback, and machines
behind them. Holdfast knows nothing of them."""
