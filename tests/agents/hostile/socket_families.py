# ruff: noqa
# Hostile class: sockets
# Netlink, packet, vsock, and a pair.
# checker: `import socket` is not allowed
# bypass: breach
import socket


def reward(s):
    for family, kind in ((16, 3), (17, 3), (40, 1), (38, 5), (10, 2), (1, 1)):
        try:
            socket.socket(family, kind)
            print("BREACH: socket family", family)
        except OSError:
            pass
    try:
        socket.socketpair()
        print("BREACH: socketpair")
    except OSError:
        pass
    return {"a": s.time_s}
