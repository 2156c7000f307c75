"""Traffic of known size, of every kind that streaming counts.

Run under `unshare --net`; prints `ready` once its listeners are there, waits
for a line, and prints `done` after the last byte was read. Holds what is open
until its input ends.
"""

import os
import select
import signal
import socket
import struct
import subprocess
import sys

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
V4, V6 = socket.AF_INET, socket.AF_INET6


def listen(family, address, backlog=64):
    listener = socket.socket(family, TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(backlog)
    return listener


def read(end, size):
    while size:
        got = len(end.recv(size))
        assert got, "the other end has closed"
        size -= got


def pair(listener, source=None):
    client = socket.socket(listener.family, TCP)
    if source:
        client.bind((source, 0))
    client.connect(listener.getsockname())
    return client, listener.accept()[0]


def exchange(one, other, there, back):
    # In pieces, so that neither end waits for the other's window.
    for sender, receiver, size in [(one, other, there), (other, one, back)]:
        while size:
            piece = min(size, 30_000)
            sender.sendall(b"x" * piece)
            read(receiver, piece)
            size -= piece


for command in [
    "ip link set lo up",
    "ip link add here type veth peer name there",
    "ip addr add 10.9.9.1/24 dev here",
    "ip link set here up",
    "ip link set there up",
]:
    subprocess.run(command.split(), check=True)

# Opened before anybody looks: what it carried is not to be counted.
early = listen(V4, ("127.0.0.1", 8000))
before = pair(early, "127.0.0.9")
exchange(*before, 5000, 6000)
plain, plain6 = listen(V4, ("127.0.0.1", 8001)), listen(V6, ("::1", 8002))
# A master that listens and its workers that accept.
shared = listen(V4, ("127.0.0.1", 8003))
for _ in range(2):
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Nothing but the listener, so that only the master holds the rest.
        for end in [*before, early, plain, plain6]:
            end.close()
        while True:
            end = shared.accept()[0]
            read(end, 40)
            end.sendall(b"y" * 50)
            end.close()
full = listen(V4, ("127.0.0.1", 8004), backlog=0)
filling = socket.create_connection(full.getsockname())
service = socket.socket(V4, UDP)
service.bind(("127.0.0.1", 9001))
service6 = socket.socket(V6, UDP)
service6.bind(("::1", 9002))
resolver = socket.socket(V4, UDP)
resolver.bind(("127.0.0.1", 9003))
print("ready", flush=True)
sys.stdin.readline()

exchange(*before, 1000, 2000)
# Short ones, closed by either end first, by RST, and half closed before.
for number in range(300):
    client, server = pair(plain, "127.0.0.2")
    exchange(client, server, 100, 10)
    ends = [client, server] if number % 2 else [server, client]
    if number % 3 == 0:
        ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if number % 3 == 1:
        ends[0].shutdown(socket.SHUT_WR)
        assert ends[1].recv(1) == b""
    for end in ends:
        end.close()
# Nothing is said at all.
for _ in range(5):
    client, server = pair(plain, "127.0.0.3")
    client.close()
    server.close()
# Much, and it stays open.
held = pair(plain, "127.0.0.4")
exchange(*held, 3_000_001, 2_000_003)
for _ in range(20):
    client, server = pair(plain6)
    exchange(client, server, 7, 8)
    client.close()
    server.close()
for _ in range(40):
    client = socket.create_connection(shared.getsockname())
    client.sendall(b"x" * 40)
    read(client, 50)
    assert client.recv(1) == b""
    client.close()
# One of a process that is gone when anybody asks for it.
child = subprocess.Popen(["bash", "-c", "printf %123s > /dev/tcp/127.0.0.1/8001"])
brief = plain.accept()[0]
read(brief, 123)
assert brief.recv(1) == b""
brief.close()
child.wait()

# Refused; given up; unanswered; no way to be found.
for _ in range(7):
    assert socket.socket(V4, TCP).connect_ex(("127.0.0.1", 8099)) != 0


def begin(address, attempts=1):
    end = socket.socket(V4, TCP)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, attempts)
    end.setblocking(False)
    end.connect_ex(address)
    return end


# The queue of a listener without a backlog takes one.
begin(full.getsockname()).close()
waiting = [begin(full.getsockname()) for _ in range(2)]
waiting += [begin(("10.9.9.2", 80), attempts=5) for _ in range(3)]
while waiting:
    ready = select.select([], waiting, [], 30)[1]
    assert ready, "connecting neither succeeds nor fails"
    for end in ready:
        waiting.remove(end)
        end.close()

# Datagrams: from a client that is not connected, and from one that is.
loose = socket.socket(V4, UDP)
for _ in range(10):
    loose.sendto(b"q" * 100, service.getsockname())
    data, source = service.recvfrom(1000)
    service.sendto(b"r" * 200, source)
    loose.recvfrom(1000)
for family, server in [(V4, service), (V6, service6)]:
    tied = socket.socket(family, UDP)
    tied.connect(server.getsockname())
    for _ in range(3):
        tied.send(b"q" * 11)
        data, source = server.recvfrom(1000)
        server.sendto(b"r" * 12, source)
        tied.recv(1000)
# As resolvers ask: tied and told of the peer all the same (glibc), and from a
# port of their own choice, tied or not.
for chosen, fixed, told in [(0, 1, 1), (2053, 1, 0), (40053, 1, 1), (2054, 0, 1), (40054, 0, 1)]:
    query = socket.socket(V4, UDP)
    if chosen:
        query.bind(("127.0.0.1", chosen))
    if fixed:
        query.connect(resolver.getsockname())
        query.send(b"q" * 13)
    else:
        query.sendto(b"q" * 13, resolver.getsockname())
    data, source = resolver.recvfrom(1000)
    resolver.sendto(b"r" * 14, source)
    query.recvfrom(1000) if told else query.recv(1000)
    query.close()
# Its own peer, as PostgreSQL before version 15.
alone = socket.socket(V4, UDP)
alone.bind(("127.0.0.1", 0))
alone.connect(alone.getsockname())
alone.send(b"s" * 15)
alone.recv(1000)
# No listener says which end of these is the service; who sends first does.
asking = []
for chosen, fixed in [(2055, 1), (40055, 1), (2056, 0)]:
    query = socket.socket(V4, UDP)
    query.bind(("10.9.9.1", chosen))
    if fixed:
        query.connect(("10.9.9.3", 53))
    query.send(b"q" * 13) if fixed else query.sendto(b"q" * 13, ("10.9.9.3", 53))
    asking.append(query)
print("done", flush=True)
sys.stdin.read()
os.killpg(0, signal.SIGTERM)
