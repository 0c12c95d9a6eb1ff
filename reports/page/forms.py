"""The forms that the report page is written in."""

from typing import Final

FORMS: Final = {
    "html": "the report page: one HTML file with results, histories, curves, samples and ablations",
    "md": "the report page as Markdown",
    "csv": "the report page's numbers as CSV",
    "json": "all that the report page says as JSON",
}
"""By the sub-command that writes it, what is said of each form."""
