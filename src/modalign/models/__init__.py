"""The network: tokenizers, one shared encoder, a projector, a fusion and a causal language model."""
