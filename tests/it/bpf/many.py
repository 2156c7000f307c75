"""Datagrams to far too many peers, and one connection beside.

Run under `unshare --net`; PEERS is set by the test, above. Prints `ready`, and
`done` after each line of its input.
"""

import socket
import subprocess
import sys

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
listener = socket.socket()
listener.bind(("127.0.0.1", 8001))
listener.listen(1)
client = socket.create_connection(listener.getsockname())
server = listener.accept()[0]
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
sys.stdin.readline()
for number in range(PEERS):
    # Nobody is there; a socket that is not connected hears nothing of it.
    # 127.0.x.x is left to the connection.
    peer = f"127.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    datagrams.sendto(b"x", (peer, 9))
print("done", flush=True)
sys.stdin.readline()
client.sendall(b"hello")
assert server.recv(5) == b"hello"
print("done", flush=True)
sys.stdin.read()
