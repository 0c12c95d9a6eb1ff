"""python pretrain/run.py STAGE: puts the project's root first and hands over to `pretrain.cli`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path = [str(HERE.parent), *(p for p in sys.path if p != str(HERE))]

from pretrain.cli import main

if __name__ == "__main__":
    sys.exit(main())
