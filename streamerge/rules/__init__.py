"""The merge rules: what shows of each layer. Pure, no I/O."""
