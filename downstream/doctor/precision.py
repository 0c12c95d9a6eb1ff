"""The precision of the arithmetic."""

from downstream.doctor.base import Cost, Finding, Question, ok, suspect
from downstream.doctor.case import Case


def look_at_precision(case: Case) -> Finding:
    """Hold the precision of the run against the config's."""
    found = case.record.dtype if case.record is not None else case.setting.precision
    expected = case.expected.precision
    if found != expected:
        remedy = f"leave --dtype and --set settings.{case.part.setting}.precision out, or say --dtype {expected}"
        return suspect(f"computed in {found}, the config says {expected}", remedy)
    return ok(f"{found}, as the config says")


def probe_precision(case: Case) -> Finding:
    """Look for numbers that are none, and compute the same in float32."""
    from downstream.doctor.probe import compare, open_probe

    probe, precision = case.probe, case.setting.precision
    if (count := probe.count_faulty()) > 0:
        return suspect(
            f"{count} of {len(probe.samples)} samples come out as no finite numbers in {precision}",
            "--dtype float32, or bfloat16, which has the range of float32",
            gain=1.0,
        )
    if precision == "float32":
        return ok("float32, and every number is finite")
    exact = open_probe(case, precision="float32")
    compared = compare("float32", probe.score(), exact.score())
    if compared.is_better:
        return suspect(compared.told, "--dtype float32", gain=compared.gain)
    return ok(compared.told)


PRECISION = Question("dtype", Cost.FREE, look_at_precision)
PRECISION_PROBE = Question("dtype", Cost.COMPUTE, probe_precision)
