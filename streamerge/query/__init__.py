"""Commands that read an image and write nothing."""
