"""Answers each request with the sum of its body. It reads as nginx does: it is woken by
edges only, asks FIONREAD how much there is, and waits for the next edge when it was
told that there is nothing more.
"""

import fcntl
import hashlib
import re
import select
import socket
import struct
import termios

listener = socket.create_server(("127.0.0.1", 8092), backlog=100)
listener.setblocking(False)
poll = select.epoll()
poll.register(listener, select.EPOLLIN)
held = {}


def answer(connection, text):
    head, _, body = text.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    size = int(length[1]) if length else 0
    if b"\r\n\r\n" not in text or len(body) < size:
        return text
    result = hashlib.sha256(body[:size]).hexdigest()
    connection.sendall(b"HTTP/1.1 200 OK\r\nServer: edge/1.0.0\r\nContent-Length: 64\r\n\r\n" + result.encode())
    return body[size:]


while True:
    for number, _ in poll.poll():
        if number == listener.fileno():
            connection, _ = listener.accept()
            connection.setblocking(False)
            held[connection.fileno()] = [connection, b""]
            poll.register(connection, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
            continue
        entry = held[number]
        connection, text = entry
        while there := struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, b"\0" * 4))[0]:
            text += connection.recv(there)
        entry[1] = answer(connection, text)
        try:
            # FIONREAD says 0 at the end, too.
            ended = not connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            ended = False
        except OSError:
            ended = True
        if ended:
            del held[number]
            connection.close()
