"""The report page: records to one body of data, and that to HTML, Markdown, CSV and JSON."""
