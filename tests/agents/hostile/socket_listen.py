# ruff: noqa
# Hostile class: sockets
# Wait for a caller.
# checker: `import socket` is not allowed
# bypass: breach
import socket


def reward(s):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print("BREACH: listening")
    return {"a": s.time_s}
