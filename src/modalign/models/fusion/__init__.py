"""How soft tokens enter the language model."""
