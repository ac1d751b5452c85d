"""Where merged entries go."""
