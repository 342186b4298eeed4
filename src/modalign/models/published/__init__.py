"""The released OneLLM checkpoint: its sizes, its names, its rotary layout, and how it is read and written."""
