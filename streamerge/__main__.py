"""``python -m streamerge``."""

from streamerge.cli import main

if __name__ == "__main__":
    main()
