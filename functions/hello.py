#!/usr/bin/env python3
# The smallest useful script: greets whoever the body names. What it prints is
# the answer and goes to the log; what it writes to stderr goes to the log only.
import sys

name = sys.stdin.read().strip() or "world"
print(f"Hello, {name}!")
