"""The front door of harkline: HTTP in, ledger out. No model, no web framework beyond Flask, nothing at import."""
