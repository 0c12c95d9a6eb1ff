"""Start the command line of `reports`: python reports/run.py table."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path = [str(HERE.parent), *(p for p in sys.path if p != str(HERE))]
from reports.cli import main  # only now

if __name__ == "__main__":
    raise SystemExit(main())
