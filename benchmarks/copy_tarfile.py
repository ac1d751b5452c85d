"""copy_tarfile.py OUT LAYER...: copy all members of all layers with the standard library, including hidden ones."""

import sys
import tarfile


def main(out_path: str, *layers: str) -> None:
    """Write the members of all layers, one after the other, to one tar."""
    with tarfile.open(out_path, "w") as out:
        for path in layers:
            with tarfile.open(path) as layer:
                for member in layer:
                    out.addfile(member, layer.extractfile(member) if member.isreg() else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
