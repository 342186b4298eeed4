"""Recipes, shards and their manifests, order, decoders, templates, collation."""
