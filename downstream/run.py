"""Entry point: python downstream/run.py TASK."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path = [str(HERE.parent), *(path for path in sys.path if path != str(HERE))]

from downstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
