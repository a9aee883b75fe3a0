"""The WSGI sample, for gunicorn and uwsgi."""
import os
import time
from urllib.parse import parse_qs

ANSWER = "{} {} {}\n".format(
    os.environ.get("GENERATION", "-"), os.environ.get("SYSTEMD_INSTANCE", "-"), os.getppid())


def app(environ, start_response):
    delay = parse_qs(environ.get("QUERY_STRING", "")).get("delay", ["0"])[0]
    time.sleep(float(delay.rstrip("s")))
    body = ANSWER.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


application = app  # uwsgi's name for it
