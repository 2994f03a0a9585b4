#!/usr/bin/python3
"""Plays the accidents; started by `accidents`, in namespaces of its own.

usage: accidents.py [--long] NTLMAPS STATE_FOLDER SQUID_PORT ORIGIN_URL ALICES_PASSWORD
"""
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from accident_tools import (
    HERE, LONG, ORIGIN, PASSWORD, PYTHON, SQUID_PORT, STATE, Client, Parent, Proxy, Wrong, expect, get, listens, normal,
    start, until)

SOURCES = os.path.join(HERE, "..", "..", "src")
# This side, the router with the cable, the far side.
NEAR, FAR = "10.9.1.1", "10.9.2.2"


# ---- the table ---------------------------------------------------------------------------------

failures = []


def row(name, proxy, accident, patience=15, crowd=0):
    """Plays one: `accident` says what was seen, and how long it took to be normal. Where there is a
    crowd, one that came and left orderly was there before: the allocator keeps what that took."""
    try:
        normal(proxy.port, url=proxy_url(proxy))
        if crowd:
            there = gather("127.0.0.1", proxy.port, crowd)
            normal(proxy.port)
            del there
        before = proxy.level()
        seen, seconds = accident(proxy)
        after = proxy.level(patience, before)
        cost = f"{before[0]} → {after[0]}, {before[1]} → {after[1]}, {before[2] / 1024:.1f} → {after[2] / 1024:.1f} MB"
        back = f"{seconds:.1f} s" if isinstance(seconds, float) else seconds
    except (Wrong, OSError) as error:
        failures.append(name)
        seen, back, cost = f"FAILED: {error}", "-", "-"
    print(f"| {name} | {seen} | {back} | {cost} |", flush=True)


def proxy_url(proxy):
    return getattr(proxy, "url", "http://a.test/hello")


# ---- a parent that dies ------------------------------------------------------------------------

def killed_in_response(parent, kind):
    def play(proxy):
        client = Client(proxy.port).send("GET", f"http://a.test/{kind}/1000000")
        client.read(lambda data: len(data) > 400_000)
        parent.kill()
        rest, how = client.read()
        expect(f"a clean end of a {kind} response: {how}", how in ("end", "reset") and b"0\r\n\r\n" not in rest[-20:])
        refused = get(proxy.port)
        parent.start()
        back = normal(proxy.port)
        client.close()
        return f"body cut short, connection closed; new requests {refused} at once", back
    return play


def killed_in_body(parent):
    def play(proxy):
        client = Client(proxy.port)
        client.send("GET", "http://a.test/hello").answer()
        client.send("POST", "http://a.test/stall", bytes(300_000), length=10_000_000)
        time.sleep(0.3)
        parent.kill()
        answer = client.answer()
        expect(f"{answer} for a body that nobody takes", answer == "502")
        parent.start()
        back = normal(proxy.port)
        client.close()
        return "502", back
    return play


def killed_in_handshake(parent):
    def play(proxy):
        open(os.path.join(STATE, "hold"), "w").close()
        client = Client(proxy.port).send("GET", "http://a.test/hello")
        silence = client.socket.recv  # nothing comes
        client.socket.settimeout(0.5)
        try:
            expect("an answer in the middle of a handshake", not silence(1))
        except TimeoutError:
            pass
        client.socket.settimeout(20)
        parent.kill()
        os.remove(os.path.join(STATE, "hold"))
        answer = client.answer()
        expect(f"{answer} where the handshake broke", answer == "502")
        parent.start()
        back = normal(proxy.port)
        client.close()
        return "502", back
    return play


# ---- a cable -----------------------------------------------------------------------------------

