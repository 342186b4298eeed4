"""The verbs of the modalign command."""
