"""Print lines rendered from the training corpus, as JSON pairs of service and line: the stream of machines that have no logs to measure with.

Templates are drawn as logs use them, a few of each system very often and most of them rarely.
"""

from __future__ import annotations

import json
import random
import sys

from harkline_training.dataset import load_corpus, render

_SYSTEMS = 14


def main() -> None:
    """Print as many lines as the first argument says."""
    rng = random.Random(1)
    systems = rng.sample(load_corpus(), _SYSTEMS)
    weights = {system.name: [1 / (rank + 1) for rank in range(len(system.templates))] for system in systems}
    for _ in range(int(sys.argv[1])):
        system = rng.choice(systems)
        template = rng.choices(system.templates, weights[system.name])[0]
        line = render(template, system, rng, show_level=True).replace("\n", " ")
        sys.stdout.write(json.dumps([system.name, line]) + "\n")


if __name__ == "__main__":
    main()
