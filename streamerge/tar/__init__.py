"""512-byte headers and PAX records <-> entries."""
