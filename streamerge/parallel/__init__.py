"""Everything that forks or starts threads."""
