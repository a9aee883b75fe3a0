"""Asks a URL again and again with one HTTP library, which keeps its connections,
until the file /run/enough appears. Prints how often it has asked, and each failure.

    clients.py LIBRARY METHOD PAUSE URL

LIBRARY is http.client, requests, httpx or aiohttp; PAUSE is between two requests, in
seconds. No library is told to ask again by itself.
"""

import asyncio
import http.client
import json
import os
import sys
import time
import urllib.parse

library, method, pause, url = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
body = b"x" * 1000 if method == "POST" else None
asked, failed = 0, []


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


if library == "aiohttp":
    asyncio.run(by_aiohttp())
else:
    in_turn(*{"http.client": by_http_client, "requests": by_requests, "httpx": by_httpx}[library]())
print(json.dumps({"asked": asked, "failed": failed}))
