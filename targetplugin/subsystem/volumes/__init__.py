"""Volumes: created, adopted, cloned, deleted."""
