"""LossGuard: tells a step that would harm the weights from one that would not, and when to stop."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

from pydantic import Field

from models.config import PositiveInt, Settings

NORMAL_DEVIATION: Final = 1.4826  # the median distance of a normal distribution, as a standard deviation


class GuardConfig(Settings):
    """What counts as a bad step. All of it is ours: paper and reference say nothing of divergence."""

    window: Annotated[int, Field(ge=4)] = 128
    """Good steps that the next one is compared with."""
    min_history: Annotated[int, Field(ge=2)] = 32
    """Good steps before anything but a number that is not finite counts as bad."""
    spike_factor: Annotated[float, Field(gt=0)] | None = 8.0
    """Standard deviations, estimated robustly, that a loss may lie above the median; None: as far as it likes."""
    min_spread: Annotated[float, Field(gt=0)] = 0.02
    """Share of the median that the deviation is taken to be at least, so that a flat curve is not easily left."""
    max_grad_norm_factor: Annotated[float, Field(gt=1)] | None = None
    """Times the median that a gradient norm may reach; None leaves its size to clipping."""
    max_consecutive_skips: PositiveInt = 10
    """Bad steps in a row at which the training ends."""


@dataclass(frozen=True)
class Verdict:
    """Whether a step may be taken."""

    is_bad: bool
    """The optimiser must not be called."""
    reason: str
    """One line for the log; empty where the step is good."""


class LossGuard:
    """Judges each step by the ones before it.

    A loss or a gradient norm that is not finite is always bad. After `min_history` good steps a loss is bad when it
    exceeds median + spike_factor * deviation of the last `window` good ones, where deviation is the larger of 1.4826
    times their median distance from the median, and `min_spread` times the median: neither is moved by single spikes.
    Bad steps do not enter the window, so a lasting jump ends the training instead of becoming normal.

    The decision follows from the arguments alone: ranks that are given the same averaged numbers decide alike.
    """

    def __init__(self, config: GuardConfig) -> None:
        if config.min_history > config.window:
            raise ValueError(f"min_history {config.min_history} is beyond the window {config.window}; lower it")
        self.config = config
        self._losses: deque[float] = deque(maxlen=config.window)
        self._grad_norms: deque[float] = deque(maxlen=config.window)
        self._in_a_row = 0
        self._skipped = 0

    @property
    def skipped(self) -> int:
        """Bad steps so far."""
        return self._skipped

    def check(self, loss: float, grad_norm: float, *, step: int, last_checkpoint: Path | None = None) -> Verdict:
        """Judge one step before the optimiser is called.

        Args:
            loss: of the whole batch, averaged over all ranks.
            grad_norm: of all gradients together, before clipping.
            step: its number, for the message.
            last_checkpoint: what to resume from, for the message.

        Raises:
            FloatingPointError: the last one allowed of bad steps in a row; one line.
        """
        reason = self._find_fault(loss, grad_norm)
        if not reason:
            self._losses.append(loss)
            self._grad_norms.append(grad_norm)
            self._in_a_row = 0
            return Verdict(is_bad=False, reason="")
        self._in_a_row += 1
        self._skipped += 1
        if self._in_a_row >= self.config.max_consecutive_skips:
            last = f"{last_checkpoint} is from before" if last_checkpoint else "there is no checkpoint yet"
            raise FloatingPointError(
                f"training diverged: step {step} is bad step {self._in_a_row} in a row ({reason}); {last}; look at the "
                "data of these steps and go on with --run, or begin a new run with a lower optim.lr"
            )
        return Verdict(is_bad=True, reason=f"step {step} skipped: {reason}")

    def state(self) -> dict[str, Any]:
        """Give what `restore` needs; JSON holds it."""
        return {
            "losses": list(self._losses),
            "grad_norms": list(self._grad_norms),
            "skipped_in_a_row": self._in_a_row,
            "skipped": self._skipped,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; a smaller window keeps the newest steps.

        Raises:
            ValueError: not a state of a guard.
        """
        try:
            losses, grad_norms = map(float, state["losses"]), map(float, state["grad_norms"])
            counts = int(state["skipped_in_a_row"]), int(state["skipped"])
            kept = deque(losses, maxlen=self.config.window), deque(grad_norms, maxlen=self.config.window)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"a guard's state that cannot be read ({error!r}); take an older checkpoint") from None
        self._losses, self._grad_norms = kept
        self._in_a_row, self._skipped = counts

    def _find_fault(self, loss: float, grad_norm: float) -> str:
        """Say what is wrong with a step; empty where nothing is."""
        for name, value in (("loss", loss), ("gradient norm", grad_norm)):
            if not math.isfinite(value):
                return f"{name} is {value}"
        if len(self._losses) < self.config.min_history:
            return ""
        return self._find_spike(loss) or self._find_burst(grad_norm)

    def _find_spike(self, loss: float) -> str:
        if self.config.spike_factor is None:
            return ""
        centre = median(self._losses)
        distance = median(abs(value - centre) for value in self._losses)
        deviation = max(NORMAL_DEVIATION * distance, self.config.min_spread * abs(centre))
        limit = centre + self.config.spike_factor * deviation
        if loss <= limit:
            return ""
        return f"loss {loss:.4g} is above {limit:.4g}, the median {centre:.4g} of the last {len(self._losses)} and more"

    def _find_burst(self, grad_norm: float) -> str:
        factor = self.config.max_grad_norm_factor
        centre = median(self._grad_norms)
        if factor is None or grad_norm <= factor * centre:
            return ""
        return f"gradient norm {grad_norm:.4g} is above {factor:g} times the median {centre:.4g}"
