#!/usr/bin/env python3
"""Makes digits.bin.gz from a gzipped CSV of MNIST digits: make_digits.py mnist_5k.csv.gz digits.bin.gz

Each input line has 784 grey values (28 rows of 28), then the label. The output, gzipped, is one byte a label for
all digits, then 784 bytes a digit, in the order of the lines. The same input gives the same bytes.
"""

import gzip
import sys

PIXELS = 28 * 28


def main(source: str, target: str) -> None:
    labels, pixels = bytearray(), bytearray()
    with gzip.open(source, "rt") as lines:
        for number, line in enumerate(lines, start=1):
            values = bytes(int(float(value)) for value in line.split(","))
            if len(values) != PIXELS + 1 or values[PIXELS] > 9:
                raise SystemExit(f"{source}:{number}: expected {PIXELS} grey values and a label from 0 to 9")
            labels.append(values[PIXELS])
            pixels += values[:PIXELS]
    with open(target, "wb") as out:
        out.write(gzip.compress(bytes(labels + pixels), compresslevel=9, mtime=0))
    print(f"{target}: {len(labels)} digits")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
