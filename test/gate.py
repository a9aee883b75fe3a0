# A gate stands between the helper and the journal, and lets one record through
# at a time. While a record is kept in it, the helper is in the step that begins
# with that record: at the latest it waits at its next one.
#
# A line on standard input names the step at whose record the gate is to close, or
# none; what is kept is let through. It says "open" when it is there, and what the
# record says when it has closed. It goes with its standard input.
import array, os, select, socket, sys

SOCKET = "/run/gate/socket"
JOURNAL = "/run/systemd/journal/socket"
QUEUE = "/proc/sys/net/unix/max_dgram_qlen"

os.makedirs(os.path.dirname(SOCKET), exist_ok=True)
if os.path.exists(SOCKET):
    os.unlink(SOCKET)
# How many messages a socket keeps for its reader, beside one: see unix(7). A new
# socket takes the limit over.
usual = open(QUEUE).read()
open(QUEUE, "w").write("0")
gate = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
open(QUEUE, "w").write(usual)
gate.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
gate.bind(SOCKET)
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def let_through():
    data, ancillary, _, _ = gate.recvmsg(1 << 20, 1 << 12)
    try:
        # With the sender's credentials, by which the journal knows its unit.
        journal.sendmsg([data], ancillary, 0, JOURNAL)
    except OSError:
        # The sender is dead.
        journal.sendto(data, JOURNAL)
    for level, kind, numbers in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            for fd in array.array("i", numbers):
                os.close(fd)


step, closed = "", False
say("open")
commands = b""
while True:
    ready, _, _ = select.select([0] if closed else [0, gate], [], [])
    if 0 in ready:
        more = os.read(0, 4096)
        if not more:
            os.unlink(SOCKET)
            while select.select([gate], [], [], 0)[0]:
                let_through()
            sys.exit()
        commands += more
        while b"\n" in commands:
            line, commands = commands.split(b"\n", 1)
            if closed:
                let_through()
            step, closed = line.decode(), False
    elif gate in ready:
        fields = gate.recv(1 << 20, socket.MSG_PEEK).decode(errors="replace").split("\n")
        if step and "APP_ROLLOUT_STEP=" + step in fields:
            closed = True
            say(next(f[len("MESSAGE="):] for f in fields if f.startswith("MESSAGE=")))
        else:
            let_through()
