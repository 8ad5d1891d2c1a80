"""Docker for tests: an engine that is found or started, and stand-ins for base images where no registry can be reached."""
