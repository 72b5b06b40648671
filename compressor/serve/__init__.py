"""`compress serve`: a page that runs what ships in a phone's browser, and the server that takes its result.

`job` says what a device is asked, `result` checks and scores what it hands back, `server` serves the page in `page/`.
To add a file to the page: put it in `page/`, and its line in `server.PAGE`.
"""
