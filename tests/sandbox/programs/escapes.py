"""Programs that try to get out. Each prints ``held`` only if it ran to its end and was kept in."""

from __future__ import annotations

from tests.sandbox.programs.case import script

# What an attempt returns counts as success unless it is None, False or -1; these errors are the walls.
_ATTEMPT = """
import ctypes, os, sys, socket, signal
libc = ctypes.CDLL(None, use_errno=True)
def attempt():
    {body}
try:
    got = attempt()
except (OSError, RuntimeError) as error:
    got = None
print("held" if got is None or got is False or got == -1 else f"escaped: {{got!r}}"[:200])
"""

_BODIES = {
    "reads /etc/passwd": "return open('/etc/passwd').read()",
    "reads /etc/hostname": "return open('/etc/hostname').read()",
    "reads /root": "return os.listdir('/root/.ssh') or open('/root/.bashrc').read()",
    "lists the root directory's secrets": "return os.listdir('/home') or None",
    "lists the host's /tmp": "return [n for n in os.listdir('/tmp') if n not in ('work', 'stdin')] or None",
    "reads its parent's environment": "return open(f'/proc/{os.getppid()}/environ').read()",
    "reads process 1's command line": "return open('/proc/1/cmdline').read()",
    "reads its own command line": "return open('/proc/self/cmdline').read()",
    "lists processes": "return os.listdir('/proc')",
    "reads kernel settings": "return open('/proc/sys/kernel/hostname').read()",
    "reads /sys": "return os.listdir('/sys')",
    "has an environment": "return dict(os.environ) or None",
    "finds the environment in memory": (
        "libc.getenv.restype = ctypes.c_char_p\n"
        "    return next(filter(None, map(libc.getenv, (b'HOME', b'PATH', b'USER', b'SECRET_TOKEN'))), None)"
    ),
    "uses an open file that is not its own": (
        "found = []\n"
        "    for fd in range(3, 1024):\n"
        "        try: found.append(os.fstat(fd))\n"
        "        except OSError: pass\n"
        "    return found or None"
    ),
    "walks up by ..": "os.chdir('../../../../..')\n    return 'etc' in os.listdir('.') and open('etc/passwd').read()",
    "follows a link of its own": "os.symlink('/etc/passwd', 'link')\n    return open('link').read()",
    "makes a hard link": "os.link('/etc/passwd', 'link')\n    return open('link').read()",
    "reads a block device": "return open('/dev/vda', 'rb').read(512) or open('/dev/sda', 'rb').read(512)",
    "reads kernel memory": "return open('/dev/mem', 'rb').read(16)",
    "opens a terminal": "return os.open('/dev/tty', os.O_RDWR)",
    "makes a device": "return os.mknod('disk', 0o60600, os.makedev(254, 0)) is None",
    "mounts": "return libc.mount(b'proc', b'/tmp', b'proc', 0, None)",
    "unmounts": "return libc.umount2(b'/usr', 2)",
    "changes its root": "return os.chroot('.') is None",
    "makes a user namespace": "return libc.unshare(0x10000000)",
    "makes a mount namespace": "return libc.unshare(0x20000)",
    "clones into a namespace": "return libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)",
    "forks": "return os.fork() >= 0",
    "forks by the system call": "return libc.syscall(57)",
    "spawns": "return os.posix_spawn('/bin/sh', ['sh', '-c', 'true'], {})",
    "runs a shell": "return os.system('true') == 0",
    "runs subprocess": "import subprocess\n    return subprocess.check_output(['ls', '/'])",
    "executes": "os.execv('/usr/bin/env', ['env'])",
    "runs multiprocessing": "import multiprocessing as m\n    m.get_context('fork').Process().start()\n    return True",
    "connects to the network": "return socket.create_connection(('127.0.0.1', 22), 2)",
    "resolves a name": "return socket.getaddrinfo('localhost', 80)",
    "sends a datagram": "return socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 53))",
    "connects to a service": "return socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket') is None",
    "reaches a service from a pair": "return socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b'x', '/dev/log')",
    "listens": "s = socket.socket()\n    s.bind(('0.0.0.0', 0))\n    return s.listen() is None",
    "opens a raw socket": "return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "opens netlink": "return socket.socket(16, socket.SOCK_RAW, 0)",
    "kills its parent": "return os.kill(os.getppid(), signal.SIGKILL) is None",
    "kills everything": "return os.kill(-1, signal.SIGKILL) is None",
    "kills its group": "return os.killpg(0, signal.SIGKILL) is None",
    "kills a thread of its parent": "return libc.syscall(200, os.getppid(), 9)",
    "queues a signal": "return libc.syscall(129, os.getppid(), 9, ctypes.create_string_buffer(128))",
    "signals by file owner": "import fcntl\n    return fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid()) == 0",
    "traces its parent": "return libc.ptrace(16, os.getppid(), 0, 0)",
    "reads its parent's memory": "return libc.process_vm_readv(os.getppid(), bytes(64), 1, bytes(64), 1, 0)",
    "opens its parent by number": "return os.pidfd_open(os.getppid())",
    "limits its parent": "import resource\n    return resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))",
    "becomes root": "os.setuid(0)\n    return os.getuid() == 0 and 'root'",
    "gives itself rights": "return libc.capset(b'\\x22\\x05\\x08\\x20' + bytes(4), b'\\xff' * 24)",
    "raises its priority": "return os.setpriority(os.PRIO_PROCESS, 0, -20) is None",
    "moves to another processor": "return os.sched_setaffinity(0, range(os.cpu_count())) is None",
    "lifts its limits": (
        "import resource\n"
        "    try: return resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)) is None\n"
        "    except ValueError: return None"
    ),
    "uses io_uring": "return libc.syscall(425, 8, ctypes.create_string_buffer(120))",
    "loads a kernel program": "return libc.syscall(321, 0, ctypes.create_string_buffer(120), 120)",
    "makes an anonymous file": "return os.memfd_create('x')",
    "shares memory": "return libc.shmget(0, 4096, 0o1600)",
    "writes to the library": "return open(os.__file__, 'a')",
    "writes to /dev/shm": "return open('/dev/shm/omnithink', 'w')",
    "writes outside": "return open('/var/tmp/omnithink', 'w') or open('/etc/omnithink', 'w')",
    "replaces the interpreter": "return os.rename(sys.executable, sys.executable + '.old') is None",
    "handles files by number": "return libc.syscall(304, -100, ctypes.create_string_buffer(64), 0)",
    "takes away its own filter": "return libc.prctl(22, 0, 0, 0, 0)",
    "outlives its parent": "return libc.prctl(1, 0, 0, 0, 0)",
    "asks the kernel's key ring": "return libc.syscall(250, 0, -3, 0)",
    "opens message queues": "return libc.syscall(68, 1234, 0o1600)",
    "sets the clock": "import time\n    return time.clock_settime(time.CLOCK_REALTIME, 0) is None",
    "reboots": "return libc.reboot(0xCAFEBABE)",
    "names the host": "return socket.sethostname('x') is None",
}


ESCAPES = [script(name, _ATTEMPT.format(body=body), "", "held") for name, body in _BODIES.items()]
