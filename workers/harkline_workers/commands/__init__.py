"""Commands that need what only workers have: `harkline` runs each as `python -m harkline_workers.commands.<name>`."""
