"""Sockets of every kind that a probe tells apart, in a namespace of their own.

Run under `unshare --net`; prints `ready` and holds them until its input ends.
"""

import os
import signal
import socket
import subprocess
import sys
import threading

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
V4, V6 = socket.AF_INET, socket.AF_INET6
held = []


def tcp_listener(family, address, v6_only=False, backlog=64, option=socket.SO_REUSEADDR):
    listener = socket.socket(family, TCP)
    listener.setsockopt(socket.SOL_SOCKET, option, 1)
    if family == V6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6_only))
    listener.bind(address)
    listener.listen(backlog)
    held.append(listener)
    return listener


def pair(listener, address, source=None, family=None, option=socket.SO_REUSEADDR):
    client = socket.socket(family or listener.family, TCP)
    if source:
        client.setsockopt(socket.SOL_SOCKET, option, 1)
        client.bind(source)
    client.connect(address)
    server = listener.accept()[0]
    held.extend([client, server])
    return client, server


def udp(family, bind=None, connect=None):
    datagram = socket.socket(family, UDP)
    if bind:
        datagram.bind(bind)
    if connect:
        datagram.connect(connect)
    held.append(datagram)
    return datagram


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
# Idle, and 3 more of them.
plain = tcp_listener(V4, ("127.0.0.1", 8001))
for _ in range(4):
    pair(plain, ("127.0.0.1", 8001))
# Traffic both ways, all of it read.
for size in [1, 2, 1000, 100_000]:
    client, server = pair(plain, ("127.0.0.1", 8001), source=("127.0.0.2", 0))
    for one, other in [(client, server), (server, client)]:
        one.sendall(b"x" * size)
        got = 0
        while got < size:
            got += len(other.recv(size))
# A wildcard of both families: IPv4 comes to it mapped.
both = tcp_listener(V6, ("::", 8002))
pair(both, ("127.0.0.1", 8002), family=V4)
pair(both, ("::1", 8002))
tcp_listener(V6, ("::", 8003), v6_only=True)
# Opened from the port that listens.
tcp_listener(V4, ("127.0.0.1", 8004), option=socket.SO_REUSEPORT)
pair(plain, ("127.0.0.1", 8001), source=("127.0.0.1", 8004), option=socket.SO_REUSEPORT)
# The listener has gone.
gone = tcp_listener(V4, ("127.0.0.1", 8005))
pair(gone, ("127.0.0.1", 8005))
gone.close()
held.remove(gone)
# Half closed, from either end.
for end in [0, 1]:
    pair(plain, ("127.0.0.1", 8001), source=("127.0.0.3", 0))[end].shutdown(socket.SHUT_WR)
# Nobody answers: the queue of one is full.
full = tcp_listener(V4, ("127.0.0.1", 8006), backlog=0)
for _ in range(2):
    waiting = socket.socket(V4, TCP)
    waiting.setblocking(False)
    waiting.connect_ex(("127.0.0.1", 8006))
    held.append(waiting)
waiting = socket.socket(V4, TCP)
waiting.setblocking(False)
waiting.connect_ex(("127.0.0.1", 8006))
held.append(waiting)
# Datagrams: a service, its client, one that is connected at both ends, a port
# that the kernel chose, a connected pair over IPv6, a socket of no port.
udp(V4, bind=("127.0.0.1", 9001))
udp(V4, connect=("127.0.0.1", 9001))
udp(V4, bind=("127.0.0.1", 9002), connect=("127.0.0.1", 9001))
udp(V4, bind=("0.0.0.0", 0))
udp(V6, bind=("::1", 9003))
udp(V6, connect=("::1", 9003))
udp(V4)
# The same descriptor twice, and one that a thread shares with its process.
held.append(pair(plain, ("127.0.0.1", 8001), source=("127.0.0.4", 0))[0].dup())
threading.Thread(target=signal.pause, daemon=True).start()
# A connection and a listener that a child shares.
pair(plain, ("127.0.0.1", 8001), source=("127.0.0.5", 0))
tcp_listener(V4, ("127.0.0.1", 8007))
for number in range(2):
    if os.fork() == 0:
        if number == 1:
            # This one has its own connections beside.
            pair(plain, ("127.0.0.1", 8001), source=("127.0.0.6", 0))
        sys.stdin.read()
        os._exit(0)
print("ready", flush=True)
sys.stdin.read()
