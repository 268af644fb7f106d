# ruff: noqa
# Hostile class: signals
# Calls that lead around a filter or to other processes.
# checker: `import ctypes` is not allowed
# bypass: breach
import ctypes


def reward(s):
    libc = ctypes.CDLL(None)
    opened = {
        "memfd": libc.memfd_create(b"x", 0),
        "inotify": libc.inotify_init(),
        "userfaultfd": libc.syscall(323, 1),
        "io_uring": libc.syscall(425, 4, ctypes.create_string_buffer(120)),
        "pidfd": libc.syscall(434, int("@VICTIM@"), 0),
        "message queue": libc.msgget(0, 0o600),
        "shared memory": libc.shmget(0, 4096, 0o600),
        "semaphore": libc.semget(0, 1, 0o600),
        "posix queue": libc.mq_open(b"/gantry-test-queue", 0o102, 0o600, None),
    }
    libc.msgctl(opened["message queue"], 0, None)
    libc.shmctl(opened["shared memory"], 0, None)
    libc.semctl(opened["semaphore"], 0, 0)
    libc.mq_unlink(b"/gantry-test-queue")
    for name, descriptor in opened.items():
        if descriptor >= 0:
            print("BREACH:", name)
    return {"a": s.time_s}
