"""Towers that turn tokens into features; most are frozen, gradients still flow through."""
