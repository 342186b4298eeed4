"""From a decoded tensor to tokens of the encoder's width; each shape comes from configuration."""
