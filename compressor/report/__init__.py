"""The report: one typed object, and its forms as JSON, Markdown and a terminal table."""
