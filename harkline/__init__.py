"""What the API and the workers must agree on, and nothing else: no web framework, no model."""

__version__ = "0.1.0"
