"""modalign: give a language model new senses, one after another, without forgetting the earlier ones."""

__version__ = "0.1.0"
