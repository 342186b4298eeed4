"""Drafts of a modality's YAML: what one sample file tells about decoder, tokenizer and shapes."""
