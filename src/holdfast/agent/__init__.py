"""An executor without access to the database: leases steps from a service, runs them here, says how they come on."""
