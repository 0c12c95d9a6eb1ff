"""Times the steps of pretraining beside a plain formulation of the same arithmetic."""
