"""Everything that runs beside the model: the Celery application, its tasks, and the way from a line to a verdict."""
