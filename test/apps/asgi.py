"""The ASGI sample, for uvicorn and hypercorn."""
import os

ANSWER = "{} {} {}\n".format(
    os.environ.get("GENERATION", "-"), os.environ.get("SYSTEMD_INSTANCE", "-"), os.getpid()).encode()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"text/plain"), (b"content-length", str(len(ANSWER)).encode())]})
    await send({"type": "http.response.body", "body": ANSWER})
