"""`make bench`: what a line costs, the demo's way and ours, side by side on this machine. Black box: HTTP, signals, Redis, /metrics and /proc."""
