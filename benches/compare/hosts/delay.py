#!/usr/bin/env python3
"""A long path between two network namespaces: an interface in each, and every packet arrives so many milliseconds later.

    delay.py SPACE-A SPACE-B MILLISECONDS      until it is ended; 10.99.0.1 and 10.99.0.2, both interfaces are called slow0"""
import collections
import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI, CLONE_NEWNET = 0x400454CA, 0x0001, 0x1000, 0x40000000
MTU = 65000


def interface(space, address):
    """An interface of the namespace whose packets we read and write."""
    with open(f"/run/netns/{space}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {space}")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"slow0", IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "address", "add", f"{address}/24", "dev", "slow0"], check=True)
    subprocess.run(["ip", "link", "set", "slow0", "mtu", str(MTU), "txqueuelen", "10000", "up"], check=True)
    return tun


def main():
    first, second, delay = sys.argv[1], sys.argv[2], float(sys.argv[3]) / 1000
    ends = [interface(first, "10.99.0.1"), interface(second, "10.99.0.2")]
    print("ready", flush=True)
    ways = [(ends[0], ends[1], collections.deque()), (ends[1], ends[0], collections.deque())]
    while True:
        due = [way[2][0][0] for way in ways if way[2]]
        left = max(0.0, min(due) - time.monotonic()) if due else None
        # A timer is late by 50 µs here, which is a part of the path.
        select.select(ends, [], [], left)
        for here, there, packets in ways:
            while True:
                try:
                    packet = os.read(here, MTU + 100)
                except BlockingIOError:
                    break
                packets.append((time.monotonic() + delay, packet))
            while packets and packets[0][0] <= time.monotonic():
                try:
                    os.write(there, packets.popleft()[1])
                except BlockingIOError:
                    pass  # lost, as on any full path


main()
