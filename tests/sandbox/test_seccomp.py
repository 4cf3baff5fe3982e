"""The filter of system calls on every architecture, by an interpreter of its own, and what it keeps of real files."""

from __future__ import annotations

import errno
import json
import struct
from pathlib import Path

import pytest

from omnithink_pl.sandbox.seccomp import system_call_filter
from tests.sandbox.metadata import NUMBERS
from tests.sandbox.users import TIERS, USERS, run_as

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # <linux/audit.h>
I386, X32 = 0x40000003, 0x40000000  # the other ways to number calls on an x86_64
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
OPEN = {"x86_64": {"open": (2, 1), "openat": (257, 2)}, "aarch64": {"openat": (56, 2)}}  # number, argument of its flags
HARMLESS = {"x86_64": {"read": 0, "fstat": 5, "futex": 202}, "aarch64": {"read": 63, "fstat": 80, "futex": 98}}
OWN = {"chmod", "fchmod", "fchmodat", "utimensat", "truncate"}  # of a program's own files


def decide(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """Return the action of a filter, as the kernel interprets it (classic BPF)."""
    values = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(value & (1 << 64) - 1 for value in values))
    code = list(struct.iter_unpack("=HBBI", program))
    tests = {0x10: lambda a, k: a == k, 0x20: lambda a, k: a > k, 0x30: lambda a, k: a >= k, 0x40: lambda a, k: a & k}
    accumulator = place = 0
    while True:
        operation, yes, no, constant = code[place]
        place += 1
        if operation == 0x20:  # load a word
            accumulator = struct.unpack_from("=I", data, constant)[0]
        elif operation == 0x54:  # and
            accumulator &= constant
        elif operation == 0x05:  # jump
            place += constant
        elif operation & 0x07 == 0x05:  # jump on a condition
            place += yes if tests[operation & 0xF0](accumulator, constant) else no
        elif operation == 0x06:  # return
            return int(constant)
        else:
            raise AssertionError(f"unknown instruction {operation:#x}")


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("own_files", [True, False])
def test_law_10_no_call_that_changes_metadata_is_permitted_but_on_own_files(name: str, own_files: bool) -> None:
    program, architecture = system_call_filter(own_files, ARCHITECTURES[name]), ARCHITECTURES[name]
    permitted = {call for call, number in NUMBERS[name].items() if decide(program, architecture, number) == ALLOW}
    assert permitted == (OWN & NUMBERS[name].keys() if own_files else set())
    refusals = {decide(program, architecture, number) for number in NUMBERS[name].values()} - {ALLOW}
    assert refusals <= {ERRNO | errno.EPERM, ERRNO | errno.ENOSYS}  # and no program is killed for trying
    assert {decide(program, architecture, number) for number in HARMLESS[name].values()} == {ALLOW}


@pytest.mark.parametrize("own_files", [True, False])
def test_no_other_way_to_number_calls_is_open(own_files: bool) -> None:
    program = system_call_filter(own_files, ARCHITECTURES["x86_64"])
    assert ALLOW not in {decide(program, I386, number) for number in range(500)}
    assert ALLOW not in {decide(program, ARCHITECTURES["x86_64"], X32 | number) for number in range(600)}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_file_that_is_not_written_to_is_not_truncated_either(name: str) -> None:
    truncate = 0o1000
    for number, argument in OPEN[name].values():
        for own_files in (True, False):
            program = system_call_filter(own_files, ARCHITECTURES[name])
            allowed = {
                flags & 3
                for access in range(4)
                for flags in (access | truncate | 0o100, 1 << 40 | access | truncate)
                if decide(program, ARCHITECTURES[name], number, *[0] * argument, flags) == ALLOW
            }
            assert allowed == ({0, 1, 2, 3} if own_files else {1, 2})  # writing is Landlock's to judge
            assert decide(program, ARCHITECTURES[name], number, *[0] * argument, 0o2000000) == ALLOW


@pytest.mark.parametrize("user", USERS)
def test_the_program_of_the_next_test_changes_all_that_it_can(user: str, copy: Path) -> None:
    changed = set(json.loads(run_as(user, "-m", "tests.sandbox.metadata", "none", cwd=copy).stdout))
    every = {f"{kind}: {name}" for kind in ("folder", "file") for name in ("mode", "mtime", "ctime", "attributes")}
    assert changed >= every | {"file: size"}


@pytest.mark.parametrize(("user", "tier"), TIERS)
def test_law_10_a_program_changes_no_file_of_its_user(user: str, tier: str, copy: Path) -> None:
    done = run_as(user, "-m", "tests.sandbox.metadata", tier, cwd=copy)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
