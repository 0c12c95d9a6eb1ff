"""Every check, in the order in which causes are looked for. Imports no torch."""

from downstream.doctor.base import Check
from downstream.doctor.case import Case
from downstream.doctor.classes import ORDER, ORDER_PROBE
from downstream.doctor.dense import DENSE
from downstream.doctor.guessing import SIGNAL
from downstream.doctor.pictures import CHANNELS, CHANNELS_PROBE, NORMALISATION, NORMALISATION_PROBE, RESOLUTION
from downstream.doctor.pooling import FLAG, TOKENS
from downstream.doctor.precision import PRECISION, PRECISION_PROBE
from downstream.doctor.samples import SAMPLES
from downstream.doctor.sounds import DURATION, RATES, RATES_PROBE
from downstream.doctor.weights import LOADING, VARIANT
from downstream.doctor.words import PROMPT, PROMPT_PROBE

PLAIN: tuple[Check, ...] = (
    VARIANT,
    FLAG,
    RESOLUTION,
    DURATION,
    PROMPT,
    PRECISION,
    NORMALISATION,
    CHANNELS,
    RATES,
    ORDER,
    SAMPLES,
    LOADING,
    NORMALISATION_PROBE,
    CHANNELS_PROBE,
    RATES_PROBE,
    PROMPT_PROBE,
    ORDER_PROBE,
    PRECISION_PROBE,
    TOKENS,
    SIGNAL,
)


def list_checks(case: Case) -> tuple[Check, ...]:
    """List the checks of a case, in the order in which they are made."""
    return PLAIN if case.is_plain else DENSE
