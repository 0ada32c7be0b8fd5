# Forks with os.fork, and has the child say when it runs. Arguments: how many, megabytes of memory in all.
import os
import struct
import sys
import time

count, megabytes = int(sys.argv[1]), int(sys.argv[2])
ballast = [bytearray(b"x" * (1 << 20)) for _ in range(max(0, megabytes - 10))]
read_end, write_end = os.pipe()
first, blocked = [], []
for i in range(-2, count):
    before = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.write(write_end, struct.pack("d", time.monotonic()))
        os._exit(0)
    after = time.monotonic()
    (then,) = struct.unpack("d", os.read(read_end, 8))
    os.waitpid(pid, 0)
    if i >= 0:
        first.append((then - before) * 1e3)
        blocked.append((after - before) * 1e3)
quantile = lambda values, part: sorted(values)[int(len(values) * part)]
print('{"first":%f,"tail":%f,"blocked":%f}' % (quantile(first, 0.5), quantile(first, 0.99), quantile(blocked, 0.5)))
