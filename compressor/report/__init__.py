"""One report of a run, in all its forms: JSON, HTML, Markdown, JUnit XML, a terminal table, and the model card.

`model.Report` holds what a run measured; `tables`, `sentences` and `numbers` word it once for all forms. Pages are
Jinja2 templates in `templates/`, filled by `pages`; `charts/` draws what they show.

To add a form: a file with a function from a Report to text, and its name in `files.FORMS`. To add a table that HTML and
Markdown both show: a function in `tables`, a section in `templates/run.html.j2` and a line in `markdown`.
"""
