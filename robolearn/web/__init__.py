"""The operator's web page: watch, drive, browse, annotate, compare. Start at `app.py`; the front end is `frontend/`."""
