"""The rules of DESIGN section 3, one file each, and the promise of section 4."""
