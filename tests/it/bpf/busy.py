"""Connections that never rest, whose listener has gone: nothing but the
kernel's counters tells who opened them. The active ends are at 127.0.0.2.

Run under `unshare --net`; prints `ready` and goes on until its input ends.
"""

import random
import socket
import subprocess
import sys
import threading

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
if DROPS:  # Set by the test, above.
    shape = "tc qdisc add dev lo root tbf rate 20mbit burst 70k limit 80k"
    subprocess.run(shape.split(), check=True)
pairs = []
for number in range(24):
    # The second half are children of a listener without a backlog.
    if number % 12 == 0:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 8001 + number))
        listener.listen(64 if number == 0 else 0)
    client = socket.socket()
    # No SOCK_BINDPORT_LOCK: the kernel chooses the port.
    client.bind(("127.0.0.2", 0))
    client.connect(listener.getsockname())
    pairs.append((client, listener.accept()[0]))
    if number % 12 == 11:
        listener.close()


def write(end, sizes):
    while True:
        end.sendall(b"x" * random.choice(sizes))


def read(end, most):
    while end.recv(most):
        pass


def echo(end):
    while byte := end.recv(1):
        end.sendall(byte)


def run(work, *arguments):
    threading.Thread(target=work, args=arguments, daemon=True).start()


for number, (client, server) in enumerate(pairs):
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    kind = number % 4
    if kind == 0:
        # One byte to and fro.
        run(echo, client)
        run(echo, server)
        client.sendall(b"x")
    elif kind == 1:
        # All that fits, read slowly: always something queued and in flight.
        run(write, client, [100_000])
        run(read, server, 1000)
    elif kind == 2:
        # Small ones one after the other, from the passive end.
        run(write, server, [1, 1, 1, 2, 5])
        run(read, client, 65536)
    else:
        # Nobody reads: the window is closed and probed.
        run(write, random.choice([client, server]), [1, 1000])
print("ready", flush=True)
sys.stdin.read()
