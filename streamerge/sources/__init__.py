"""Layers and images: files, pipes, archives, image layouts."""
