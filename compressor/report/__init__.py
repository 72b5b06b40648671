"""The report: one typed object, and its forms as JSON, HTML, Markdown, JUnit XML and a terminal table."""
