"""The rules of DESIGN section 3, one file each, and the expected of section 4."""
