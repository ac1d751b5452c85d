"""The merge rules of docs/semantics.md, one file each, and what the output guarantees."""
