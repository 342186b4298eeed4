"""From encoder features to soft tokens of the language model's width."""
