"""One optimizer step of a run, trained again and looked at."""
