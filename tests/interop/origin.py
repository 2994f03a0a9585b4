#!/usr/bin/python3
"""The origin server behind the proxies: HTTP and HTTPS on two free ports of 127.0.0.1.

usage: origin.py STATE_FOLDER

Reads STATE/tls.pem (certificate and key), serves files from STATE/www and git repositories from
STATE/git, and writes STATE/origin.ports ("HTTP HTTPS") once it listens. Every request is printed
with all of its header lines, so that a test can tell what never arrived.

  /                fixed text                       /digest/N      sha256 of what the next three send
  /bytes/N         N bytes with Content-Length      /chunked/N     the same bytes, chunked
  /until-close/N   the same, ended by closing       /echo          method, framing, length and sha256
  /files/...       STATE/www                        /git/...       git smart HTTP, push allowed
  /ws              a WebSocket that says what it is told
  /gate/NAME       a picture that comes once there was an /open/NAME
"""
import base64
import collections
import hashlib
import mimetypes
import os
import random
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STATE = sys.argv[1]
WWW = os.path.join(STATE, "www")
NOISE = random.Random(5865).randbytes(1 << 18)
PRINTING = threading.Lock()
GATES = collections.defaultdict(threading.Event)


def stream(length):
    """`length` bytes that are the same every time and never repeat: a block that was lost, doubled
    or swapped on the way changes the hash."""
    number = 0
    while length > 0:
        block = number.to_bytes(8, "big") + NOISE[8:]
        yield block[:length]
        length -= len(block)
        number += 1


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *_):
        pass

    def log_request(self, code="-", size="-"):
        lines = [f"> {name}: {value}" for name, value in self.headers.items()]
        with PRINTING:
            print(f"{code} {self.requestline}", *lines, sep="\n", flush=True)

    def request_body(self):
        """Yields the decoded body of the request."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():  # trailer section
                pass
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left > 0:
                piece = self.rfile.read(min(left, 1 << 16))
                if not piece:
                    raise ConnectionError("the request ended early")
                left -= len(piece)
                yield piece

    def head(self, status, *fields):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, str(value))
        self.end_headers()

    def send(self, payload, status=200, kind="text/plain"):
        self.head(status, ("Content-Type", kind), ("Content-Length", len(payload)))
        if self.command != "HEAD":
            self.wfile.write(payload)

    def answer(self):
        name, _, rest = self.path.partition("?")[0].lstrip("/").partition("/")
        if name == "git":
            return self.git("/" + rest)
        if name == "ws":
            return self.websocket()
        digest, length = hashlib.sha256(), 0
        for piece in self.request_body():
            digest.update(piece)
            length += len(piece)
        if name == "":
            return self.send(b"hello from the origin\n")
        if name == "echo":
            framing = "chunked" if "Transfer-Encoding" in self.headers else "length"
            return self.send(f"{self.command} {framing} {length} {digest.hexdigest()}\n".encode())
        if name == "files":
            return self.file(rest)
        if name == "open":
            GATES[rest].set()
            return self.send(b"opened\n")
        if name == "gate":
            is_open = GATES[rest].wait(20)
            return self.file("page/gate.bmp") if is_open else self.send(b"nobody opened it\n", 504)
        if rest.isdigit() and name in ("digest", "bytes", "chunked", "until-close"):
            return self.stream(name, int(rest))
        return self.send(b"no such resource\n", 404)

    def stream(self, name, length):
        if name == "digest":
            digest = hashlib.sha256()
            for block in stream(length):
                digest.update(block)
            return self.send(digest.hexdigest().encode() + b"\n")
        if name == "chunked" and self.request_version == "HTTP/1.0":
            name = "until-close"  # such a client knows no chunks
        self.head(200, *{
            "bytes": [("Content-Length", length)],
            "chunked": [("Transfer-Encoding", "chunked")],
            "until-close": [("Connection", "close")],  # also ends this handler's loop
        }[name])
        if self.command == "HEAD":
            return
        for block in stream(length):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if name == "chunked" else block)
        if name == "chunked":
            self.wfile.write(b"0\r\n\r\n")

    def file(self, path):
        full = os.path.realpath(os.path.join(WWW, path))
        if path.endswith("/"):
            full = os.path.join(full, "index.html")
        if not full.startswith(WWW + os.sep) or not os.path.isfile(full):
            return self.send(b"no such file\n", 404)
        with open(full, "rb") as file:
            self.send(file.read(), kind=mimetypes.guess_type(full)[0] or "application/octet-stream")

    def websocket(self):
        """RFC 6455, as far as clients here go: whole messages, each sent back as it came."""
        key = self.headers.get("Sec-WebSocket-Key", "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        if self.headers.get("Upgrade", "").lower() != "websocket":
            return self.send(b"not a WebSocket\n", 426)
        self.close_connection = True
        self.head(101, ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept))
        while start := self.rfile.read(2):
            size = start[1] & 127
            if size > 125:
                size = int.from_bytes(self.rfile.read(2 if size == 126 else 8), "big")
            mask = self.rfile.read(4)
            data = bytes(byte ^ mask[at & 3] for at, byte in enumerate(self.rfile.read(size)))
            length = bytes([size]) if size < 126 else (
                b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big"))
            self.wfile.write(start[:1] + length + data)
            if start[0] & 15 == 8:  # a close
                return None
        return None

    def git(self, path):
        """Hands the request to git's own CGI program."""
        environment = dict(
            PATH=os.environ["PATH"],
            GIT_PROJECT_ROOT=os.path.join(STATE, "git"), GIT_HTTP_EXPORT_ALL="1",
            GIT_CONFIG_NOSYSTEM="1", HOME=STATE,
            REQUEST_METHOD=self.command, PATH_INFO=path, QUERY_STRING=self.path.partition("?")[2],
            CONTENT_TYPE=self.headers.get("Content-Type", ""),
            HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""),
            GIT_PROTOCOL=self.headers.get("Git-Protocol", ""),
            REMOTE_ADDR=self.client_address[0])
        body = b"".join(self.request_body())
        environment["CONTENT_LENGTH"] = str(len(body))
        done = subprocess.run(["git", "http-backend"], input=body, env=environment,
                              stdout=subprocess.PIPE, timeout=30)
        lines, _, payload = done.stdout.partition(b"\r\n\r\n")
        fields = [line.split(": ", 1) for line in lines.decode().split("\r\n") if line]
        status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
        self.head(status, *[f for f in fields if f[0] != "Status"], ("Content-Length", len(payload)))
        self.wfile.write(payload)

    do_GET = do_HEAD = do_POST = do_PUT = answer


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    tls = None

    def finish_request(self, request, client_address):
        # Here and not around the listening socket: this runs in the connection's own thread, so a
        # client that is slow to shake hands holds up nobody else.
        if self.tls:
            request.settimeout(20)
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        with PRINTING:
            print(f"! {sys.exc_info()[1]!r}", flush=True)


def main():
    plain, secure = Server(("127.0.0.1", 0), Handler), Server(("127.0.0.1", 0), Handler)
    secure.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.tls.load_cert_chain(os.path.join(STATE, "tls.pem"))
    ports = os.path.join(STATE, "origin.ports")
    with open(ports + ".new", "w") as file:
        print(plain.server_port, secure.server_port, file=file)
    os.rename(ports + ".new", ports)  # whole or not at all: somebody is polling for it
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    secure.serve_forever()


main()
