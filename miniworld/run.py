"""Start of the command line: python miniworld/run.py OUT."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path = [str(HERE.parent), *(p for p in sys.path if p != str(HERE))]
from miniworld.cli import main  # only now: this folder's files would else hide modules of the same name

if __name__ == "__main__":
    sys.exit(main())
