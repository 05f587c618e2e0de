"""A filter of system calls (seccomp) for programs in the cage.

Name spaces and limits alone leave ways around them, and each of these calls is one: new name spaces (whose owner may
mount file systems of any size), memory that no limit counts (memfd_create, System V memory, message queues), other
processes' memory, keys of the kernel, loading code into the kernel, and kinds of sockets that an empty network name
space does not hold (virtual machines talk to their host over AF_VSOCK). Honest programs use none of them.

Numbers: Linux's ``asm/unistd_64.h`` (x86-64) and ``asm-generic/unistd.h`` (ARM64).
"""

from __future__ import annotations

import errno
import platform
import socket
import struct

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machines that the filter is written for, with their numbers in ``linux/audit.h``."""

DENIED = {
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "syslog": (103, 116),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "personality": (135, 92),
    "fanotify_init": (300, 262),
}
"""Calls that fail with EPERM: their numbers on x86-64 and on ARM64."""

CLONE = (56, 220)
CLONE3 = (435, 435)
SOCKET = (41, 198)
PRLIMIT64 = (302, 261)
NEW_NAMESPACES = 0x7E020000
"""The flags of clone(2) that make a name space: mount, control group, host name, IPC, user, process and network."""
FAMILIES = (int(socket.AF_UNIX), int(socket.AF_INET), int(socket.AF_INET6))
X32 = 0x40000000
"""From here on are x86-64's calls with short pointers, which would pass by the numbers above."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of linux/bpf_common.h
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000


def seccomp_filter(machine: str | None = None) -> bytes:
    """The filter as bubblewrap's ``--seccomp`` reads it: instructions of eight bytes.

    Raises `KeyError` for a machine that is not in `ARCHITECTURES`.
    """
    machine = machine or platform.machine()
    audit = ARCHITECTURES[machine]
    column = list(ARCHITECTURES).index(machine)
    rules: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, X32),
        (_RETURN, 0, 0, _ERROR | errno.EPERM),
    ]
    for numbers in DENIED.values():
        rules += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ERROR | errno.EPERM)]
    # clone3 passes its flags in memory, which a filter cannot read; C libraries then fall back on clone
    rules += [(_EQUAL, 0, 1, CLONE3[column]), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    rules += [  # a process sets its own limits alone, whose number is 0
        (_EQUAL, 0, 4, PRLIMIT64[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 1, 0, 0),
        (_RETURN, 0, 0, _ERROR | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    rules += [
        (_EQUAL, 0, 4, CLONE[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, NEW_NAMESPACES),
        (_RETURN, 0, 0, _ERROR | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    rules += [(_EQUAL, 0, 3 + 2 * len(FAMILIES) - 1, SOCKET[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    for family in FAMILIES:
        rules += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    rules += [(_RETURN, 0, 0, _ERROR | errno.EAFNOSUPPORT), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("<HBBI", *rule) for rule in rules)
