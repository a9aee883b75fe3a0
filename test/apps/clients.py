"""Asks a URL again and again with one HTTP library, which keeps its connections,
until the file /run/enough appears. Prints how often it has asked, and each failure.

    clients.py LIBRARY METHOD PAUSE URL

LIBRARY is http.client, requests, httpx, aiohttp or curl, the command; PAUSE is between
two requests, in seconds. No library is told to ask again by itself. Where curl does, that
is a failure; it also prints how many connections it has made.
"""

import asyncio
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.parse

library, method, pause, url = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
body = b"x" * 1000 if method == "POST" else None
asked, connections, failed = 0, 0, []


def going_on():
    return not os.path.exists("/run/enough")


def seen(status):
    global asked
    asked += 1
    if status != 200:
        failed.append(f"status {status}")


def by_http_client():
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)

    def ask():
        connection.request(method, where.path, body)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    return ask, connection.close


def by_requests():
    import requests

    session = requests.Session()
    return lambda: session.request(method, url, data=body, timeout=10).status_code, session.close


def by_httpx():
    import httpx

    client = httpx.Client(timeout=10)
    return lambda: client.request(method, url, content=body).status_code, client.close


def in_turn(ask, close):
    while going_on():
        try:
            seen(ask())
        except Exception as failure:
            failed.append(repr(failure))
            close()
        time.sleep(pause)


async def by_aiohttp():
    import aiohttp

    async with aiohttp.ClientSession() as session:
        while going_on():
            try:
                async with session.request(method, url, data=body) as answer:
                    await answer.read()
                    seen(answer.status)
            except Exception as failure:
                failed.append(repr(failure))
            await asyncio.sleep(pause)


def by_curl():
    """One curl that goes through the numbers of its URL. It says on one stream how each
    request went, and where it repeats one because the connection has died."""
    global asked, connections
    ask = ["curl", "-sv", "-o", "/dev/null", "-w", "%{stderr}asked %{http_code} %{num_connects} %{errormsg}\\n"]
    ask += ["--rate", f"{1 / pause:.0f}/s"] if pause else []
    ask += ["--data-binary", body] if body else []
    what = subprocess.Popen(["grep", "--line-buffered", "-E", "^asked |retrying a fresh connect"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    curl = subprocess.Popen(ask + [url + "?n=[1-100000000]"], stderr=what.stdin)
    for line in what.stdout:
        words = line.split(maxsplit=3)
        if words[0] != "asked":
            failed.append(line.strip())
            continue
        asked += 1
        connections += int(words[2])
        if words[1] != "200":
            failed.append(line.strip())
        if not going_on():
            break
    curl.kill()


if library == "aiohttp":
    asyncio.run(by_aiohttp())
elif library == "curl":
    by_curl()
else:
    in_turn(*{"http.client": by_http_client, "requests": by_requests, "httpx": by_httpx}[library]())
print(json.dumps({"asked": asked, "connections": connections, "failed": failed}))
