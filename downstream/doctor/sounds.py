"""How sounds are prepared: how much of a clip is heard, and at which rate it was recorded."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from downstream.doctor.base import Cost, Finding, Question, ok, suspect, unchecked
from downstream.doctor.case import NO_DATA, Case

if TYPE_CHECKING:
    from downstream.doctor.probe import Change

RATES_HZ = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000)
NO_SOUNDS = "there are no sounds"
NUM_HEADERS = 500  # of files that are looked at, spread over the split


def look_at_duration(case: Case) -> Finding:
    """Hold what a clip is cut to against the config's and the file's."""
    if "audio" not in case.setting.inputs:
        return unchecked(NO_SOUNDS)
    duration, expected = (each.inputs["audio"].arguments["max_duration_s"] for each in (case.setting, case.expected))
    key = f"settings.{case.part.setting}.inputs.audio.arguments.max_duration_s"
    if duration != expected:
        return suspect(f"clips are cut to {duration:g} s, the config says {expected:g} s", f"leave --set {key} out")
    stored = _read_duration(case)
    if stored is not None and stored != duration:
        return suspect(
            f"the file was fine-tuned with clips of {stored:g} s, the config says {duration:g} s",
            "name a file that was fine-tuned with the config's duration; an evaluation goes by the file's",
        )
    return ok(f"clips are cut to {duration:g} s")


def _read_duration(case: Case) -> float | None:
    """Read the duration from a header of ours, or from the settings inside a released file."""
    if case.part.setting == "zero-shot":
        return None
    if case.origin is not None:
        audio = case.origin.inputs.get("audio")
        return None if audio is None else float(audio.arguments["max_duration_s"])
    config = case.description.config if case.description is not None else None
    task = config.get("task") if isinstance(config, dict) else None
    value = task.get("max_duration") if isinstance(task, dict) else None
    return float(value) if isinstance(value, int | float) else None


def look_at_rates(case: Case) -> Finding:
    """Read the rates in the headers of the files, and hold them against the published one."""
    import soundfile

    if case.plain.media != "audio":
        return unchecked(NO_SOUNDS)
    if case.listing is None:
        return unchecked(NO_DATA)
    files = [path for sample in case.listing.samples for path in sample.files]
    looked = files[:: -(-len(files) // NUM_HEADERS)]
    rates: Counter[int] = Counter()
    for path in looked:
        try:
            rates[int(soundfile.info(path).samplerate)] += 1
        except soundfile.LibsndfileError as error:
            return suspect(f"{path} cannot be decoded: {error.error_string}", "fetch it again")
    told = ", ".join(f"{count} files at {rate} Hz" for rate, count in rates.most_common())
    wanted = case.config.dataset.sample_rate_hz
    if not case.is_published or wanted is None:
        return ok(f"{told}; the published rate is {wanted or 'not told'}")
    if set(rates) != {wanted}:
        return suspect(
            f"{told}; published are {wanted} Hz", "unpack the published files; resampled ones are not comparable"
        )
    return ok(told)


def probe_rates(case: Case) -> Finding:
    """Hear the same samples as if they had been recorded at other rates than the headers say."""
    from downstream.doctor.probe import try_changes

    if case.plain.media != "audio":
        return unchecked(NO_SOUNDS)
    trial = try_changes(case.probe, _other_rates(case))
    if trial.best is None:
        return ok(trial.told)
    return suspect(
        trial.told,
        "the headers of the files name another rate than they were recorded at: unpack the published files again, "
        "or write the true rate into them",
        gain=trial.best.gain,
    )


def _other_rates(case: Case) -> "dict[str, Change]":
    import soundfile

    from downstream.doctor.probe import Change
    from models.modalities.audio import SAMPLE_RATE_HZ, resample

    told = int(soundfile.info(case.probe.samples[0].files[0]).samplerate)

    def hear_at(rate: int) -> Change:
        pretended = round(SAMPLE_RATE_HZ * rate / told)

        def decoded(samples: Any) -> Any:
            return resample(samples, pretended)

        return Change(decoded=decoded)

    return {f"{told} Hz files heard as {rate} Hz": hear_at(rate) for rate in RATES_HZ if rate != told}


DURATION = Question("duration", Cost.FREE, look_at_duration)
RATES = Question("sample rate", Cost.CHEAP, look_at_rates)
RATES_PROBE = Question("sample rate", Cost.COMPUTE, probe_rates)
