"""Names of the files of a swarm."""

OBSERVATIONS, SETTINGS, DONE, LOCK = "observations.csv", "swarm.json", "done.json", ".lock"
METRICS, SPEED, CHECKPOINTS = "metrics.jsonl", "speed.json", "checkpoints"
