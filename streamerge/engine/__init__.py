"""Merge layers: read them, apply the rules, write to a sink."""
