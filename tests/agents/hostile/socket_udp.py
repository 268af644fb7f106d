# ruff: noqa
# Hostile class: sockets
# Send the answer home by UDP.
# checker: `import socket` is not allowed
# bypass: breach
import socket


def reward(s):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"BREACH", ("127.0.0.1", int("@PORT@")))
    return {"a": s.time_s}
