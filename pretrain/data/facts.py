"""What a source tells about a sample besides its content: score, width, height."""

import json
from collections.abc import Mapping
from typing import Any

from pretrain.data.base import SampleError


def parse_object(content: bytes, key: str) -> Mapping[str, Any]:
    """Read a sample's json.

    Raises:
        SampleError: it is no json object.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SampleError("faulty json", f".json cannot be read: {error}", key=key) from None
    if not isinstance(values, dict):
        raise SampleError("faulty json", f".json is a {type(values).__name__}, expected an object", key=key)
    return values


def pick_facts(values: Mapping[str, Any], names: Mapping[str, str], *, key: str) -> dict[str, float]:
    """Take the facts that the filters ask about out of a json object or a row.

    Args:
        values: what the source tells.
        names: by fact, its key there.
        key: the sample's name.

    Raises:
        SampleError: one is not there or no number.
    """
    facts = {}
    for fact, name in names.items():
        try:
            facts[fact] = float(values[name])
        except KeyError:
            raise SampleError("missing fact", f"no {name!r} to tell its {fact}", key=key) from None
        except (TypeError, ValueError):
            message = f"{name} {values[name]!r} as its {fact}, expected a number"
            raise SampleError("missing fact", message, key=key) from None
    return facts
