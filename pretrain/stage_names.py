"""Which stages there are; apart from their configs, so that a command line answers before it reads any."""

from pathlib import Path

CONFIG_DIR = Path(__file__).resolve().parent / "configs"


def list_stages() -> tuple[str, ...]:
    """Name every stage there is, one for each file in `pretrain/configs`."""
    return tuple(sorted(path.stem for path in CONFIG_DIR.glob("*.yaml")))
