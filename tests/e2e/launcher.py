"""Opens a TCP and a Unix socket and passes them to the daemon, as systemd does: again and again, one run after another.

Arguments: the Unix socket's path, then the daemon's command; LISTEN_ADDRESS in it stands for the TCP socket's address.
Standard input has a line for each restart; at its end the daemon is ended for good.
"""

import os
import signal
import socket
import sys

feed = socket.socket(socket.AF_UNIX)
feed.bind(sys.argv[1])
feed.listen(4096)
listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
address = "127.0.0.1:%d" % listener.getsockname()[1]
command = [address if word == "LISTEN_ADDRESS" else word for word in sys.argv[2:]]


def start():
    child = os.fork()
    if child:
        return child
    # Beyond the descriptors that are passed, so that none is overwritten.
    copies = [os.dup(each.fileno()) for each in (listener, feed)]
    copies = [os.dup2(copy, 20 + place) for place, copy in enumerate(copies)]
    for place, copy in enumerate(copies):
        os.dup2(copy, 3 + place, inheritable=True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="watchers:feed")
    os.execv(command[0], command)


def stop(child):
    os.kill(child, signal.SIGTERM)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        sys.exit("the daemon ended with %d" % status)


print(address, flush=True)
child = start()
for _ in sys.stdin:
    stop(child)
    child = start()
    print("restarted", flush=True)
stop(child)
print("ended", flush=True)
