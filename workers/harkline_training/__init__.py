"""How the shipped model is made: corpus to dataset to training to evaluation to export. Offline; shares `normalise` and `packing` with serving."""
