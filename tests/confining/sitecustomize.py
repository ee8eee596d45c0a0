"""Python imports this at its start, if this directory is in PYTHONPATH: only the system calls of a unit from here on.

CONFINE=the allowed system calls by name, as systemd's SystemCallFilter=; others fail with EPERM. As with
MemoryDenyWriteExecute=, memory can't be made executable that is, or was, written. By libseccomp, as systemd does it.
"""

import ctypes
import errno
import mmap
import os
import resource

ALLOW, MASKED_EQUAL = 0x7FFF0000, 7
EXEC_AND_WRITE = mmap.PROT_EXEC | mmap.PROT_WRITE


class Compare(ctypes.Structure):
    _fields_ = (("argument", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def _confine(names: list[str]) -> None:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(0x00050000 | errno.EPERM))

    def allow(name: str, *bits: tuple[int, int]) -> None:
        """Of protection bits `mask`, only those that are `value`."""
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return  # not of this architecture
        one = (Compare * 1)(*(Compare(2, MASKED_EQUAL, mask, value) for mask, value in bits))
        assert library.seccomp_rule_add_array(context, ALLOW, number, len(bits), one) == 0, name

    for name in names:
        if name not in ("mmap", "mprotect", "pkey_mprotect"):
            allow(name)
    for value in (0, mmap.PROT_EXEC, mmap.PROT_WRITE):
        allow("mmap", (EXEC_AND_WRITE, value))
    for name in ("mprotect", "pkey_mprotect"):
        allow(name, (mmap.PROT_EXEC, 0))
    assert library.seccomp_load(context) == 0


resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
_confine(os.environ["CONFINE"].split())
