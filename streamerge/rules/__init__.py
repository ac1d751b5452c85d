"""What shows: the merge rules, pure, without any I/O."""
