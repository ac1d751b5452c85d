"""The merged root filesystem as a cpio archive."""
