#!/usr/bin/python3
"""A parent to be killed: demands NTLM and lets everybody in who answers a challenge.

usage: accident_parent.py ADDRESS PORT STATE_FOLDER

  /half/N, /half-chunked/N  the first half of N bytes, then nothing more    /late/S  answers after S s
  /slow/N/S                 N bytes in S seconds                            CONNECT  an echo
  POST /stall               reads a tenth of the body, then nothing more    else     "hello"
While STATE/hold exists, no AUTHENTICATE message gets an answer.
"""
import base64
import os
import socket
import struct
import sys
import threading
import time


def challenge():
    def text(value):
        return value.encode("utf-16-le")

    pairs = [(2, text("CORP")), (1, text("DC1")), (7, struct.pack("<Q", 0x01DC000000000000)), (0, b"")]
    info = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in pairs)
    name = text("CORP")
    return base64.b64encode(
        b"NTLMSSP\0" + struct.pack("<IHHII", 2, len(name), len(name), 56, 0xA2898205)
        + b"\x01\x23\x45\x67\x89\xab\xcd\xef" + bytes(8)
        + struct.pack("<HHI", len(info), len(info), 56 + len(name))
        + bytes([10, 0, 0x63, 0x45, 0, 0, 0, 15]) + name + info).decode()


CHALLENGE = challenge()


def head(stream):
    """The request line's words and the fields, or None at the end."""
    line = stream.readline().split()
    if not line:
        return None
    fields = {}
    while (field := stream.readline()) not in (b"\r\n", b""):
        name, _, value = field.partition(b":")
        fields[name.lower()] = value.strip()
    return line[0].decode(), line[1].decode(), fields


def response(status, *fields, body=b""):
    lines = [f"HTTP/1.1 {status} X", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def serve(connection, state):
    stream, known = connection.makefile("rb"), False
    while (request := head(stream)) is not None:
        method, target, fields = request
        length = int(fields.get(b"content-length", b"0"))
        if not known:
            stream.read(length)
            token = base64.b64decode(fields.get(b"proxy-authorization", b"NTLM ").split()[-1] + b"==")
            kind = token[8] if token.startswith(b"NTLMSSP\0") else 0
            if kind != 3:
                demand = f"Proxy-Authenticate: NTLM{' ' + CHALLENGE if kind == 1 else ''}"
                connection.sendall(response(407, demand))
                continue
            if os.path.exists(os.path.join(state, "hold")):
                time.sleep(3600)
            known, length = True, 0
        if method == "CONNECT":
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while piece := stream.read1(1 << 16):
                connection.sendall(piece)
            return
        path = target.split("/")[3:] + ["", ""]
        if path[0] == "stall":
            stream.read(length // 10)
            time.sleep(3600)
        stream.read(length)
        if path[0] == "half":
            connection.sendall(f"HTTP/1.1 200 X\r\nContent-Length: {path[1]}\r\n\r\n".encode() + bytes(int(path[1]) // 2))
            time.sleep(3600)
        if path[0] == "half-chunked":
            half = int(path[1]) // 2
            connection.sendall(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (half, bytes(half)))
            time.sleep(3600)
        if path[0] == "slow":
            size, seconds = int(path[1]), float(path[2])
            connection.sendall(f"HTTP/1.1 200 X\r\nContent-Length: {size}\r\n\r\n".encode())
            for _ in range(100):
                connection.sendall(bytes(size // 100))
                time.sleep(seconds / 100)
            continue
        if path[0] == "late":
            time.sleep(float(path[1]))
        connection.sendall(response(200, body=b"hello\n"))


def main():
    address, port, state = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    listener = socket.create_server((address, port), backlog=1000)

    def one(connection):
        try:
            with connection:
                serve(connection, state)
        except (OSError, ValueError, IndexError) as error:
            print(error, flush=True)

    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=one, args=[connection], daemon=True).start()


main()