class Cable:
    """A router between this side and the far one; cut, it swallows every packet."""

    def __init__(self):
        self.router, self.far = [start(name, "unshare", "--net", "sleep", "infinity").pid for name in ("router", "far")]
        until("namespaces", 5, lambda: all(
            os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net") for pid in (self.router, self.far)))
        self.within_far = ("nsenter", "-t", str(self.far), "-n")
        for line in f"""
            ip link add n0 type veth peer name n1 netns {self.router}
            ip addr add {NEAR}/24 dev n0
            ip link set n0 up
            ip route add 10.9.2.0/24 via 10.9.1.254
            R ip addr add 10.9.1.254/24 dev n1
            R ip link set n1 up
            R ip link add f0 type veth peer name f1 netns {self.far}
            R ip addr add 10.9.2.254/24 dev f0
            R ip link set f0 up
            R sysctl -qw net.ipv4.ip_forward=1
            F ip addr add {FAR}/24 dev f1
            F ip link set f1 up
            F ip link set lo up
            F ip route add default via 10.9.2.254
        """.strip().splitlines():
            self.run(line.strip())

    def run(self, line):
        words = line.split()
        within = {"R": ("nsenter", "-t", str(self.router), "-n"), "F": self.within_far}.get(words[0], ())
        subprocess.run([*within, *words[1 if within else 0:]], check=True)

    def cut(self):
        for address in (NEAR, FAR):
            self.run(f"R ip route add blackhole {address}/32")

    def mend(self):
        for address in (NEAR, FAR):
            self.run(f"R ip route del blackhole {address}/32")


def cable_cut(cable, seconds):
    def play(proxy):
        running = Client(proxy.port, 60).send("GET", "http://a.test/slow/1000000/2")
        time.sleep(0.5)
        cable.cut()
        new = get(proxy.port, timeout=60)
        expect(f"{new} for a request into nothing", new == "504")
        time.sleep(seconds)
        cable.mend()
        back = normal(proxy.port, 60)
        answer = running.answer()
        expect(f"{answer} for a response that was on its way", answer == "200")
        running.close()
        return f"running response waited and was whole; new requests {new} after 2 s (PARENT_PROXY_TIMEOUT)", back
    return play


def tunnel(port):
    client = Client(port, 60).send("CONNECT", "a.test:443")
    data, _ = client.read(lambda data: b"\r\n\r\n" in data)
    expect(f"no tunnel: {data[:60]}", data.startswith(b"HTTP/1.1 200"))
    return client


def echo(client):
    client.socket.sendall(b"ping")
    return client.read(lambda data: len(data) >= 4)[0] == b"ping"


def cable_cut_with_tunnels(cable, seconds):
    def play(proxy):
        tunnels = [tunnel(proxy.port) for _ in range(20)]
        expect("an echo", all(map(echo, tunnels)))
        cable.cut()
        tunnels[0].socket.sendall(b"late")
        time.sleep(seconds)
        cable.mend()
        begin = time.monotonic()
        expect("what was sent meanwhile", tunnels[0].read(lambda data: len(data) >= 4)[0] == b"late")
        expect("an echo afterwards", all(map(echo, tunnels)))
        back = time.monotonic() - begin
        for client in tunnels:
            client.close()
        return f"20 tunnels paused for {seconds} s and went on, nothing lost", back
    return play


def cable_cut_for_good(cable):
    def play(proxy):
        tunnels = [tunnel(proxy.port) for _ in range(20)]
        expect("an echo", all(map(echo, tunnels)))
        cable.cut()
        begin = time.monotonic()
        for client in tunnels:
            client.socket.settimeout(200)
            data, how = client.read()
            expect(f"{how} for a tunnel into nothing", how in ("end", "reset"))
        gone = time.monotonic() - begin
        cable.mend()
        back = normal(proxy.port, 60)
        return f"20 idle tunnels ended after {gone:.0f} s (keepalive)", back
    return play


def gather(address, port, count):
    """So many clients; one half has had an answer, the other begun a request."""
    clients = []
    for number in range(count):
        client = socket.create_connection((address, port), 10)
        if number % 2:
            client.sendall(b"GET http://a.test/hello HTTP/1.1\r\nHost: a.test\r\n\r\n")
            client.recv(4096)
        else:
            client.sendall(b"GET http://a.te")
        clients.append(client)
    return clients


def clients_vanish(cable, count=500):
    def play(proxy):
        before = proxy.held()
        command = [*cable.within_far, PYTHON, __file__, "--crowd", str(proxy.port), str(count)]
        crowd = subprocess.Popen(command, stdout=subprocess.PIPE)
        expect("the clients", crowd.stdout.readline() == b"here\n")
        cable.cut()
        crowd.kill()  # its kernel's FINs and resets go nowhere
        crowd.wait()
        there = proxy.held()
        expect(f"{there[0]} descriptors for {count} clients", there[0] >= before[0] + count)
        answers = {get(proxy.port, proxy.bypassed) for _ in range(20)}
        expect(f"{answers} for those who are still here", answers == {"200"})
        begin = time.monotonic()
        until("half a request is given up", 60, lambda: proxy.held()[0] <= before[0] + count // 2 + 20)
        heads = time.monotonic() - begin
        seen = f"others: nothing. Half of a request: given up after {heads:.0f} s"
        if LONG:
            until("the silent are found out", 200, lambda: proxy.held()[0] <= before[0] + 20)
            seen += f"; silent ones: after {time.monotonic() - begin:.0f} s (keepalive)"
        else:
            # Their kernel is back and says that it knows nobody of that name.
            cable.mend()
            seen += "; silent ones: at the first probe (keepalive, a minute)"
            until("the silent are found out", 90, lambda: proxy.held()[0] <= before[0] + 20)
        return seen, 0.0
    return play


# ---- names -------------------------------------------------------------------------------------

class Names(threading.Thread):
    """A DNS server for one name. `address`: what it stands for, None: no such name, "": no answer."""

    def __init__(self):
        super().__init__(daemon=True)
        self.address = "127.0.0.2"
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.53", 53))
        path = os.path.join(STATE, "resolv.conf")
        with open(path, "w") as file:
            print("nameserver 127.0.0.53\noptions timeout:1 attempts:2", file=file)
        subprocess.run(["mount", "--bind", path, os.path.realpath("/etc/resolv.conf")], check=True)
        self.start()

    def run(self):
        while True:
            query, client = self.socket.recvfrom(512)
            address = self.address
            if address == "":
                continue
            end = query.index(b"\0", 12) + 5
            kind = struct.unpack(">H", query[end - 4:end - 2])[0]
            answers = b""
            if address and kind == 1:
                answers = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + socket.inet_aton(address)
            flags = 0x8180 if address else 0x8183
            head = query[:2] + struct.pack(">HHHHH", flags, 1, bool(answers), 0, 0)
            self.socket.sendto(head + query[12:end] + answers, client)


def names_fail(names, parent, answer_to_names, words):
    def play(proxy):
        resting = Client(proxy.port)
        expect("a first answer", resting.send("GET", "http://a.test/hello").answer() == "200")
        parent.kill()
        parent.start()  # no connection is left in the pool
        names.address = answer_to_names
        begin = time.monotonic()
        answer = get(proxy.port)
        seconds = time.monotonic() - begin
        expect(f"{answer} without a name", answer in ("502", "504"))
        others = get(proxy.port, proxy.bypassed)
        expect(f"{others} for one that needs no name", others == "200")
        names.address = "127.0.0.2"
        back = normal(proxy.port)
        resting.close()
        return words.format(answer, seconds), back
    return play


def names_change(names, parent, other):
    def play(proxy):
        parent.kill()
        other.port = parent.port
        other.start()
        names.address = other.address
        back = normal(proxy.port)
        other.kill()
        names.address = parent.address
        parent.start()
        return "nothing: the next connection goes to the new address", back
    return play


# ---- this machine ------------------------------------------------------------------------------

def disk_full(folder):
    def play(proxy):
        filler = os.path.join(folder, "filler")
        with open(filler, "wb", buffering=0) as file:
            try:
                while file.write(bytes(512)):
                    pass
            except OSError:
                pass
        answers = {get(proxy.port) for _ in range(300)}
        expect(f"{answers} with a full disk", answers == {"200"})
        size = os.path.getsize(os.path.join(folder, "url.log"))
        os.remove(filler)
        back = normal(proxy.port)
        until("lines again", 5, lambda: os.path.getsize(os.path.join(folder, "url.log")) > size)
        said = open(os.path.join(STATE, "log", "ntlmaps")).read().count("lines are lost")
        expect(f"{said} messages about it", 0 < said < 20)
        return f"nothing; {said} log lines about 300 that are lost", back
    return play


def stopped(seconds):
    def play(proxy):
        running = Client(proxy.port, seconds + 30).send("GET", "http://a.test/slow/1000000/1")
        time.sleep(0.3)
        proxy.process.send_signal(signal.SIGSTOP)
        waiting = [Client(proxy.port, seconds + 30).send("GET", "http://a.test/hello") for _ in range(50)]
        time.sleep(seconds)
        proxy.process.send_signal(signal.SIGCONT)
        begin = time.monotonic()
        answers = {client.answer() for client in waiting}
        back = time.monotonic() - begin
        expect(f"{answers} for those who waited", answers == {"200"})
        expect("the response that was on its way", running.answer() == "200")
        for client in [*waiting, running]:
            client.close()
        return f"waited for {seconds} s, then 50 of 50 were served and the running response was whole", back
    return play


def clock():
    """What the clock of the machine is asked for. It cannot be stepped for one process alone: time
    namespaces leave this one out, and the machine's is not ours."""
    for folder, _, files in os.walk(SOURCES):
        for file in files:
            text = open(os.path.join(folder, file)).read().partition("#[cfg(test)]\nmod ")[0]
            uses = re.findall(r"^.*SystemTime::.*$", text, re.M)
            expect(f"{file} asks the clock", not uses or file == "sys.rs" and len(uses) == 2)
    print("| clock stepped by hours | (read in the code: only log lines and the time in an NTLMv2 response "
          "without one of the server's ask the clock; all waiting is monotonic) | - | - |", flush=True)


# ---- the domain --------------------------------------------------------------------------------

def domain_restarted(proxy):
    conf = os.path.join(STATE, "samba", "smb.conf")
    pid = int(open(os.path.join(STATE, "pids", "samba")).read().split()[0])
    kept = Client(proxy.port).send("GET", ORIGIN + "/")
    expect("a first answer", kept.answer() == "200")
    subprocess.run(["pkill", "-TERM", "-s", str(pid)], check=False)  # the session that lib.sh gave it
    until("samba ends", 20, lambda: not listens("127.0.0.1", 389))
    old = kept.send("GET", ORIGIN + "/").answer()
    burst = [Client(proxy.port, 40).send("GET", ORIGIN + "/") for _ in range(4)]
    answers = sorted({client.answer() for client in burst})
    expect("a connection that had logged in", old == "200")
    start("samba", "samba", "--foreground", "--no-process-group", "-s", conf)
    until("winbindd answers", 60, lambda: subprocess.run(
        ["wbinfo", "-p"], capture_output=True, timeout=20).returncode == 0)
    begin = time.monotonic()
    until("a new login", 120, lambda: fresh(proxy) == "200")
    back = time.monotonic() - begin
    bad = subprocess.run([PYTHON, os.path.join(HERE, "domain.py"), conf, "bad-passwords", "alice"],
                         capture_output=True, text=True, timeout=30).stdout.strip()
    expect(f"{bad} bad logons counted", bad == "0")
    for client in [kept, *burst]:
        client.close()
    return f"logged-in connections: nothing; new logins {'/'.join(answers)}; 0 bad logons counted", back


def fresh(proxy):
    """A request that cannot do without a new login."""
    both = [Client(proxy.port, 40).send("GET", ORIGIN + "/") for _ in range(8)]
    answers = {client.answer() for client in both}
    for client in both:
        client.close()
    return "200" if answers == {"200"} else "not yet"


def main():
    print("| accident | what a client saw | normal again after | descriptors, threads, memory |\n|---|---|---|---|")
    parent = Parent()
    log_folder = os.path.join(STATE, "tiny")
    os.mkdir(log_folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", log_folder], check=True)
    bypassed = "http://127.0.0.1:%s/" % open(os.path.join(STATE, "origin.ports")).read().split()[0]
    bypass = "HOSTS_TO_BYPASS_PARENT_PROXY: 127.0.0.0/8"
    proxy = Proxy(f"127.0.0.1:{parent.port}", f"URL_LOG: {log_folder}/url.log")
    row("parent killed in a response", proxy, killed_in_response(parent, "half"))
    row("the same, chunked", proxy, killed_in_response(parent, "half-chunked"))
    row("parent killed in a request's body", proxy, killed_in_body(parent))
    row("parent killed in a handshake", proxy, killed_in_handshake(parent))
    row("ntlmaps under SIGSTOP", proxy, stopped(60 if LONG else 5))
    row("disk full (URL_LOG)", proxy, disk_full(log_folder))
    proxy.end()

    cable = Cable()
    far = Parent(FAR, cable.within_far)
    proxy = Proxy(f"{FAR}:{far.port}", "PARENT_PROXY_TIMEOUT: 2", "ALLOW_EXTERNAL_CLIENTS: 1", bypass)
    proxy.bypassed = bypassed
    row("parent's cable cut", proxy, cable_cut(cable, 3))
    row("the same, with tunnels", proxy, cable_cut_with_tunnels(cable, 5))
    if LONG:
        row("the same, for good", proxy, cable_cut_for_good(cable))
    row("500 clients vanish", proxy, clients_vanish(cable), crowd=500)
    proxy.end()

    names, other = Names(), Parent("127.0.0.3")
    other.kill()
    named = Parent("127.0.0.2")
    proxy = Proxy(f"parent.test:{named.port}", bypass)
    proxy.bypassed = bypassed
    row("DNS: no such name", proxy, names_fail(names, named, None, "{} at once; who needs no name: nothing"))
    row("DNS: no answer", proxy, names_fail(names, named, "", "{} after {:.0f} s (resolv.conf); who needs no name: nothing"))
    row("DNS: another address", proxy, names_change(names, named, other))
    proxy.end()

    proxy = Proxy(f"127.0.0.1:{SQUID_PORT}", account=("CORP\\alice", PASSWORD))
    proxy.url = ORIGIN + "/"
    row("domain controller restarted", proxy, domain_restarted)
    proxy.end()
    try:
        clock()
    except Wrong as error:
        failures.append(f"clock: {error}")
    for name in failures:
        print(f"FAILED: {name}", file=sys.stderr)
    sys.exit(bool(failures))


if sys.argv[1] == "--crowd":
    crowd = gather(NEAR, int(sys.argv[2]), int(sys.argv[3]))
    print("here", flush=True)
    time.sleep(3600)
main()
