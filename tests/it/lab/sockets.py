"""Sockets that no off-the-shelf program opens just so.

  sockets.py serve ADDRESS PORT [reuseport] [prefork=N] [udp] [comm=HEX]
  sockets.py hold  ADDRESS PORT [count=N] [from=ADDRESS/PORT] [udp] [comm=HEX]
  sockets.py open  ADDRESS PORT          (begins to connect, and leaves it there)
  sockets.py stall ADDRESS PORT          (listens, never accepts)
  sockets.py app   ADDRESS PORT REDIS POSTGRES
  sockets.py dns   ADDRESS               (asks over UDP and over TCP)

All traffic goes on until the process is killed.
"""

import http.server
import os
import socket
import struct
import sys
import threading
import time

PAUSE = 0.1


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def rename(options):
    if "comm" in options:
        with open("/proc/self/comm", "wb") as comm:
            comm.write(bytes.fromhex(options["comm"]))


def echo(connection):
    while data := connection.recv(4096):
        connection.sendall(data)
    connection.close()


def accept(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()


def serve(address, port, **options):
    if "udp" in options:
        bound = socket.socket(family(address), socket.SOCK_DGRAM)
        bound.bind((address, int(port)))
        while True:
            data, peer = bound.recvfrom(4096)
            bound.sendto(data, peer)
    listener = socket.socket(family(address), socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if "reuseport" in options:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family(address) == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((address, int(port)))
    listener.listen(64)
    children = int(options.get("prefork", 0))
    for _ in range(children):
        if os.fork() == 0:
            accept(listener)
    if children:
        os.wait()
    accept(listener)


def hold(address, port, **options):
    kind = socket.SOCK_DGRAM if "udp" in options else socket.SOCK_STREAM
    held = []
    for _ in range(int(options.get("count", 1))):
        one = socket.socket(family(address), kind)
        if "from" in options:
            own, own_port = options["from"].rsplit("/", 1)
            one.bind((own, int(own_port)))
        one.settimeout(20)
        one.connect((address, int(port)))
        held.append(one)
    while True:
        for one in held:
            one.send(b"x")
            one.recv(4096)
        time.sleep(PAUSE)


def begin(address, port):
    one = socket.socket(family(address), socket.SOCK_STREAM)
    one.setblocking(False)
    one.connect_ex((address, int(port)))
    threading.Event().wait()


def stall(address, port):
    listener = socket.socket(family(address), socket.SOCK_STREAM)
    listener.bind((address, int(port)))
    listener.listen(64)
    threading.Event().wait()


def postgres(address):
    """A connection as the protocol's version 3 begins one, without a password."""
    one = socket.create_connection((address, 5432))
    settings = b"user\0postgres\0database\0postgres\0\0"
    one.sendall(struct.pack("!ii", 8 + len(settings), 196608) + settings)
    ready(one)
    return one


def ready(one):
    stream = one.makefile("rb")
    while True:
        kind, length = struct.unpack("!ci", stream.read(5))
        body = stream.read(length - 4)
        if kind == b"E":
            raise RuntimeError(body)
        if kind == b"Z":
            return


def app(address, port, redis_address, postgres_address):
    store = socket.create_connection((redis_address, 6379))
    base = postgres(postgres_address)
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            with lock:
                store.sendall(b"PING\r\n")
                body = store.recv(4096)
                query = b"select 1\0"
                base.sendall(b"Q" + struct.pack("!i", 4 + len(query)) + query)
                ready(base)
            time.sleep(PAUSE)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer((address, int(port)), Handler).serve_forever()


def dns(address):
    name = b"".join(bytes([len(part)]) + part for part in (b"web", b"lab", b"test", b""))
    query = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + name + struct.pack("!2H", 1, 1)
    datagrams = socket.socket(family(address), socket.SOCK_DGRAM)
    datagrams.connect((address, 53))
    datagrams.settimeout(20)
    stream = socket.create_connection((address, 53), timeout=20)
    while True:
        datagrams.send(query)
        answer = datagrams.recv(4096)
        stream.sendall(struct.pack("!H", len(query)) + query)
        assert stream.recv(4096)[2:] == answer, "both ways, the answer is the same"
        # dnsmasq closes a TCP connection after 100 queries.
        time.sleep(3)


def main(mode, *words):
    modes = {"serve": serve, "hold": hold, "open": begin, "stall": stall, "app": app, "dns": dns}
    if mode in ("serve", "hold"):
        options = dict(word.partition("=")[::2] for word in words[2:])
        rename(options)
        modes[mode](*words[:2], **options)
    else:
        modes[mode](*words)


main(*sys.argv[1:])
