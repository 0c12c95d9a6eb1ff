"""The model: a modality adapter each, one encoder shared, and all that the released weights fix.

The public surface; what is heavy is imported on use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.config import list_sizes
    from models.embedding import Embedder, combine, load_model
    from models.onepeace import build_model

__all__ = ["Embedder", "build_model", "combine", "list_sizes", "load_model"]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    home = {"build_model": "models.onepeace", "list_sizes": "models.config"}.get(name, "models.embedding")
    return getattr(importlib.import_module(home), name)
