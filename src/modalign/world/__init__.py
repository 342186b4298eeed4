"""The embedded default: a small generated world seen by all sensors."""
