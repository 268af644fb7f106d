# ruff: noqa
# Hostile class: sockets
# A unix socket without a file.
# checker: `import socket` is not allowed
# bypass: breach
import socket


def reward(s):
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"BREACH", "\0@ABSTRACT@")
    return {"a": s.time_s}
