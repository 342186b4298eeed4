"""From the command line to checked settings; with the entry points, the only code that knows Hydra."""
