"""Times the model beside a plain formulation of the same arithmetic."""
