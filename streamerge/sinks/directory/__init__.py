"""The merged root filesystem as a directory tree."""
