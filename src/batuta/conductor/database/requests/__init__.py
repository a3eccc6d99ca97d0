"""Which processings are requested or polled now, and at which instance."""
