"""What the accidents are played with: a parent to kill, an ntlmaps that is watched, clients."""
import os
import re
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
LONG = "--long" in sys.argv
NTLMAPS, STATE, SQUID_PORT, ORIGIN, PASSWORD = ([word for word in sys.argv[1:] if word != "--long"] + [""] * 5)[:5]
PYTHON = "/usr/bin/python3"


class Wrong(Exception):
    pass


def expect(what, fine):
    if not fine:
        raise Wrong(what)


def until(what, seconds, condition):
    """Waits for the condition; says how long that took."""
    begin = time.monotonic()
    while not (found := condition()):
        if time.monotonic() - begin > seconds:
            raise Wrong(f"{what}: not within {seconds} s")
        time.sleep(0.02)
    return found if isinstance(found, str) else time.monotonic() - begin


# ---- processes ---------------------------------------------------------------------------------

def start(name, *command):
    """As lib.sh does, so that the script ends it."""
    log = open(os.path.join(STATE, "log", name), "a")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    with open(f"/proc/{process.pid}/stat") as stat, open(os.path.join(STATE, "pids", name), "w") as file:
        print(process.pid, stat.read().rpartition(") ")[2].split()[19], file=file)
    return process


def listens(address, port):
    try:
        socket.create_connection((address, port), 1).close()
        return True
    except OSError:
        return False


class Parent:
    def __init__(self, address="127.0.0.1", within=()):
        self.address, self.within, self.port = address, within, free_port()
        self.process = None
        self.start()

    def start(self):
        script = os.path.join(HERE, "accident_parent.py")
        self.process = start(f"parent-{self.address}", *self.within, PYTHON, script, self.address, str(self.port), STATE)
        until("the parent listens", 10, lambda: listens(self.address, self.port))

    def kill(self):
        self.process.kill()
        self.process.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Proxy:
    """An ntlmaps, and what it holds."""

    def __init__(self, parent, *lines, account=("CORP\\alice", "any")):
        self.port, path = free_port(), os.path.join(STATE, "accidents.cfg")
        with open(path, "w") as file:
            print("[GENERAL]", f"LISTEN_PORT: {self.port}", f"PARENT_PROXY: {parent}", *lines, "[NTLM_AUTH]",
                  f"USER: {account[0]}", f"PASSWORD: {account[1]}", sep="\n", file=file)
        os.chmod(path, 0o600)
        self.process = start("ntlmaps", NTLMAPS, "-c", path)
        until("it listens", 10, lambda: listens("127.0.0.1", self.port))
        self.level()

    def held(self):
        proc = f"/proc/{self.process.pid}"
        memory = int(re.search(r"VmRSS:\s*(\d+)", open(f"{proc}/status").read())[1])
        return len(os.listdir(f"{proc}/fd")), len(os.listdir(f"{proc}/task")), memory

    def level(self, patience=15, before=None):
        """What it holds without clients and without a pool; waits for what it was before."""
        self.process.send_signal(signal.SIGHUP)
        expect(f"it is gone with {self.process.poll()}", self.process.poll() is None)
        if before is None:
            time.sleep(2)  # silent clients keep their threads for a second
            return self.held()
        until(f"it holds {self.held()} where it held {before}", patience, lambda: self.held()[:2] == before[:2])
        now = self.held()
        expect(f"{now[2]} kB where it took {before[2]}", now[2] <= before[2] + 6144)
        return now

    def end(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


# ---- clients -----------------------------------------------------------------------------------

class Client:
    def __init__(self, port, timeout=20):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)

    def send(self, method, target, body=b"", length=None):
        length = len(body) if length is None else length
        size = f"Content-Length: {length}\r\n" if method == "POST" else ""
        host = target.split("/")[2] if "//" in target else target
        self.socket.sendall(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{size}\r\n".encode() + body)
        return self

    def read(self, enough=lambda data: False):
        """What comes until that is enough, or the end; and how it ended."""
        data = b""
        try:
            while not enough(data):
                piece = self.socket.recv(1 << 16)
                if not piece:
                    return data, "end"
                data += piece
            return data, "enough"
        except ConnectionError:
            return data, "reset"
        except TimeoutError:
            return data, "silence"

    def answer(self):
        """The status of the response, once all of it is there."""
        def whole(data):
            head, gap, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head.lower())
            return gap and (not length or len(body) >= int(length[1]))

        data, how = self.read(whole)
        return data[9:12].decode() if how == "enough" else how

    def close(self):
        self.socket.close()


def get(port, url="http://a.test/hello", timeout=20):
    try:
        client = Client(port, timeout)
    except OSError as error:
        return type(error).__name__
    try:
        return client.send("GET", url).answer()
    finally:
        client.close()


def normal(port, patience=30, url="http://a.test/hello"):
    """How long until a request is served."""
    return until("normal service", patience, lambda: get(port, url) == "200")
