#!/usr/bin/env python3
# ============================================================================
# Chapter 0. Title page: what is this, and how does one read it?
# ============================================================================
r"""faas.py: a Function-as-a-Service platform that is also a book about one.

Drop an executable file into functions/ and it answers HTTP. Upload a folder
with a function in Python, JavaScript, Go or Lua and it stays warm, has
versions, and is replaced without a failed call. Everything is in this file,
on the standard library alone, and in the order in which one would invent it.

    $ python3 faas.py
    $ curl -d 'hello' http://127.0.0.1:8080/shout
    HELLO

The life of one call
--------------------

   curl       sensor    a service     cron       you
     |           |          |           |          |
  +------+   +------+   +------+    +------+   +-----+
  | HTTP |   | CoAP |   | gRPC |    | time |   | CLI |   doors (9, 10, 11,
  +------+   +------+   +------+    +------+   +-----+   14, 15, 17): bytes,
       \         \          |          /         /       a clock or argv
        v         v         v         v         v        -> Call
     +---------------------------------------------+
     |                invoke(call)                 |     the narrow waist (8):
     +---------------------------------------------+     look up, admit, run,
          /                 |                 \          remember
     +---------+      +----------+      +----------+
     |  shelf  |      |  runner  |      |  memory  |     versions on disk (6),
     +---------+      +----------+      +----------+     yesterday (7)
                            |
       one process per call (3), a warm worker (4), or a server (5)
                            |
              the user's function (5), in one of nine tongues

Above the waist, everything only translates. Below it, nothing has heard of
HTTP, but for the one tongue whose functions speak it themselves. A new door
or a new runner is a chapter of its own.

Vocabulary: one name, one meaning
---------------------------------

    fn        a Function: what can be called       e.g. 'shout', version 3
    call      a Call: one question to one fn       e.g. body b'hello'
    result    a Result: what the waist answers     e.g. b'HELLO', 2 ms, cold
    kind      'ok', or how a call failed           e.g. 'timeout'
    tongue    how a fn is written                  e.g. 'python3', 'script'
    program   what a process is to become          e.g. argv ['./fn.sh']
    run       what one execution left behind       e.g. output, log, failure
    worker    a process that stays for many calls
    server    the process of a fn that speaks HTTP itself
    visitor   one caller's place at a server
    pool      the workers, or the visitors, of one version of one fn
    nursery   the process that all others are forked from
    frame     one message between us and a worker  e.g. id 7, verb b'C'
    shim      the program around a function that reads and writes frames
    question  what a function asks the platform    e.g. kv.get
    host      what answers a function's questions
    bundle    a zip, a tar or a folder that holds a fn
    mark      a file that shows a bundle's tongue  e.g. 'fn.py'
    digest    the SHA-256 of a bundle's files      e.g. '9f86d081884c7d65...'
    version   a digest with a number and a date    e.g. 3
    id        of a fn or a call, as good as a name e.g. '01a1f8b0490b8536d02f'
    settings  what an owner may change of a fn, but for its text
    store     the values that fns keep, by key
    trace     how long each part of one call took
    stream    an answer that is still coming
    execution what is remembered of one call
    gate      lets some calls of a fn in, and some wait
    ticket    one caller's place where calls wait
    live      a fn with its gate and its pool: ready to be called
    door      what turns bytes into a Call, and a Result into bytes
    peer      the address of who is at the other end of a door
    mid       a CoAP message's number                e.g. 0x7d34
    observer  a peer that is told of each new result of a fn
    watcher   what the platform tells of each new result
    crew      threads that wait for a door's calls
    face      the door's imitation of one older platform's API
    now       seconds on some clock, handed in by whoever called
    deadline  a point on the clock that only goes forward

Contents
--------

     1  A FaaS in 14 lines        what is the least that works?
     2  Nouns                     what passes through every door?
     3  Running one program       how many ways can it die?
     4  Programs that stay        why pay the start twice?
     5  Tongues                   what does a function look like?
     6  The shelf                 how to replace a running function?
     7  Memory                    what happened yesterday?
     8  The narrow waist          what is a call, from end to end?
     9  The HTTP door             where does the web end?
    10  Five faces                how can one platform speak five APIs?
    11  Time                      who calls when nobody calls?
    14  The CoAP door             what fits into 32 bytes?
    15  The gRPC door, bottom up  what is under a remote call?
    17  Switching it on           from argv to a running platform

The numbers 12, 13 and 16 are kept for chapters that are not written yet: a
durable queue, containers, and an event loop for speed.

Each chapter opens with its question and closes with three things to try, the
roads not taken, and what the real world does. After chapter 8 you own a whole
FaaS without a network; each later chapter adds one door or one clock, and the
last one switches it on.

Security promises, each with a test of its name in tests/test_promises.py
-------------------------------------------------------------------------

    S1   Loopback by default; on any other address management needs the
         API key that was made at the first start.
    S2   On loopback, a web page cannot drive the platform: a foreign Host
         and a cross-site Origin are refused on management paths. FaaS-Go's
         paths take the key, or a cookie that holds it, on any address.
    S3   No name leaves its folder.
    S4   No bundle leaves its folder, and none outgrows its limits (bytes,
         entries, ratio).
    S5   A schedule writes one validated line with our own command, and
         leaves every other line of the crontab as it was, byte for byte.
    S6   Every call is bounded: time, output, processes, and the memory of
         each; past a bound the whole process group ends. (A server answers
         others as well: past a bound its connection ends, and the group only
         if it answers nobody any more.)
    S7   A function's process starts with its own environment, none of ours,
         and none of our descriptors; lua and python functions have to ask
         even for their own variables, and see nobody else's values.
    S8   A request that two parsers could read in two ways is refused, and
         no answer of ours is one.
    S9   What looks like a secret is masked before it is stored.
    S11  A deploy that answered 2xx is on disk; a crash leaves the old
         version or the new one.
    S12  Stopping leaves no process and no half-written file.
    S13  Who forges his address gains little at the CoAP door: off loopback an
         address is sent a bounded number of bytes a second, and beyond these
         no answer that is larger than its question.

(S10, that an accepted asynchronous call survives a crash, needs the durable
queue of chapter 12.)

What it does not do
-------------------

It is no wall against hostile code, nor between functions: a function runs as
the user who started the platform, may read what that user may read, and on
loopback may manage the platform as that user may. It runs no containers: a
Dockerfile is refused. Of FaaS-Go's modules, `ai` and `email` are missing. It
speaks no TLS and no DTLS; put a proxy in front of it. It runs on one machine,
and that machine runs Linux.

The file's own rules
--------------------

1. Read downwards: each chapter uses only names of earlier ones, and says so
   in its line `Promised:`. Chapters 1 to k are a working program for every k.
2. No socket, process or clock above the line SHELL in a chapter that has one.
3. Deep code raises FaasError with a kind and a sentence; each door has one
   catch.
4. A limit stands with its reason. A format stands with its bytes.
"""

__version__ = "0.1"

# Python keeps the syntax tree of a script for as long as the script runs: of
# this file that is 18 MB, more than all the rest of it needs. A module's tree
# is dropped, and its compiled form is kept on disk. So, run as a script, the
# file turns itself into a module, by starting once more before it has begun.

if __name__ == "__main__":
    import os
    import sys
    os.execv(sys.executable, [
        sys.executable, "-I", "-S", "-c", "import sys; "
        "sys.path.insert(0, sys.argv.pop(1)); import faas; "
        "sys.exit(faas.main())",
        os.path.dirname(os.path.abspath(__file__)), *sys.argv[1:]])

# ============================================================================
# Chapter 1. A FaaS in 14 lines: what is the least that works?
# ============================================================================
#
# A client sends bytes and a name; a program of that name gets the bytes on
# its standard input; what it prints goes back. This is the whole idea, and
# with the standard library it fits on a postcard.
#
# Promised: nothing.


def toy(folder, port=8080):
    """Serve the executables in `folder` over HTTP, naively.

    >>> server = toy("functions", port=0)
    >>> server.server_address[0]
    '127.0.0.1'
    >>> server.server_close()
    """
    import http.server
    import subprocess

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            size = int(self.headers.get("Content-Length", 0))
            run = subprocess.run([folder + self.path], capture_output=True,
                                 input=self.rfile.read(size))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(run.stdout)

    return http.server.HTTPServer(("127.0.0.1", port), Answer)


# It works. It stays in the book as the specification: a test asks the toy and
# the platform the same benign questions and compares the answers. Here is
# what is wrong with it, and where each fault is cured:
#
#    1. one program that hangs stops everybody             chapters 3 and 9
#    2. a program that prints without end fills the memory        chapter 3
#    3. what a program leaves behind lives on                     chapter 3
#    4. each call pays for a new interpreter                      chapter 4
#    5. a failing program answers 200                       chapters 2 and 3
#    6. a missing program kills the connection without a word     chapter 2
#    7. POST /../../../../bin/sh runs a shell                     chapter 2
#    8. the program inherits our secrets                          chapter 3
#    9. replacing a file while it runs gives half of each         chapter 6
#   10. nobody knows what ran yesterday                           chapter 7
#   11. a thousand callers start a thousand programs              chapter 8
#   12. a body in chunks is read as no body at all                chapter 9
#   13. it cannot tell a caller from its owner                    chapter 9
#   14. it never does anything on its own                        chapter 11
#   15. Ctrl-C is a traceback                                    chapter 17
#
# Try it ---------------------------------------------------------------------
#   >>> import threading, urllib.request
#   >>> server = toy("functions", port=0)
#   >>> threading.Thread(target=server.handle_request).start()
#   >>> url = f"http://127.0.0.1:{server.server_address[1]}/shout"
#   >>> urllib.request.urlopen(url, data=b"hello").read()
#   b'HELLO'
#   >>> server.server_close()
#
# Roads not taken ------------------------------------------------------------
#   CGI: http.server had a CGIHTTPRequestHandler that does just this. It is
#     deprecated since Python 3.13, unmaintained, and was a source of holes.
#   eval() of uploaded text: the first function with an endless loop would be
#     the last one.
#
# Real world -----------------------------------------------------------------
#   inetd did this in 1986, for any TCP service: a program per connection,
#   socket as standard input. OpenFaaS's "classic watchdog" is the same idea
#   inside a container.

# ============================================================================
# Chapter 2. Nouns: what passes through every door?
# ============================================================================
#
# A platform with many doors stays small if all doors carry the same thing.
# This chapter names it. Three nouns pass through: a Call goes in, a Result
# comes out, and a Function is what lies between. A fourth, FaasError, is how
# deep code says no.
#
# Promised: nothing.

import itertools
import os
import re
import typing

# 2.1 How a call can fail ----------------------------------------------------
#
# The toy knows one answer: 200. A real platform must say why there is none,
# in each door's own language. One table serves all doors, the exit codes of
# the command line and the documentation. How the failure of a call looks is
# decided nowhere else; only bytes that are no HTTP (chapter 9) have statuses
# of their own.


class Kind(typing.NamedTuple):
    """One way to fail, and how each door spells it."""
    http: int        # RFC 9110, section 15; 429: RFC 6585, section 4
    coap: str        # RFC 7252, section 5.9; 4.09: RFC 8132, section 3.4
    grpc: str        # grpc/grpc, doc/statuscodes.md
    exit: int        # of the command line
    when: str


KINDS = {
    "bad_input": Kind(400, "4.00", "INVALID_ARGUMENT", 2,
                      "a malformed request, bundle or cron expression"),
    "unauthenticated": Kind(401, "4.01", "UNAUTHENTICATED", 3,
                            "the API key is missing or wrong"),
    "denied": Kind(403, "4.03", "PERMISSION_DENIED", 4,
                   "not executable, switched off, or a web page from "
                   "elsewhere asks"),
    "not_found": Kind(404, "4.04", "NOT_FOUND", 5,
                      "no such function, version or log"),
    "conflict": Kind(409, "4.09", "ABORTED", 6,
                     "the name is reserved, or owned by a folder"),
    "too_large": Kind(413, "4.13", "RESOURCE_EXHAUSTED", 7,
                      "a body, bundle or output over its limit"),
    "busy": Kind(429, "5.03", "RESOURCE_EXHAUSTED", 8,
                 "no free slot, and the queue is full"),
    "crashed": Kind(502, "5.02", "INTERNAL", 9,
                    "the function exited, raised or broke its contract"),
    "unavailable": Kind(503, "5.03", "UNAVAILABLE", 10,
                        "the platform is stopping, or a tool is missing"),
    "timeout": Kind(504, "5.04", "DEADLINE_EXCEEDED", 11,
                    "a time limit fired; the sentence names it"),
}


def kind_of(status):
    """Give the kind that an HTTP status of 400 and above stands for.

    A function may choose any; of one that is in no row, the first digit
    decides.

    >>> kind_of(404), kind_of(418), kind_of(500)
    ('not_found', 'bad_input', 'crashed')
    """
    kinds = {kind.http: name for name, kind in KINDS.items()}
    return kinds.get(status, "bad_input" if status < 500 else "crashed")


class FaasError(Exception):
    """A failure with a kind from KINDS and a sentence for a person.

    `detail` may hold bytes that belong to the answer but not to the
    sentence, such as the tail of what a failing program printed; `line` is
    where in the function's text it happened, or 0.

    >>> error = FaasError("not_found", "no function is called 'x'")
    >>> KINDS[error.kind].http, str(error)
    (404, "no function is called 'x'")
    """

    def __init__(self, kind, sentence, detail=b""):
        # What a function said may be in it, and that need not be Unicode.
        super().__init__(sentence.encode("utf-8", "replace").decode())
        self.kind, self.detail, self.line = kind, detail, 0


# 2.2 Names ------------------------------------------------------------------
#
# A name comes from a stranger and becomes a path: POST /../../../../bin/sh
# was fault 7 of the toy. A list of what is forbidden always forgets something
# ("%2e%2e", "a/../b", a zero byte), so this is a list of what is allowed
# (promise S3). A first letter or digit keeps out "..", ".git" and "-rf".

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# Words that are paths of some door. A function of that name could never be
# called, so a deploy refuses it; a file of that name is left alone. `fn` is
# not among them: FaaS-Go has only what is below /fn/, so that a function may
# be called fn, as the first one in rknizzle's README is.
RESERVED = frozenset(
    "upload uploadURL delete list wipe logs schedule health metrics ping "
    "functions invoke api docs openapi.json favicon.ico".split())


def check_name(name):
    """Return `name` if it may name a function.

    >>> check_name("hello.py")
    'hello.py'
    >>> check_name("../etc/passwd")
    Traceback (most recent call last):
    ...
    faas.FaasError: '../etc/passwd' is no function name: use 1 to 64 \
letters, digits, dots, dashes and underscores, a letter or digit first

    Errors: FaasError bad_input.
    """
    if not NAME.fullmatch(name):
        raise FaasError("bad_input", f"{name[:80]!r} is no function name: "
                        "use 1 to 64 letters, digits, dots, dashes and "
                        "underscores, a letter or digit first")
    return name


# What has no name of its own has an id: each call does, so that it can be
# found again. A function has one besides its name, for clients that know only
# ids; whatever takes the one takes the other.

SERIAL = itertools.count(int.from_bytes(os.urandom(4), "big"))


def new_id(now):
    """Make an id that sorts by time: 12 hex digits of ms, 8 of a counter.

    The counter begins anywhere, so that two processes do not agree.

    >>> new_id(1.5)[:12], len(new_id(1.5))
    ('0000000005dc', 20)
    """
    return f"{int(now * 1000):012x}{next(SERIAL) % (1 << 32):08x}"


# 2.3 Limits -----------------------------------------------------------------
#
# Whatever a stranger may ask for without bound, a stranger will. All bounds of
# one call stand here together; chapter 3 enforces those of a process, chapter
# 8 those of a call, chapter 9 that of a body.


class Limits(typing.NamedTuple):
    """The bounds of one call; sizes in bytes, times in seconds.

    >>> Limits(timeout=2).timeout, Limits().output == 6 * 1024 * 1024
    (2, True)
    """
    timeout: float = 300.0      # FaaS-Go's default; Lambda's most is 900
    start: float = 30.0         # importing a large package from an SD card
    body: int = 6 << 20         # AWS Lambda's limit for a synchronous call
    output: int = 6 << 20       # the same; for the answer and the log each
    memory: int = 1 << 30       # address space of each process; node needs
                                # most of it
    cpu: int = 300              # CPU seconds, so that a spin does not outlive
                                # its timeout; 0 for no bound
    files: int = 512            # open descriptors; a shell's is 1024
    file_size: int = 256 << 20  # one runaway file must not fill an SD card
    processes: int = 64         # a shell pipeline needs 5, a fork bomb all
    concurrency: int = 16       # calls of one function at the same time
    queue: int = 128            # calls that may wait behind those


# 2.4 The three nouns --------------------------------------------------------


class Call(typing.NamedTuple):
    """One question to one function, whichever door it came through.

    >>> Call("shout", b"hello").trigger
    'http'
    """
    fn: str                     # its name
    body: bytes = b""           # what is here of it: see `more`
    headers: dict = {}          # keys spelled as in 'Content-Type'
    method: str = "POST"
    path: str = "/"             # what follows the name: '/items/3'
    raw: str = ""               # the same as it was sent: '/items%2F3'
    query: str = ""             # undecoded: 'a=1&b=2'
    trigger: str = "http"       # or 'cli', 'cron', 'async'
    timeout: float = 0.0        # may shorten the function's; 0 does not
    more: typing.Iterable = ()  # pieces of the body that are still coming,
                                # for a tongue that reads as it goes
    gone: typing.Callable = bool    # -> True once the caller has left;
                                    # bool() is False: he never has
    called_off: typing.Callable = bool  # -> True once he wants no answer any
                                        # more; HTTP/2 alone can say that


class Result(typing.NamedTuple):
    """What the waist answers, whichever door will carry it.

    `kind` is "ok" or a key of KINDS; then `sentence` says why and `body`
    holds the answer, or the tail of it where the function failed.
    """
    kind: str = "ok"
    body: bytes = b""
    headers: dict = {}          # 'Content-Type': 'text/plain; ...'
    status: int = 200           # of HTTP, for a tongue that may choose it
    sentence: str = ""
    id: str = ""                # of the execution, to find it in the log
    version: int = 0
    start: str = ""             # 'cold', 'warm', or '' where nothing ran
    spans: tuple = ()           # (('queue', 0.000012), ('run', 0.0003))
    more: typing.Any = None     # a Stream (8.3) of what follows the body


class Settings(typing.NamedTuple):
    """What the owner of a function may set without touching its text."""
    label: str = ""             # a name for people, of any characters
    description: str = ""
    disabled: bool = False      # calls are refused
    keep_days: float = 0        # of its executions; 0 for the platform's
    keep_answers: bool = False  # with its executions
    paused: str = ""            # a cron expression that does not run now


class Function(typing.NamedTuple):
    """A function as the shelf knows it.

    >>> Function("shout", "script", "functions/shout").version
    0
    """
    name: str
    tongue: str                 # a key of chapter 5's TONGUES
    folder: str                 # its folder; of a script, the file itself
    version: int = 0            # 0 for a script: it is run in place
    digest: str = ""
    threads: int = 1            # workers to keep ready
    env: dict = {}
    limits: Limits = Limits()
    source: str = "upload"      # or 'folder', 'file': who owns the text
    note: str = ""              # why the newest edit is not what serves
    id: str = ""                # as good as its name; FaaS-Go's clients use it
    settings: Settings = Settings()


# Try it ---------------------------------------------------------------------
#   >>> call = Call("shout", b"hello", path="/loud")
#   >>> call._replace(trigger="cron").trigger
#   'cron'
#   >>> {kind.http for kind in KINDS.values()} & {200}
#   set()
#
# Roads not taken ------------------------------------------------------------
#   A class per kind of failure: ten classes that differ in a number. A table
#     can be printed in the docs, drawn in a notebook and checked in a test.
#   dataclasses: they read as well, cost a megabyte of imports on a machine
#     that has 512, and a Call that cannot change needs none of their powers.
#   Status codes as the inner language: then gRPC would be explained in HTTP.
#
# Real world -----------------------------------------------------------------
#   CloudEvents (CNCF) is the same attempt at one noun for all doors, with 4
#   required attributes. Lambda hands a function one JSON event, whose shape
#   depends on the door.

# ============================================================================
# Chapter 3. Running one program: how many ways can it die?
# ============================================================================
#
# The toy runs a program in one line:
#
#       subprocess.run([path], input=body, capture_output=True).stdout
#
# Each of these programs breaks that line. Notebook 01 runs them, all but E,
# from which only a restart would save the reader:
#
#   A   sleep 1000               it hangs, and so do we
#   B   sleep 1000 &             it ends at once; its child keeps our pipe
#                                open, and we wait for the child
#   C   yes                      it fills our memory
#   D   echo "$AWS_SECRET"       it reads our environment
#   E   :(){ :|:& };:            it multiplies
#   F   exit 3                   we answer as if it had worked
#   G   setsid sleep 1000 &      as B, and outside its group
#
# `timeout=` cures A. Of B it makes an error instead of an answer, though the
# answer had been printed, and the grandchild lives on. So the parts of
# that one line are taken apart here: start, converse, end.
#
# Promised: nothing.

import contextlib
import errno
import fcntl
import resource
import select
import signal
import sys
import time


class Program(typing.NamedTuple):
    """What a process is to become.

    With `argv` it is executed; without, a worker is born that speaks the
    tongue of that name (chapter 4).
    """
    argv: tuple = ()
    cwd: str = "/"
    env: dict = {}
    limits: Limits = Limits()
    tongue: str = ""
    reserves: bool = False      # a runtime that reserves more addresses than
                                # it will ever use, as Node's and Go's do


class Deadline(typing.NamedTuple):
    """When patience ends, and in whose name."""
    at: float                   # on time.monotonic()'s clock
    why: str = "its time limit"
    called_off: typing.Callable = bool  # -> True once nobody waits any more

    def check(self):
        """Refuse to go on for a caller who called it off."""
        if self.called_off():
            raise FaasError("unavailable", "its caller has called it off")


NEVER = Deadline(float("inf"), "for ever")


class Run(typing.NamedTuple):
    """What one execution left behind."""
    out: bytes = b""            # the answer
    log: bytes = b""            # what was said besides
    error: FaasError = None     # why there is no answer
    meta: dict = {}             # {"headers": ...}, where a tongue gives any
    start: str = "cold"         # 'warm'; '' where nothing was asked, so that
                                # asking another is no repetition
    more: typing.Any = None     # pieces that follow `out`, from a server (5.9)


# 3.1 SHELL: in the child, before it becomes the program ---------------------
#
# Between fork and exec the child is still ours. Everything that it must not
# be able to refuse is done here (promise S6, S7):
#
#   setsid                   its own session and group: one kill reaches all
#   PR_SET_PDEATHSIG         if the parent is killed, the kernel kills it too
#   PR_SET_NO_NEW_PRIVS      sudo and other setuid programs gain nothing
#   PR_SET_CHILD_SUBREAPER   orphans below it stay below it: see G and 3.3
#   setrlimit                memory, CPU, file size, descriptors
#
# The kernel can also count processes, but it counts them per user, and of
# root not at all: on a desktop the limit of 64 would be reached before our
# program starts. So that limit is watched in 3.4, and the kernel's is set
# far above it, at 4096, only as a backstop.

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38


def confine(limits, stays=False, reserves=False):
    """Bind the calling process, and all that it will start, to `limits`.

    A process that `stays` for many calls gets its CPU seconds call by call
    (chapter 4), so the last word on them, the hard limit, is left open.
    """
    import ctypes
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # AS counts every address that was asked for, DATA those of them that can
    # be written: all that can be counted where most is only reserved.
    memory = "DATA" if reserves else "AS"
    for name, most in ((memory, limits.memory), ("FSIZE", limits.file_size),
                       ("NOFILE", limits.files), ("NPROC", 4096),
                       ("CORE", 0)):
        lower_limit(name, most, most)
    # The soft CPU limit sends SIGXCPU, whose name makes a sentence; the hard
    # one, a second later, kills.
    if limits.cpu:
        lower_limit("CPU", limits.cpu, None if stays else limits.cpu + 1)
    for ignored in signal.SIGPIPE, signal.SIGXFSZ:      # Python ignores them,
        signal.signal(ignored, signal.SIG_DFL)          # and exec would pass
    os.umask(0o022)                                     # that on.


def lower_limit(name, soft, hard):
    """Set a resource limit, as far as its ceiling lets us.

    A `hard` of None keeps the ceiling, so that `soft` may be raised later.

    >>> lower_limit("CORE", 0, None)
    >>> resource.getrlimit(resource.RLIMIT_CORE)[0]
    0
    """
    number = getattr(resource, "RLIMIT_" + name)
    ceiling = resource.getrlimit(number)[1]
    if hard is None:
        hard = ceiling
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(number, (soft, hard))


# 3.2 SHELL: start -----------------------------------------------------------
#
# subprocess.Popen can do most of this by `preexec_fn`, which its own manual
# calls unsafe in a program with threads: a child forked while another thread
# held a lock waits for that lock for ever. So we fork ourselves, in a process
# that has no threads. In this chapter that is whoever reads along; later it
# is the nursery (chapter 4).
#
# How does the parent learn that exec failed? By an old trick: a pipe that
# closes itself when exec succeeds. Silence means success.
#
#     parent                          child
#       |  fork ----------------------> |   (a)
#       |                               |  descriptors, limits
#       |                               |  exec ok: the pipe closes   (b)
#       | <-- errno through the pipe -- |  exec failed                (c)


def become(program, fds, child, parent):
    """Turn this fresh child into the program; never returns.

    Errors: OSError, ValueError.
    """
    # First out of the way, then into place: fds may name each other's slots.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in fds]
    for slot, fd in enumerate(high):
        os.dup2(fd, slot, inheritable=slot != len(fds) - 1)
    # By hand, for close-on-exec does nothing for a child that never execs.
    os.closerange(len(fds), 65536)
    os.setsid()
    os.chdir(program.cwd)
    confine(program.limits, bool(program.tongue), program.reserves)
    if os.getppid() != parent:      # It died before PDEATHSIG was set.
        os._exit(127)
    if child:
        os.close(len(fds) - 1)
        os.environ.clear()
        os.environ.update(program.env)
        os._exit(exit_status(child, program))
    os.execve(program.argv[0], program.argv, program.env)


def exit_status(child, program):
    """Call `child`, and give the status with which it wants to exit."""
    try:
        child(program)
        return 0
    except SystemExit as wish:
        return wish.code if isinstance(wish.code, int) else bool(wish.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1


def exec_error(program, number):
    """Put into a sentence why the kernel would not run a program.

    `number` is an errno. Where the file itself is missing, the name is
    wrong; where it is there, its first line names an interpreter that is not.

    >>> hello = Program(("functions/hello.py",))
    >>> str(exec_error(hello, errno.ENOEXEC))
    'hello.py has no shebang: begin it with a line like #!/usr/bin/env python3'
    >>> str(exec_error(hello, errno.EACCES))[:50]
    'Permission denied (is the script executable?): run'
    """
    if not os.path.isdir(program.cwd):
        return FaasError("crashed", f"its folder {program.cwd} is gone")
    path = os.path.join(program.cwd, *program.argv[:1])
    base = os.path.basename(path)
    if number == errno.ENOEXEC:
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if file.read(4) == b"\x7fELF":
                return FaasError("crashed", f"{base} is a program for "
                                 "another kind of processor")
        return FaasError("crashed", f"{base} has no shebang: begin it with "
                         "a line like #!/usr/bin/env python3")
    if number == errno.EACCES:
        return FaasError("denied", "Permission denied (is the script "
                         f"executable?): run chmod +x on {base}")
    if number == errno.ENOENT and os.path.exists(path):
        return FaasError("crashed", f"the interpreter in the first line of "
                         f"{base} is not installed on this machine")
    return FaasError("crashed", f"{base} cannot be run with these arguments "
                     f"and variables: {os.strerror(number)}")


def fork_program(program, fds, child=None):
    """Start `program` with `fds` as descriptors 0, 1, 2, ...; give its pid.

    `child`, if given, is called in the new process instead of exec.

    >>> r, w = os.pipe()
    >>> pid = fork_program(Program(("/bin/echo", "hi")), [0, w, w])
    >>> os.read(r, 9)
    b'hi\\n'
    >>> _ = end_program(pid), os.close(r), os.close(w)

    Errors: FaasError crashed or denied, where exec refuses; OSError, where
    the machine has no room for a process. Single-threaded callers only.
    """
    parent = os.getpid()
    heard, say = os.pipe()
    try:
        pid = os.fork()                                            # (a)
    except OSError:
        os.close(heard)
        os.close(say)
        raise
    if pid == 0:
        try:
            become(program, [*fds, say], child, parent)            # (b)
        except (OSError, ValueError) as error:                     # (c)
            number = getattr(error, "errno", None) or errno.EINVAL
            os.write(len(fds), str(number).encode())
        finally:
            os._exit(127)
    os.close(say)
    with open(heard, "rb") as pipe:
        number = pipe.read()
    if number:
        end_program(pid)
        raise exec_error(program, int(number))
    return pid


# 3.3 SHELL: end -------------------------------------------------------------
#
# A kill reaches a process group, so a grandchild ends with its parent, unless
# it called setsid and left the group (G). It cannot leave the family: because
# of PR_SET_CHILD_SUBREAPER, an orphan below our program is adopted by it, not
# by init. As long as the program itself lives, one walk finds them all.
#
#      we -- program -- sh -- sleep         sh exits, and
#      we -- program -- sleep               sleep stays in the family


def children(pid):
    """List the children of one process; of a process that ended, none.

    A process with threads has a list per thread: whoever called fork.

    >>> pid = fork_program(Program(("/bin/sleep", "9")), [0, 1, 2])
    >>> pid in children(os.getpid())
    True
    >>> _ = end_program(pid)

    Source: proc(5), /proc/PID/task/TID/children.
    """
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        pass                    # It ended while we looked.
    return found


def family(pid):
    """List a process and all its descendants.

    >>> family(os.getpid())[0] == os.getpid()
    True
    """
    found = [pid]
    for one in found:           # grows while we walk
        found += children(one)
    return found


def is_zombie(pid):
    """Tell whether a process has ended and only waits to be asked how.

    >>> is_zombie(os.getpid())
    False

    Source: proc(5), /proc/PID/stat: the state follows the last parenthesis.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True


def kill(pid, number=signal.SIGKILL):
    """Send a signal; to a process that is gone, nothing.

    A negative pid means a whole process group (kill(2)).

    >>> kill(2 ** 22 + 1)           # past the largest pid that Linux gives
    """
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def end_program(pid):
    """End a program and all it started; give its wait status.

    >>> pid = fork_program(Program(("/bin/sleep", "1000")), [0, 1, 2])
    >>> os.WTERMSIG(end_program(pid)) == signal.SIGKILL
    True

    A program that has ended by itself keeps its own status, because it was
    not reaped before. Errors: none; a pid that was ended before gives 0.
    """
    # Who is stopped cannot fork. The group first, because the kernel reaches
    # all of it at once, and a bomb outruns anybody who walks.
    kill(-pid, signal.SIGSTOP)
    frozen = set()
    while new := set(family(pid)) - frozen:
        for one in new:
            kill(one, signal.SIGSTOP)
        frozen |= new
    for one in frozen - {pid}:
        kill(one)
    kill(-pid)                  # its group, which outlives a dead leader
    kill(pid)
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return 0


def exit_error(name, status, limits):
    """Say why a program failed, by its wait status; None if it did not.

    >>> exit_error("hello.py", 0, Limits()) is None
    True
    >>> str(exit_error("hello.py", 3 << 8, Limits()))
    'hello.py exited with status 3'
    >>> str(exit_error("hello.py", signal.SIGXCPU, Limits(cpu=2)))
    'hello.py used more than its 2 s of CPU time'
    """
    if status == 0:
        return None
    if os.WIFEXITED(status):
        end = f"exited with status {os.WEXITSTATUS(status)}"
    elif os.WTERMSIG(status) == signal.SIGXCPU:
        end = f"used more than its {limits.cpu} s of CPU time"
    elif os.WTERMSIG(status) == signal.SIGXFSZ:
        end = f"wrote a file larger than {limits.file_size} bytes"
    else:
        number = os.WTERMSIG(status)
        known = number in set(signal.Signals)
        end = "was ended by " + (signal.Signals(number).name if known
                                 else f"signal {number}")
    return FaasError("crashed", f"{name} {end}")


# 3.4 SHELL: converse --------------------------------------------------------
#
# Two pipes must be read and one written at the same time: whoever writes the
# whole body first, and reads then, waits for ever for a program that answers
# line by line. And none of the pipes tells when the program ends, because of
# B. A pidfd does: a descriptor that becomes readable when a process exits,
# whoever holds its pipes. So one poll() watches all four, in small steps,
# between which it looks at the clock and counts the family.


def outgrown(pid, most):
    """Tell whether more than `most` processes of a family are alive.

    Zombies do not count: a program that starts hundreds of others, one after
    the other, and asks nobody how they ended, leaves hundreds of them.

    >>> outgrown(os.getpid(), 1000)
    False
    """
    found, alive = [pid], 0
    for one in found:           # grows while we walk
        alive += not is_zombie(one)
        if alive > most:        # A bomb would outrun a walk to the end.
            return True
        found += children(one)
    return False


class Watch:
    """Says when a running program has had enough time, or processes.

    >>> watch = Watch(os.getpid(), Limits(), Deadline(10.0, "2 s"), now=8.0)
    >>> round(watch.patience(now=8.0), 4)         # s until the next look
    0.0031
    >>> watch.check(now=10.5)
    Traceback (most recent call last):
    ...
    faas.FaasError: it ran longer than 2 s
    """

    STEP = 0.05     # s between two looks; the first come sooner, because a
                    # fork bomb doubles every millisecond or so

    def __init__(self, pid, limits, deadline, now):
        self.pid, self.limits, self.deadline = pid, limits, deadline
        self.step = self.STEP / 16
        self.next_look = now + self.step

    def patience(self, now):
        return max(0.0, min(self.deadline.at, self.next_look) - now)

    def check(self, now):
        if now >= self.deadline.at:
            raise FaasError("timeout",
                            f"it ran longer than {self.deadline.why}")
        if now >= self.next_look:
            self.deadline.check()
            self.step = min(2 * self.step, self.STEP)
            self.next_look = now + self.step
            if outgrown(self.pid, self.limits.processes):
                raise FaasError("crashed", "it started more than "
                                f"{self.limits.processes} processes")


def pipe():
    """Make a pipe of two unbuffered files: (to read from, to write to).

    >>> r, w = pipe()
    >>> w.write(b"hi"), r.read(9)
    (2, b'hi')
    """
    ends = os.pipe()
    return open(ends[0], "rb", buffering=0), open(ends[1], "wb", buffering=0)


def too_much(most):
    """Put into a sentence that somebody said more than `most` bytes."""
    return FaasError("too_large", f"it wrote more than its {most} bytes of "
                     "output")


def pull(file, said, most):
    """Read what a pipe holds now into `said`; False once it is closed.

    >>> (r, w), said = pipe(), bytearray()
    >>> os.set_blocking(r.fileno(), False)
    >>> w.write(b"hi"), pull(r, said, 10), said
    (2, True, bytearray(b'hi'))

    Errors: FaasError too_large, past `most` bytes in all.
    """
    while piece := file.read(65536):
        said += piece
        if len(said) > most:
            raise too_much(most)
    return piece is None        # None: empty for now. b"": closed.


def push(file, body):
    """Write what a pipe takes now; give the rest, b"" if nobody reads it.

    A program may answer without reading its input. That is no failure: the
    kernel says EPIPE, and the rest of the body has no taker.
    """
    try:
        return body[file.write(body[:65536]) or 0:]
    except BrokenPipeError:
        return b""


def converse(life, stdin, body, said, watch):
    """Carry bytes to and from a program until it exits.

    `life` is its pidfd; `said` maps each file to read to a bytearray.
    """
    poll, files = select.poll(), {file.fileno(): file for file in said}
    for fd in life, *files:
        poll.register(fd, select.POLLIN)
    if body:
        poll.register(stdin, select.POLLOUT)
    else:
        stdin.close()           # or `cat` would wait for more
    body, most, exited = memoryview(body), watch.limits.output, False
    while not exited:
        for fd, _ in poll.poll(1000 * watch.patience(time.monotonic())):
            if fd == life:
                exited = True
            elif fd in files:
                if not pull(files[fd], said[files[fd]], most):
                    poll.unregister(fd)
            elif not (body := push(stdin, body)):
                poll.unregister(fd)
                stdin.close()
        if not exited:
            watch.check(time.monotonic())
    for file in said:
        pull(file, said[file], most)    # what was written just before


class Parent(typing.NamedTuple):
    """Who forks programs and ends them: this process, or the nursery."""
    start: typing.Callable      # (program, fds) -> pid
    end: typing.Callable        # pid -> wait status


HERE = Parent(fork_program, end_program)


def no_room(error):
    """Put into a sentence that the machine has no room for a process."""
    return FaasError("unavailable", "this machine cannot start a process "
                     f"now: {error.strerror}")


def run_started(parent, pid, program, ours, body, deadline):
    """See a started program to its end; `ours` are our ends of its pipes."""
    stdin, stdout, stderr = ours
    out, log, error, life = bytearray(), bytearray(), None, None
    for file in ours:
        os.set_blocking(file.fileno(), False)
    watch = Watch(pid, program.limits, deadline, time.monotonic())
    try:
        life = os.pidfd_open(pid)
        converse(life, stdin, body, {stdout: out, stderr: log}, watch)
    except FaasError as failure:
        # A traceback holds this frame, which holds the error and all output:
        # a ring, which only the collector would take apart, later.
        error = failure.with_traceback(None)
    except OSError as failure:
        error = no_room(failure)
    finally:
        status = parent.end(pid)
        if life is not None:
            os.close(life)
    name = os.path.basename(program.argv[0])
    error = error or exit_error(name, status, program.limits)
    if error:
        error.detail = bytes(out[-2048:])       # a screenful of what it said
    return Run(bytes(out), bytes(log), error)


def run_program(parent, program, body, deadline):
    """Run one program from its start to its end, whatever it does.

    >>> soon = Deadline(time.monotonic() + 0.3, "0.3 s")
    >>> run_program(HERE, Program(("/bin/cat",)), b"hello", soon).out
    b'hello'
    >>> sh = lambda line: Program(("/bin/sh", "-c", line))
    >>> run_program(HERE, sh("sleep 1000 & echo hi"), b"", soon).out
    b'hi\\n'
    >>> run_program(HERE, sh("setsid sleep 1000"), b"", soon).error
    FaasError('it ran longer than 0.3 s')

    Errors: none; a failure is the Run's `error`.
    """
    try:
        ends = [pipe(), pipe(), pipe()]
    except OSError as error:
        return Run(error=no_room(error))
    theirs = [ends[0][0], ends[1][1], ends[2][1]]
    ours = [ends[0][1], ends[1][0], ends[2][0]]
    with ours[0], ours[1], ours[2]:
        try:
            with theirs[0], theirs[1], theirs[2]:
                pid = parent.start(program, [f.fileno() for f in theirs])
        except FaasError as refusal:
            return Run(error=refusal)
        except OSError as error:
            return Run(error=no_room(error))
        return run_started(parent, pid, program, ours, body, deadline)


# Try it ---------------------------------------------------------------------
#   >>> deadline = Deadline(time.monotonic() + 0.5, "half a second")
#   >>> yes = Program(("/usr/bin/yes",), limits=Limits(output=1000))
#   >>> run_program(HERE, yes, b"", deadline).error
#   FaasError('it wrote more than its 1000 bytes of output')
#   >>> crowd = "for i in $(seq 99); do sleep 9 & done; wait"
#   >>> run_program(HERE, Program(("/bin/sh", "-c", crowd)), b"",
#   ...             deadline).error
#   FaasError('it started more than 64 processes')
#
# Roads not taken ------------------------------------------------------------
#   cgroups: exact accounting of memory and processes, and the right answer
#     for whoever owns the machine; an ordinary user gets one only where
#     systemd was told to delegate it. A container engine brings them along.
#   A thread per pipe, as subprocess.communicate does on Windows: three threads
#     per call, and none of them can see the clock.
#   Waiting for the end of the output instead of the program's: death B.
#
# Real world -----------------------------------------------------------------
#   systemd ends a service by its cgroup, because of G. Docker's --init and
#   tini exist because of orphans: in a container process 1 must adopt them.
#   Lambda stops a sandbox as a whole, a virtual machine with all in it.

# ============================================================================
# Chapter 4. Programs that stay: why pay the start twice?
# ============================================================================
#
# A Python function of three lines spends its life on being born. On the
# machine where this was written, from the question to the answer:
#
#       a new interpreter with -I -S, then the function       12 ms
#       a fork of an interpreter that is there already         4 ms
#       a process that is there already                      0.1 ms
#
# So workers stay: they are asked over a socket, answer, and wait. And where
# one more is needed it is not started but forked, from a process that has
# imported everything already and does nothing else: the nursery (others call
# it a zygote). Since it has no threads, it is also the safe place for every
# other fork, and chapter 3's programs are started there too.
#
#      platform                        nursery                   worker
#        | -- S program, its socket -----> |                        .
#        |                                 | -- fork -------------> |
#        | <-- R pid --------------------- |                        |
#        | <-- H  (hello: the function is loaded) ----------------- |
#        | --- C 1 meta, body ------------------------------------> |
#        | <-- R 1 meta, body ------------------------------------- |
#
# Promised: nothing.

import collections
import json
import socket
import struct
import subprocess
import threading

# 4.1 Frames -----------------------------------------------------------------
#
# A stream has no messages, so each one says how long it is. The id is a
# counter, so that an answer says which question it belongs to: several calls
# may be under way on one socket, and an answer to another question is caught.
# (A descriptor would be a bad id: the kernel gives it out again.)
#
#    OFFSET  SIZE  FIELD
#         0     4  size of all that follows, big-endian
#         4     4  id
#         8     1  verb
#         9     4  m, the size of meta
#        13     m  meta, a JSON object
#      13+m        body, any bytes
#
#    H hello     worker -> us        C call           us -> worker
#    R result    worker -> us        E error          worker -> us
#    Q question  worker -> us        A its answer     us -> worker
#    L log line  worker -> us        S start, D end   us -> nursery
#
# R and E have the id of their C; an E with id 0 means that the function could
# not be loaded. Q has an id of the worker's own, and A the id of its Q.
#
# Worked by hand, call 7 with an empty meta and the body "hi" is
#
#    00 00 00 0d  00 00 00 07  43  00 00 00 02  7b 7d  68 69
#    size 13      id 7         C   m = 2        { }    h  i

FRAME = struct.Struct(">IIcI")


class Frame(typing.NamedTuple):
    """One message between us and a worker, or us and the nursery."""
    id: int
    verb: bytes
    meta: dict
    body: bytes = b""


def frame_encode(frame):
    """Turn a Frame into bytes.

    >>> frame_encode(Frame(7, b"C", {}, b"hi")).hex(" ")
    '00 00 00 0d 00 00 00 07 43 00 00 00 02 7b 7d 68 69'
    """
    meta = json.dumps(frame.meta).encode()
    return FRAME.pack(9 + len(meta) + len(frame.body), frame.id, frame.verb,
                      len(meta)) + meta + frame.body


class FrameReader:
    """Bytes in, Frames out, in whatever pieces the bytes come.

    >>> reader = FrameReader(most=100)
    >>> hi = bytes.fromhex("0000000d 00000007 43 00000002 7b7d 6869")
    >>> reader.receive(hi[:9])
    []
    >>> reader.receive(hi[9:] + hi)[0]
    Frame(id=7, verb=b'C', meta={}, body=b'hi')

    Errors: FaasError crashed, where the bytes cannot be a frame; too_large,
    where one announces more than `most`. The reader is of no use after that.
    """

    def __init__(self, most):
        self.most, self.held = most, bytearray()

    def receive(self, data):
        self.held += data
        frames = []
        while len(self.held) >= FRAME.size:
            size, number, verb, meta_size = FRAME.unpack_from(self.held)
            if verb not in b"HCRESDQAL" or meta_size > size - 9:
                raise FaasError("crashed", "the bytes are no frame: verb "
                                f"{verb}, sizes {size} and {meta_size}")
            if size > self.most:
                raise FaasError("too_large", f"a frame of {size} bytes is "
                                f"more than the {self.most} it may have")
            if len(self.held) < 4 + size:
                break
            meta = self.held[FRAME.size:FRAME.size + meta_size]
            body = self.held[FRAME.size + meta_size:4 + size]
            frames.append(Frame(number, verb, frame_meta(meta), bytes(body)))
            del self.held[:4 + size]
        return frames


def frame_meta(data):
    """Read the meta of a frame: a JSON object, or the frame is none.

    >>> frame_meta(b'{"pid": 7}')
    {'pid': 7}

    Not every language has text apart from bytes. Bytes that are no UTF-8
    become lone surrogates (PEP 383), and go back as these in JSON's \\u form.
    """
    try:
        meta = json.loads(data.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        raise FaasError("crashed", "the bytes are no frame: its meta is no "
                        "JSON object")
    return meta


# 4.2 SHELL: inside the worker -----------------------------------------------
#
# A worker is a loop around a handler, a function (meta, body) -> (meta, body).
# Where handlers come from is the next chapter's question; LOADERS maps a
# tongue to what makes one out of a Program. One that echoes is enough here.
#
# The worker's descriptors: 0 reads nothing, 1 and 2 are the log, 3 is the
# socket. So a print() in a function ends in its log, whoever prints.
#
# A function may want something that only the platform has: a value that
# another worker stored, or a secret. It asks for it in the middle of its
# call, over the same socket, and so the worker needs neither the database
# nor its password:
#
#      platform                                    worker
#        | --- C 7 --------------------------------> |  a call
#        | <-- Q 1 {"do": "kv.get", "args": [..]} -- |  it wants to know
#        | --- A 1 {"value": "41"} ----------------> |
#        | <-- L 0 {"level": "info"} "was 41" ------ |  it notes something,
#        | <-- R 7 --------------------------------- |  and answers
#
# Why not over HTTP, to the platform's own port? Then the function would need a
# key, and a key can be stolen; and who asks would be a claim. Here the socket
# itself says who asks: nobody else has its other end. And there is no new way
# to wait: whoever waits for R is awake when Q comes. What may be asked is a
# matter of 8.6.

LOADERS = {"echo": lambda program, channel: lambda meta, body: ({}, body)}

CHANNEL = 3


# A function may have threads, and two of them may ask at the same time. So a
# question holds the socket from its Q to its A; the answers need no sorting.


class Channel:
    """The worker's end of its socket.

    >>> ours, theirs = socket.socketpair()
    >>> channel = Channel(theirs)
    >>> ours.sendall(frame_encode(Frame(1, b"A", {"value": "41"})))
    >>> channel.question("kv.get", "hits")
    '41'
    >>> FrameReader(most=100).receive(ours.recv(100))[0].meta
    {'do': 'kv.get', 'args': ['hits']}
    >>> ours.close(), theirs.close()
    (None, None)
    """

    def __init__(self, link):
        self.link, self.turn, self.asked = link, threading.RLock(), 0
        self.reader = FrameReader(most=1 << 31)     # The platform bounds it.
        self.frames = collections.deque()

    def send(self, frame):
        with self.turn:
            self.link.sendall(frame_encode(frame))

    def receive(self):
        """Wait for a Frame; None when the platform is gone."""
        while not self.frames:
            data = self.link.recv(1 << 16)
            if not data:
                return None
            self.frames += self.reader.receive(data)
        return self.frames.popleft()

    def question(self, do, *arguments):
        """Ask the platform, and give what it says.

        Errors: ValueError, with the platform's sentence.
        """
        with self.turn:         # The function may have threads.
            self.asked += 1
            self.send(Frame(self.asked, b"Q", {"do": do, "args": arguments}))
            frame = self.receive()
        if frame is None:
            raise SystemExit
        if "error" in frame.meta:
            raise ValueError(frame.meta["error"])
        return frame.meta.get("value")


def allow_cpu(limits):
    """Grant this call its own CPU seconds, on top of what was used before."""
    if limits.cpu:
        lower_limit("CPU", int(time.process_time()) + 1 + limits.cpu, None)


def answer(handler, frame):
    """Run the handler on one call; its exception becomes an E frame.

    >>> shout = lambda meta, body: ({}, body.upper())
    >>> answer(shout, Frame(7, b"C", {}, b"hi"))
    Frame(id=7, verb=b'R', meta={}, body=b'HI')
    """
    try:
        meta, body = handler(frame.meta, frame.body)
        return Frame(frame.id, b"R", meta, body)
    except Exception as error:          # The function's, whatever it is.
        return error_frame(frame.id, error)
    finally:
        # What it printed belongs to this call, not to the next.
        for stream in sys.stdout, sys.stderr:
            with contextlib.suppress(Exception):
                stream.flush()


def error_frame(number, error):
    """Put an exception into a frame: a kind and a sentence.

    >>> error_frame(7, KeyError("colour")).meta["sentence"]
    "KeyError: 'colour'"
    """
    if isinstance(error, FaasError):
        where = {"line": error.line} if error.line else {}
        return Frame(number, b"E", {"kind": error.kind,
                                    "sentence": str(error), **where})
    kind, sentence = "crashed", type(error).__name__
    try:
        sentence = f"{sentence}: {error}".rstrip(": ")
    except Exception:           # Its __str__ is the function's, too.
        pass
    return Frame(number, b"E", {"kind": kind, "sentence": sentence})


def worker_main(program):
    """Be a worker: load the function, say hello, answer until the end."""
    link = socket.socket(fileno=CHANNEL)
    link.set_inheritable(False)         # not for what the function starts
    channel = Channel(link)
    sys.stdout, sys.stderr = (
        open(fd, "w", buffering=1, encoding="utf-8",
             errors="backslashreplace", closefd=False) for fd in (1, 2))
    for number in signal.SIGPIPE, signal.SIGXFSZ:
        signal.signal(number, signal.SIG_IGN)   # It gets exceptions instead.
    try:
        handler = LOADERS[program.tongue](program, channel)
    except Exception as error:          # Whatever an import may raise.
        channel.send(error_frame(0, error))
        return
    channel.send(Frame(0, b"H", {}))
    while frame := channel.receive():
        allow_cpu(program.limits)
        channel.send(answer(handler, frame))


# 4.3 SHELL: the nursery -----------------------------------------------------
#
# The nursery knows two orders: S, start this program with these descriptors;
# and D, end that pid. Descriptors travel beside the bytes, as SCM_RIGHTS
# (unix(7)): the kernel duplicates them into the receiver. The life of one
# shell script, as the socket between us and the nursery sees it:
#
#       -> S 8 {"argv": ["functions/shout"], "cwd": ".", "env": {...}, ...}
#          and three descriptors: its stdin, stdout, stderr
#       <- R 8 {"pid": 4711}
#          (we talk to 4711 over its pipes; its pidfd says when it exits)
#       -> D 9 {"pid": 4711}
#       <- R 9 {"status": 0}             its wait status; its family is gone
#
# An order is carried out before the next one is read, and takes as long as a
# fork or a kill takes. So one nursery is enough for all callers, and who waits
# for it waits milliseconds.
#
# What program does the nursery run? This book, up to a certain page. Every
# prefix of it is a working program, and the nursery is the prefix that ends
# before chapter 6: it knows how to fork and speaks every tongue, but has no
# shelf, no database and no doors. It starts with an empty environment,
# because what a process was started with stays readable in /proc, and a
# worker's entry there is a copy of the nursery's (promise S7).

# The processors that we were given. The platform will use one of them for
# itself (9.5); the functions may use all.
PROCESSORS = os.sched_getaffinity(0)

BOOT = """
import sys
path, channel, *processors = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    book = file.read()
prefix = book[:book.index("\\n# Chapter 6.")]
names = {"__name__": "faas", "__file__": path}
exec(compile(prefix, path, "exec"), names)
names["nursery_main"](int(channel), map(int, processors))
"""

# What most functions import: paid for once, shared by all forks.
COMMON = ("base64 collections datetime functools hashlib io itertools math "
          "random string traceback urllib.parse").split()


# One more wall, around all functions together. Where the kernel lets us make a
# cgroup (root may, on most machines), the nursery moves into one that holds
# no more than FENCE processes, and whoever it forks is born there: a bomb that
# outruns the looks of 3.4 finds the door shut, and the machine goes on.

FENCE = 2048                # processes; a Pi Zero has memory for fewer


def fence_in(most):
    """Move this process into a cgroup of its own; give its path, or ''.

    Source: cgroups(7). In version 1 the pids controller has a tree of its
    own; in version 2 only a process of the root may divide it further.
    """
    for tree, wanted in ("/sys/fs/cgroup/pids", ":pids:"), (
            "/sys/fs/cgroup", "0::/\n"):
        with contextlib.suppress(OSError):
            with open("/proc/self/cgroup") as file:
                here = next((line for line in file if wanted in line), "::")
            above = tree + here.rstrip().split(":")[2].rstrip("/")
            for name in os.listdir(above):
                if name.startswith("faas-"):    # Was that one killed?
                    with contextlib.suppress(OSError):
                        os.rmdir(f"{above}/{name}")
            path = f"{above}/faas-{os.getpid()}"
            os.mkdir(path)
            for name, value in ("pids.max", most), ("cgroup.procs", 0):
                with open(f"{path}/{name}", "w") as file:
                    file.write(str(value))
            return path
    return ""


def hear_request(control, reader):
    """Wait for one request: its frame and the descriptors beside it."""
    fds = []
    while True:
        data, more = socket.recv_fds(control, 65536, 8)[:2]
        fds += more
        if not data:
            raise EOFError
        for frame in reader.receive(data):
            return frame, fds


# When a program ends by itself, its orphans rise to the next subreaper above:
# the nursery. It knows its programs, so whoever else is its child must be
# such an orphan. This is death G of chapter 3, cured to the end.


def end_orphans(programs):
    """Kill every child of this process that is not one of `programs`.

    Each round kills all that it finds, and their children rise to be found
    in the next; a family is not deeper than the processes that there are.
    """
    for _ in range(1000):
        orphans = set(children(os.getpid())) - programs
        if not orphans:
            return
        for number in signal.SIGSTOP, signal.SIGKILL:
            for one in orphans:
                kill(one, number)
        for one in orphans:
            os.waitpid(one, 0)


def obey(frame, fds, programs):
    """Carry out one request; `programs` are the pids that are ours."""
    try:
        if frame.verb == b"D":
            if frame.meta["pid"] not in programs:
                # Another nursery's, and it died with that one.
                return Frame(frame.id, b"R", {"status": signal.SIGKILL})
            programs.discard(frame.meta["pid"])
            status = end_program(frame.meta["pid"])
            end_orphans(programs)
            return Frame(frame.id, b"R", {"status": status})
        meta = dict(frame.meta, limits=Limits(*frame.meta["limits"]))
        program = Program(**meta)
        pid = fork_program(program, fds, program.tongue and worker_main)
        programs.add(pid)
        return Frame(frame.id, b"R", {"pid": pid})
    except FaasError as error:
        return error_frame(frame.id, error)
    except OSError as error:
        return error_frame(frame.id, no_room(error))
    finally:
        for fd in fds:
            os.close(fd)


def nursery_main(channel, processors):
    """Be the nursery: fork and end as asked, until the platform is gone."""
    import ctypes
    import gc
    import importlib
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.sched_setaffinity(0, processors)
    sys.dont_write_bytecode = True      # What is on the shelf stays as it is.
    fence = fence_in(FENCE)
    for name in COMMON:
        importlib.import_module(name)
    # What is here now, stays: no collection need look at it again, and so no
    # fork gets a copy of a page because its collector has touched it.
    gc.freeze()
    control, programs = socket.socket(fileno=channel), set()
    reader = FrameReader(most=1 << 24)      # 100 variables of 10 kB, and room
    try:
        while True:
            frame, fds = hear_request(control, reader)
            reply = obey(frame, fds, programs)
            control.sendall(frame_encode(reply))
    except (EOFError, OSError):     # also in the middle of a reply
        pass
    for pid in programs:
        end_program(pid)
    end_orphans(set())
    with contextlib.suppress(OSError):
        if fence:               # Out of it, and then away with it.
            with open(os.path.dirname(fence) + "/cgroup.procs", "w") as file:
                file.write("0")
            os.rmdir(fence)


class Nursery:
    """Our end of the nursery; it starts and ends programs, as HERE does.

    >>> nursery = Nursery()
    >>> soon = Deadline(time.monotonic() + 9)
    >>> run_program(nursery, Program(("/bin/cat",)), b"hello", soon).out
    b'hello'
    >>> nursery.close()

    Errors: FaasError unavailable, if there is no nursery and none can be
    made; what exec refuses, as fork_program.
    """

    PATIENCE = 30.0     # s; a nursery that is silent longer hangs on a process
                        # that the kernel cannot end, and is replaced

    def __init__(self):
        self.turn, self.count, self.closed = threading.Lock(), 0, False
        self.programs = set()
        self.open()

    def open(self):
        self.control, theirs = socket.socketpair()
        self.control.settimeout(self.PATIENCE)
        self.reader = FrameReader(most=1 << 16)     # Replies are short.
        with theirs:
            channel = theirs.fileno()
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", BOOT,
                 os.path.abspath(__file__), str(channel),
                 *map(str, PROCESSORS)],
                env={}, cwd="/", stdin=subprocess.DEVNULL,
                pass_fds=[channel], start_new_session=True)

    def close(self):
        """Let the nursery end what it started, and then itself."""
        with self.turn:
            self.closed = True
            self.hang_up()

    def hang_up(self):
        self.control.close()
        try:
            self.process.wait(self.PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def start(self, program, fds):
        return self.ask(b"S", program._asdict(), fds)["pid"]

    def end(self, pid):
        try:
            return self.ask(b"D", {"pid": pid})["status"]
        finally:
            self.programs.discard(pid)

    def ask(self, verb, meta, fds=()):
        with self.turn:
            self.count += 1
            data = frame_encode(Frame(self.count, verb, meta))
            try:
                reply = self.exchange(data, fds)
            except OSError:
                # Closed by us, or killed by somebody, and with it the programs
                # that it had started (PR_SET_PDEATHSIG). Their groups are
                # ours to end; only who left its group as well lives on.
                if not self.closed:
                    self.hang_up()
                    for pid in list(self.programs):
                        kill(-pid)
                    self.programs.clear()
                    self.open()
                if verb == b"D":
                    return {"status": signal.SIGKILL}
                if self.closed:
                    raise FaasError("unavailable", "the nursery is closed, "
                                    "so nothing can be started") from None
                reply = self.exchange(data, fds)
            if "pid" in reply.meta:
                self.programs.add(reply.meta["pid"])
        if reply.verb == b"E":
            raise FaasError(reply.meta["kind"], reply.meta["sentence"])
        return reply.meta

    def exchange(self, data, fds):
        sent = socket.send_fds(self.control, [data], fds)
        self.control.sendall(data[sent:])
        while data := self.control.recv(65536):
            for frame in self.reader.receive(data):
                return frame
        raise ConnectionResetError("the nursery is gone")


# 4.4 SHELL: our end of a worker ---------------------------------------------
#
# A worker can fail in more ways than a program, because it is asked again:
#
#   it hangs                         its deadline ends it
#   it exits, or is killed           the pidfd fires; the status says how
#   it closes its channel and stays  end of file while the process lives
#   it talks nonsense                no frame, or the answer to another call
#   it prints without end            the log is bounded as the answer is
#
# In each case the call fails with its own sentence, the process ends, and the
# pool below forks another one when it is needed.
#
# Its questions are answered here, by whoever was given to the constructor;
# the worker waits meanwhile, so its deadline is the answerer's to keep.


MAX_SENTENCE = 4000         # characters of a worker's reason; if it has more
                            # to say, there is the log


def tell_nothing(do, arguments, deadline):
    """Answer a question of a worker that may ask none."""
    raise FaasError("bad_input", "functions of this tongue may not ask for "
                    f"{do}")


# One exchange, as poll() sees it, with the three descriptors that matter:
#
#       channel   log   life    what it means
#          x                    a frame, or a part of one
#                  x            it printed; the pipe must not fill up
#                        x      it exited: nothing will come any more
#          (nothing, 50 ms)     a look at the clock, and at its family
#
# All three are watched in every wait, because each can be the one that comes:
# a worker that prints a megabyte before it answers would wait for us to read
# it, while we wait for its answer.


class Worker:
    """A process that answers calls, one at a time.

    >>> nursery = Nursery()
    >>> soon = Deadline(time.monotonic() + 9)
    >>> worker = Worker(nursery, Program(tongue="echo"), soon)
    >>> worker.ask({}, b"hello", soon).out
    b'hello'
    >>> os.kill(worker.pid, signal.SIGTERM)
    >>> worker.ask({}, b"hello", soon).error
    FaasError('its worker was ended by SIGTERM')
    >>> nursery.close()

    `tell(do, arguments, deadline)` answers what the worker asks.

    Errors: FaasError from the constructor, where the function cannot be
    loaded. `ask` raises nothing: a failure is the Run's `error`, and where
    the worker was gone before it heard of the call, the Run's `start` is ''.
    """

    def __init__(self, parent, program, deadline, tell=tell_nothing):
        self.parent, self.limits, self.tell = parent, program.limits, tell
        self.count, self.idle_since, self.alive = 0, time.monotonic(), True
        self.reader = FrameReader(most=program.limits.output + 65536)
        self.channel, theirs = socket.socketpair()
        self.log, log_w = pipe()
        self.log_open = True
        os.set_blocking(self.log.fileno(), False)
        try:
            with theirs, log_w, open(os.devnull, "rb") as null:
                self.pid = parent.start(program, [
                    file.fileno() for file in (null, log_w, log_w, theirs)])
            self.life = os.pidfd_open(self.pid)
        except (FaasError, OSError) as error:
            self.channel.close()
            self.log.close()
            raise error if isinstance(error, FaasError) else no_room(error)
        self.poll = select.poll()
        for fd in self.channel, self.log, self.life:
            self.poll.register(fd, select.POLLIN)
        hello = self.exchange(b"", deadline)
        if hello.error:
            self.end()
            hello.error.detail = hello.log
            raise hello.error

    def ask(self, meta, body, deadline):
        """Put one call to the worker; whatever happens, here is its Run."""
        self.count += 1
        frame = Frame(self.count, b"C", meta, body)
        return self.exchange(frame_encode(frame), deadline)

    def exchange(self, data, deadline):
        log = bytearray()
        if not self.alive:
            return Run(error=FaasError("crashed", "its worker has ended"),
                       start="")
        asked = True
        try:
            asked = self.send(data, deadline)
            frame = self.hear(log, deadline)
        except FaasError as error:
            self.end()
            if error.kind == "too_large":   # A frame has no word for output.
                error = too_much(self.limits.output)
            return Run(log=bytes(log), error=error,
                       start="warm" if asked else "")
        except BaseException:
            self.end()              # Nobody knows where in its call it is.
            raise
        error = None
        if frame.verb == b"E":
            kind = frame.meta.get("kind")
            known = isinstance(kind, str) and kind in KINDS
            error = FaasError(kind if known else "crashed", str(
                frame.meta.get("sentence", ""))[:MAX_SENTENCE])
            line = frame.meta.get("line")
            if type(line) is int and 0 < line < 1 << 31:
                error.line = line
        return Run(frame.body, bytes(log), error, frame.meta, "warm")

    def send(self, data, deadline):
        """Write one frame; False where nobody was there to read any of it.

        Errors: FaasError timeout, for a worker that does not read.
        """
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.channel.send(rest, socket.MSG_DONTWAIT):]
            except BlockingIOError:
                ready = select.poll()
                ready.register(self.channel, select.POLLOUT)
                left = min(deadline.at - time.monotonic(), 86400.0)
                if left <= 0 or not ready.poll(1000 * left):
                    raise FaasError("timeout", "its worker did not read what "
                                    f"it was told within {deadline.why}"
                                    ) from None
            except OSError:     # It is gone, and hear() will say how.
                return len(rest) < len(data)
        return True

    def hear(self, log, deadline):
        """Wait for the answer to the newest call, and gather its log."""
        watch = Watch(self.pid, self.limits, deadline, time.monotonic())
        frames, gone = [], False
        while not (frames or gone):
            for fd, _ in self.poll.poll(
                    1000 * watch.patience(time.monotonic())):
                if fd == self.log.fileno():
                    self.read_log(log)
                elif fd == self.life:
                    gone = True
                else:
                    piece = self.receive()
                    frames += self.attend(piece, log, deadline)
                    gone = not piece
            if not (frames or gone):
                watch.check(time.monotonic())
        # What was said before the answer was in the pipe before it, so the
        # poll that saw the answer has seen that too.
        if not frames:
            self.read_log(log)
            raise self.obituary()
        if len(frames[-1].body) > self.limits.output:
            raise too_much(self.limits.output)
        if frames[-1].id != self.count or len(frames) > 1:
            raise FaasError("crashed", "its worker answered call "
                            f"{frames[-1].id} when asked call {self.count}")
        if frames[0].verb not in (b"RE" if self.count else b"HE"):
            raise FaasError("crashed", "its worker answered with a frame of "
                            f"verb {frames[0].verb}")
        return frames[0]

    def receive(self):
        try:
            return self.channel.recv(1 << 16, socket.MSG_DONTWAIT)
        except OSError:
            return b""

    def attend(self, piece, log, deadline):
        """Give the frames in a piece that answer a call; see to the rest."""
        answers = []
        for frame in self.reader.receive(piece):
            if frame.verb == b"Q":
                self.send(frame_encode(self.told(frame, deadline)), deadline)
            elif frame.verb == b"L":
                self.read_log(log)      # What was printed before, comes first.
                level = ascii(frame.meta.get("level")).strip("'")[:9]
                # One entry, however many lines; the second has no level.
                log += f"[{level}] ".encode() + frame.body.replace(
                    b"\n", b"\n  ") + b"\n"
                if len(log) > self.limits.output:
                    raise too_much(self.limits.output)
            else:
                answers.append(frame)
        return answers

    def told(self, frame, deadline):
        """Answer a question; a failure is an answer, too."""
        try:
            value = self.tell(frame.meta.get("do"), frame.meta.get("args"),
                              deadline)
            return Frame(frame.id, b"A", {"value": value})
        except FaasError as error:
            return Frame(frame.id, b"A", {"error": str(error)})

    def read_log(self, log):
        open_still = pull(self.log, log, self.limits.output)
        if self.log_open and not open_still:
            self.poll.unregister(self.log)
        self.log_open = open_still

    def obituary(self):
        """Say how the worker went; FaasError crashed in every case."""
        exited = select.poll()
        exited.register(self.life, select.POLLIN)
        # The socket closes a moment before the process is gone: 200 ms is a
        # moment even on a loaded Pi.
        if not exited.poll(200):
            return FaasError("crashed", "its worker closed its channel "
                             "before it answered")
        return exit_error("its worker", self.end(), self.limits) or FaasError(
            "crashed", "its worker exited with status 0 before it answered")

    def end(self):
        """End the process and all it started; give its wait status."""
        if not self.alive:
            return 0
        self.alive = False
        try:
            return self.parent.end(self.pid)
        finally:
            self.channel.close()
            self.log.close()
            os.close(self.life)

    def healthy(self):
        """Look, without waiting, whether an idle worker is still one."""
        return not self.gone() and not outgrown(self.pid,
                                                self.limits.processes)

    def gone(self):
        """Tell whether the process ended, or spoke without being asked."""
        return any(fd != self.log.fileno() for fd, _ in self.poll.poll(0))


# 4.5 The pool ---------------------------------------------------------------
#
# How many workers? One is too few as soon as a function waits for something:
# ten calls that each sleep a second would take ten seconds. One per call is
# too many: a burst of sixty calls of 0.1 ms would fork sixty processes for
# six milliseconds of work. So the pool looks at itself. As long as a worker
# lies idle now and then, there are enough. When none has for a few
# milliseconds, one more is forked, and never two at a time.
#
#       a caller comes:  an idle worker?               yes -> take the newest
#                        none was idle for PATIENCE?   yes -> fork one more
#                        else                          wait for one
#
# Ten calls of a function that sleeps a second, and a pool with one worker:
#
#       0 ms      call 1 takes the worker; calls 2 to 10 wait
#       5 ms      nobody was idle: call 2 forks, and has a worker at 9 ms
#      10 ms      call 3 forks, and so on, one at each look
#      50 ms      all ten run; at 1 s the pool has ten idle workers
#
# Eight callers who come again as soon as they were answered, and a function
# of 0.1 ms: after 50 ms each of them finds an idle worker. That is no waste.
# With fewer, a worker goes from thread to thread, and to wake a thread costs
# more than the function: eight workers serve them half as fast again as one.
#
# Whoever waits has a ticket, and a worker that comes back is handed to the
# oldest one. Without tickets the thread that brings it back would take it
# again: it is awake, and the others are not, so they starve.
#
# The newest idle worker is taken, not the oldest, so that those which are not
# needed grow cold at the bottom of the stack, where reap() finds them.


class Retired(Exception):
    """This pool serves an old version; ask for the function again."""


class Ticket:
    """One caller's place in a queue: wait until you are served.

    A lock that is taken at birth and released by whoever serves: the cheapest
    way for one thread to wake another.

    >>> ticket = Ticket()
    >>> ticket.wait(0.01), ticket.serve("a worker"), ticket.wait(0.01)
    (False, None, True)
    """

    def __init__(self):
        self.lock, self.served, self.worker = threading.Lock(), False, None
        self.lock.acquire()

    def wait(self, patience):
        return self.lock.acquire(timeout=patience)

    def serve(self, worker):
        self.served, self.worker = True, worker
        self.lock.release()


class Pool:
    """The workers of one version of one function.

    `birth(deadline)` makes a Worker; `least` of them are made by fill(), and
    never more than `most` exist.

    >>> nursery = Nursery()
    >>> soon = Deadline(time.monotonic() + 9)
    >>> birth = lambda when: Worker(nursery, Program(tongue="echo"), when)
    >>> pool = Pool(birth, least=1, most=16)
    >>> worker, start = pool.lease(soon); start
    'cold'
    >>> pool.give_back(worker)
    >>> pool.lease(soon)[1]
    'warm'
    >>> nursery.close()
    """

    PATIENCE = 0.005    # s; somewhat more than a fork takes, so that growing
                        # never keeps more than one processor busy

    def __init__(self, birth, least, most, patience=PATIENCE):
        self.birth, self.least, self.most = birth, least, most
        self.patience = patience
        self.idle, self.size, self.closed = [], 0, False
        self.last_idle, self.growing = 0.0, False
        self.turn, self.queue = threading.Lock(), collections.deque()

    def fill(self, deadline):
        """Make the pool's least number of workers ready.

        Errors: FaasError, where the function cannot be loaded; then the
        pool is empty again.
        """
        try:
            while self.size < self.least:
                self.size += 1
                self.idle.append(self.birth(deadline))
        except BaseException:
            self.size -= 1      # the one that was not born
            self.retire()
            raise

    def lease(self, deadline):
        """Take a worker, and say whether it was 'cold' or 'warm'.

        Errors: FaasError timeout; Retired; FaasError where a birth fails.
        """
        since, ticket = time.monotonic(), Ticket()
        with self.turn:
            if self.closed:
                raise Retired
            if self.idle:
                self.last_idle = since
                return self.idle.pop(), "warm"
            self.queue.append(ticket)
        while True:
            with self.turn:
                if ticket.served:
                    break
                now = time.monotonic()
                late, grows = now >= deadline.at, self.may_grow(now)
                if late or grows:
                    self.queue.remove(ticket)
                if grows:
                    self.size, self.growing = self.size + 1, True
                    self.last_idle = now
            if grows:
                return self.grow(deadline), "cold"
            if late:
                raise FaasError("timeout", "no worker came free within "
                                + deadline.why)
            ticket.wait(self.PATIENCE)      # then look again
            if not ticket.served:
                self.check(ticket, deadline)
        if not ticket.worker:
            raise Retired
        return ticket.worker, "warm"

    def check(self, ticket, deadline):
        """Give up a place in the queue, where its caller called it off."""
        try:
            deadline.check()
        except FaasError:
            with self.turn:
                if not ticket.served:
                    self.queue.remove(ticket)
                    raise           # else there is a worker to give back

    def may_grow(self, now):
        """Tell whether a caller who finds no idle worker may fork one."""
        if self.size == 0:
            return True
        busy = now - self.last_idle >= self.patience
        return busy and self.size < self.most and not self.growing

    def grow(self, deadline):
        worker = None
        try:
            worker = self.birth(deadline)
            return worker
        finally:
            with self.turn:
                if worker is None:
                    self.size -= 1
                self.growing = False

    def give_back(self, worker):
        """Return a worker, alive or not."""
        worker.idle_since = time.monotonic()
        with self.turn:
            kept = worker.alive and not self.closed
            if not kept:
                self.size -= 1
            elif self.queue:
                self.queue.popleft().serve(worker)
            else:
                self.idle.append(worker)
                self.last_idle = worker.idle_since
        if not kept:
            worker.end()

    def reap(self, now, patience):
        """End workers idle for `patience` s, and those no longer healthy."""
        with self.turn:
            cold = [worker for worker in self.idle
                    if now - worker.idle_since > patience
                    or not worker.healthy()]
            for worker in cold:
                self.idle.remove(worker)
            self.size -= len(cold)
        for worker in cold:
            worker.end()

    def retire(self):
        """Take no more calls; end who is idle now, and the busy on return."""
        with self.turn:
            self.closed, idle, self.idle = True, self.idle, []
            self.size -= len(idle)
            while self.queue:
                self.queue.popleft().serve(None)
        for worker in idle:
            worker.end()


# Try it ---------------------------------------------------------------------
#   >>> nursery = Nursery()
#   >>> later = Deadline(time.monotonic() + 60)
#   >>> worker = Worker(nursery, Program(tongue="echo"), later)
#   >>> import timeit
#   >>> timeit.timeit(lambda: worker.ask({}, b"hi", later), number=1000) < 5
#   True
#   >>> nursery.close(), worker.ask({}, b"hi", later).error is None
#   (None, False)
#
# Roads not taken ------------------------------------------------------------
#   multiprocessing's forkserver: it is a nursery, but it imports the caller's
#     main module, pickles what it is sent, and knows no limits.
#   HTTP between platform and worker, as tinyFaaS does: every language speaks
#     it, and each call then pays for two parsers (0.3 ms here).
#   Threads or subinterpreters instead of processes: no way to end one.
#   Growing by the length of the queue: a burst that is over in a millisecond
#     would leave a crowd of idle processes behind.
#
# Real world -----------------------------------------------------------------
#   Android starts every app by forking a process named zygote, for the same
#   milliseconds. Lambda's INIT phase, its snapshots (SnapStart) and its warm
#   sandboxes are the three lines of this chapter's table, with virtual
#   machines. OpenFaaS's of-watchdog keeps a function's process as 4.4 does.

# ============================================================================
# Chapter 5. Tongues: what does a function look like?
# ============================================================================
#
# Everybody who builds a platform decides anew what a function is: a program
# that reads its input, a Python function with two arguments, a folder with a
# certain file in it. None of these is the right one, so the platform speaks
# nine of them. What a tongue is comes down to a few questions, and the table
# below answers them for each:
#
#       how is it recognised?    by files of certain names, its marks
#       how does it run?         a process per call, a worker, or a server
#       what goes in and out?    standard input and output, or arguments
#       what may it choose?      the status and the headers of its answer
#       what may it ask for?     values and secrets that the platform keeps
#
# What a tongue is not: a sandbox, a router, a framework. A function in any
# tongue is a file that can be read, run and tested without the platform:
#
#       $ echo hello | functions/shout
#       HELLO
#       $ python3 -c 'import fn; print(fn.fn("hello", {}))'
#
# The rest of the chapter takes them one by one. The shims in JavaScript, Go
# and Lua are one program written three times: read a frame, call the
# function, write a frame. Whoever has read 4.2 has read them.
#
# Promised: nothing.


class Tongue(typing.NamedTuple):
    """One contract between the platform and a function's author.

    The code reads all but `goes_in`, `comes_out` and `taken_from`, which are
    for people, the docs and notebook 08.
    """
    marks: tuple            # alternatives of files that a bundle must hold
    says: bytes             # a pattern that the first such file must match
    text: str               # the file that its author writes
    runs: str               # 'process': one per call; 'worker'; 'server'
    needs: str              # programs, one of which must be installed, and
    package: str            # the Debian package that has one
    chooses: bool           # may choose the status and headers of its answer
    asks: bool              # may ask the platform, and has its variables there
    goes_in: str
    comes_out: str
    taken_from: str


TONGUES = {
    "script": Tongue(
        (), b"", "", "process", "", "", False, False,
        "body on stdin, the rest in variables", "stdout", "PiFaaS"),
    "binary": Tongue(
        ("fn.sh",), b"", "fn.sh", "process", "", "", False, False,
        "body on stdin, the rest in variables", "stdout", "tinyFaaS"),
    "python3": Tongue(
        ("fn.py",), b"", "fn.py", "worker", "", "", False, False,
        "fn(input, headers), or fn(input)", "the value it returns",
        "tinyFaaS"),
    "node": Tongue(
        ("fn.yaml index.js",), b"", "index.js", "worker", "node", "nodejs",
        False, False, "(context, cb), the body's JSON", "cb(value), as JSON",
        "rknizzle/faas"),
    "nodejs": Tongue(
        ("package.json",), rb'"name"\s*:\s*"fn"', "index.js", "worker",
        "node", "nodejs", True, False, "(req, res), as in Express",
        "res.send, json, status, set, end", "tinyFaaS"),
    "go": Tongue(
        ("fn.go",), b"", "fn.go", "worker", "go", "golang-go", False, False,
        "fn(data, headers)", "(string, error)", "tinyFaaS"),
    "lua": Tongue(
        ("main.lua",), b"", "main.lua", "worker",
        "luajit lua5.1 lua5.4 lua5.3 lua", "luajit", True, True,
        "handler(ctx, event)", "{statusCode, headers, body}", "FaaS-Go"),
    "python": Tongue(
        ("main.py",), rb"(?m)^def handler\(\s*\w+\s*(:[^()]*?)?,\s*\w+\s*"
        rb"([:=][^()]*?)?,?\s*\)", "main.py", "worker", "", "", True, True,
        "handler(ctx, event)", '{"statusCode", "headers", "body"}', "ours"),
    "server": Tongue(
        ("go.mod", "package.json", "pyproject.toml main.py",
         "requirements.txt main.py"), b"", "", "server", "", "", True, False,
        "HTTP, on the port in $PORT", "HTTP", "SmolFaaS"),
}


def bundled_tongues():
    """Give the part of TONGUES that is recognised by its files.

    >>> list(bundled_tongues())[:3]
    ['binary', 'python3', 'node']
    """
    return {name: tongue for name, tongue in TONGUES.items() if tongue.marks}


def has_marks(tongue, paths, read):
    """Tell whether a bundle's files say that it is of this tongue.

    >>> has_marks(TONGUES["node"], ["index.js"], None)
    False
    """
    for mark in tongue.marks:
        files = mark.split()
        if set(files) <= set(paths):
            return not tongue.says or bool(
                re.search(tongue.says, read(files[0])))
    return False


def choose_tongue(wanted, paths, read=lambda path: b""):
    """Give the tongue of a bundle, from what was asked and what it holds.

    `read(path)` gives the bytes of one of its files.

    >>> choose_tongue("", ["fn.py", "requirements.txt"])
    'python3'
    >>> choose_tongue("python3", ["main.py"])
    Traceback (most recent call last):
    ...
    faas.FaasError: a python3 function needs at its top: fn.py

    A bundle with the marks of several is what comes first in TONGUES, unless
    it says otherwise. Errors: FaasError bad_input.
    """
    bundled = bundled_tongues()
    if wanted and wanted not in bundled:
        raise FaasError("bad_input", f"{wanted[:40]!r} is no tongue of this "
                        f"platform: use one of {', '.join(bundled)}")
    for name, tongue in bundled.items():
        # Who says what it is, need not say it in its text.
        if wanted == name and has_marks(tongue._replace(says=b""), paths,
                                        read):
            return name
        if not wanted and has_marks(tongue, paths, read):
            return name
    if wanted:
        raise FaasError("bad_input", f"a {wanted} function needs at its top: "
                        + alternatives(bundled[wanted].marks))
    if "Dockerfile" in paths:
        raise FaasError("bad_input", "a Dockerfile needs a container engine, "
                        "and this platform uses none: add a go.mod, a "
                        "package.json or a main.py with requirements.txt")
    marks = dict.fromkeys(mark for tongue in bundled.values()
                          for mark in tongue.marks)
    raise FaasError("bad_input", "it is no function of any tongue: there is "
                    f"no {alternatives(marks)} at its top")


def alternatives(marks):
    """Put marks into a sentence.

    >>> alternatives(("go.mod", "fn.yaml index.js"))
    'go.mod, or fn.yaml and index.js'
    """
    return ", or ".join(" and ".join(mark.split()) for mark in marks)


# 5.1 Script and binary: the contract of 1971 --------------------------------
#
# A program reads standard input and writes standard output. What does not
# fit into the body travels in environment variables, under the names that CGI
# gave them (RFC 3875, section 4.1). One header is left out: a client that
# sends `Proxy: evil` would set HTTP_PROXY, which many programs obey; in 2016
# that was a hole in many programs behind CGI, called httpoxy.
#
# The environment is made from nothing, and the PATH begins where the
# platform's own Python lives, so that `#!/usr/bin/env python3` finds it.

SEARCH_PATH = os.pathsep.join([os.path.dirname(sys.executable),
                               "/usr/local/bin", "/usr/bin", "/bin"])


def clean_environment(fn):
    """Give the variables that every process of a function sees.

    >>> sorted(clean_environment(Function("f", "binary", "/tmp")))[:2]
    ['FAAS_FUNCTION', 'FAAS_VERSION']
    """
    # A tongue that can ask for its variables (5.5) does not carry them about.
    own = {} if TONGUES[fn.tongue].asks else fn.env
    zone = {"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}
    return {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "HOME": "/tmp", **zone,
            "FAAS_FUNCTION": fn.name, "FAAS_VERSION": str(fn.version), **own}


def cgi_variables(call, ident):
    """Spell a Call in CGI's variables.

    >>> call = Call("f", b"hi", {"Lab": "a", "Proxy": "evil"}, query="x=1")
    >>> cgi = cgi_variables(call, "id-1")
    >>> cgi["HTTP_LAB"], cgi["QUERY_STRING"], "HTTP_PROXY" in cgi
    ('a', 'x=1', False)

    Source: RFC 3875, sections 4.1 and 9.2.
    """
    variables = {"REQUEST_METHOD": call.method, "PATH_INFO": call.path,
                 "QUERY_STRING": call.query, "SCRIPT_NAME": "/" + call.fn,
                 "CONTENT_LENGTH": str(len(call.body)),
                 "CONTENT_TYPE": call.headers.get("Content-Type", ""),
                 "GATEWAY_INTERFACE": "CGI/1.1",
                 "FAAS_EXECUTION": ident, "FAAS_TRIGGER": call.trigger}
    for name, value in call.headers.items():
        if name != "Proxy":
            variables["HTTP_" + name.upper().replace("-", "_")] = value
    return variables


def program_of(fn, call, ident=""):
    """Make the Program of one call of a tongue that runs a process per call.

    >>> fn = Function("shout", "script", "/srv/functions/shout")
    >>> program = program_of(fn, Call("shout"))
    >>> program.argv, program.cwd
    (('/srv/functions/shout',), '/srv')
    """
    env = {**clean_environment(fn), **cgi_variables(call, ident)}
    if fn.tongue == "script":
        # Run in place, where PiFaaS ran it: beside functions/, not in it.
        above = os.path.dirname(os.path.dirname(fn.folder))
        return Program((fn.folder,), above, env, fn.limits)
    return Program((os.path.join(fn.folder, "fn.sh"),), fn.folder, env,
                   fn.limits)


# 5.2 python3: a function that stays -----------------------------------------
#
#       def fn(input, headers):            # or def fn(input)
#           return f"hello {input}"
#
# `input` is a str, or None where the body is empty. Bytes that are no UTF-8
# become lone surrogates (PEP 383) and turn back into the same bytes when they
# are returned, so that an echo is an echo for every body.
#
#       returned                    answered
#       None                        an empty body
#       str                         text/plain; charset=utf-8
#       bytes                       application/octet-stream
#       what json.dumps takes       application/json
#       anything else               a failure that names its type
#
# tinyFaaS's proxy answers an exception with status 200 and its text. Here it
# is a failure on every door; the text is its last line, and the log has the
# traceback, in which the function's own lines are marked:
#
#       Traceback (most recent call last):
#     > File "fn.py", line 2, in fn
#     >   return json.loads(input)["colour"]
#       ...
#       KeyError: 'colour'


PACKAGES = "site-packages"      # in a version's folder: see 5.11


def take_python3(body):
    """Turn a body into the input of a python3 function.

    >>> take_python3(b""), take_python3(b"hi"), take_python3(b"\\xff")
    (None, 'hi', '\\udcff')
    """
    return body.decode("utf-8", "surrogateescape") if body else None


def give_python3(value):
    """Turn what a python3 function returned into (headers, body).

    >>> give_python3({"a": 1})
    ({'Content-Type': 'application/json'}, b'{"a": 1}')
    >>> give_python3("\\udcff")[1]
    b'\\xff'

    Errors: FaasError crashed, for a value that has no bytes.
    """
    if value is None:
        return {}, b""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"Content-Type": "application/octet-stream"}, bytes(value)
    try:
        if isinstance(value, str):
            return ({"Content-Type": "text/plain; charset=utf-8"},
                    value.encode("utf-8", "surrogateescape"))
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FaasError("crashed", f"fn returned a {type(value).__name__} "
                        "that cannot be sent: return a str, bytes, or what "
                        f"json.dumps takes ({error})") from None
    return {"Content-Type": "application/json"}, text.encode()


NOT_THE_AUTHORS = re.compile(
    rf'  File "(<frozen importlib|[^"]*/importlib/__init__\.py"|'
    rf'{re.escape(os.path.abspath(__file__))}")')


def mark_traceback(lines, folder):
    """Mark the function's own lines in a formatted traceback.

    `lines` are those of traceback.format_exception: one item may hold
    several. Our own frames and those of the import machinery, which the
    author cannot change, are left out.

    >>> lines = ['  File "/s/fn.py", line 2, in fn\\n    1 / 0\\n',
    ...          'ZeroDivisionError: division by zero\\n']
    >>> print(mark_traceback(lines, "/s"), end="")
    > File "fn.py", line 2, in fn
    >   1 / 0
    ZeroDivisionError: division by zero
    """
    marked = []
    for item in lines:
        if item.startswith('  File "') and NOT_THE_AUTHORS.match(item):
            continue
        if item.startswith(f'  File "{folder}/'):
            item = item.replace(f'"{folder}/', '"', 1)
            item = "".join("> " + line[2:] for line in
                           item.splitlines(keepends=True))
        marked.append(item)
    return "".join(marked)


# SHELL. The rest of this section runs inside the worker. The interpreter was
# started with -S, so a function sees the standard library, its own folder and
# its requirements, and never what happens to be installed on this machine: it
# would be missing on the next one.


def import_module(name):
    """Import a function's module; give it, and how to call what is in it.

    Errors: whatever the import raises; its traceback is in the log.
    """
    import importlib
    import traceback
    folder = os.getcwd()
    sys.path[:0] = [folder, os.path.join(folder, PACKAGES)]

    def told(task, *arguments):
        try:
            return task(*arguments)
        except FaasError:
            raise
        except Exception as error:
            lines = traceback.format_exception(error)
            sys.stderr.write(mark_traceback(lines, folder))
            failure = FaasError("crashed", error_frame(0, error).meta[
                "sentence"])
            failure.line = line_of(error, os.path.join(folder, name + ".py"))
            raise failure from None

    return told(importlib.import_module, name), told


def line_of(error, path):
    """Give the line of a file that was being run when an exception came.

    >>> try: json.loads(5)
    ... except TypeError as error: line_of(error, json.__file__) > 300
    True
    """
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno or 0
    line, step = 0, error.__traceback__
    while step:
        if step.tb_frame.f_code.co_filename == path:
            line = step.tb_lineno
        step = step.tb_next
    return line


def load_python3(program, channel):
    """Import fn.py and make a handler (meta, body) -> (meta, body) of it.

    Errors: FaasError bad_input where there is no fn to call; otherwise
    whatever the import raises.
    """
    module, told = import_module("fn")
    fn = getattr(module, "fn", None)
    arguments = count_arguments(fn)

    def handler(meta, body):
        given = take_python3(body), meta["headers"]
        headers, out = give_python3(told(fn, *given[:arguments]))
        return {"headers": headers}, out
    return handler


def count_arguments(fn):
    """Tell whether fn takes (input, headers), 2, or (input), 1.

    >>> count_arguments(lambda input: input)
    1
    """
    if not callable(fn):
        raise FaasError("bad_input", "fn.py defines no function called fn")
    code = getattr(fn, "__code__", None)
    if type(fn) is type(count_arguments) and code.co_argcount in (1, 2) and (
            code.co_kwonlyargcount == code.co_flags & 0x0C == 0):
        return code.co_argcount     # As nearly always; inspect costs 8 ms.
    import inspect
    try:
        signature = inspect.signature(fn)
    except ValueError:          # a builtin that hides its signature
        return 1
    for count in 2, 1:
        try:
            signature.bind(*[None] * count)
            return count
        except TypeError:
            pass
    raise FaasError("bad_input", "fn takes neither (input, headers) nor "
                    "(input)")


LOADERS["python3"] = load_python3

# 5.3 node and nodejs: the same shim for two contracts ------------------------
#
#       nodejs, as tinyFaaS has it           node, as rknizzle/faas has it
#
#       module.exports = (req, res) => {    module.exports = (context, cb) => {
#         res.send("hello " + req.body);      cb({hello: context.name});
#       };                                  };
#
# The first looks like a handler of Express, and no Express is needed: of `req`
# and `res` there is what a function uses. The second gets the body's JSON, and
# gives back a value. An exception, a promise that is rejected and an error
# handed to cb are failures.
#
# A JavaScript string cannot hold every byte, so `req.body` is for text, and
# `req.rawBody` is a Buffer with the bytes as they came.
#
# The shim is handed to `node -e`, with the tongue as its argument. Its parts,
# and what they are in 4.2:
#
#       finish, refuse, fail      frame_encode, error_frame; a call ends once
#       callExpress, Response     what Express hands to a handler: req and res
#       callBack                  context and cb
#       load, serve               worker_main: import, say H, read frames
#       take                      answer: one C frame to one call of fn
#
# Node reads with callbacks: nobody waits for a call to end, and an exception
# may come from a timer long after fn has returned. So the call under way is
# kept in `running`, and what nobody caught belongs to it.

NODE_SHIM = r"""
// node -e THIS nodejs, or node -e THIS node, in the function's folder.
// Descriptor 3 carries the frames of 4.1; stdout and stderr are the log.
const { inspect } = require("util");
const FOLDER = process.cwd() + "/";
const TONGUE = process.argv[1];
const CALLS = { nodejs: callExpress, node: callBack };
const TYPES = { html: "text/html", text: "text/plain", csv: "text/csv",
                json: "application/json", svg: "image/svg+xml" };
const channel = new (require("net").Socket)(
  { fd: 3, readable: true, writable: true });
let running = { id: 0, done: false };   // the call under way; 0 is loading

function finish(call, verb, meta, body = Buffer.alloc(0)) {
  if (call.done) return console.error("a second answer was left out");
  call.done = true;
  if (running === call) running = null;
  const head = Buffer.alloc(13), text = Buffer.from(JSON.stringify(meta));
  head.writeUInt32BE(9 + text.length + body.length, 0);
  head.writeUInt32BE(call.id, 4);
  head.write(verb, 8);
  head.writeUInt32BE(text.length, 9);
  channel.write(Buffer.concat([head, text, body]));
  if (verb === "E" && call.id === 0) channel.end(() => process.exit(1));
}

function refuse(call, sentence) {
  finish(call, "E", { kind: "bad_input", sentence });
}

// An exception, a rejected promise, cb(error): the call failed. Between two
// calls there is nobody to tell, so then it is a line in the log.
function fail(call, error) {
  const lines = inspect(error).replaceAll(FOLDER, "").split("\n");
  console.error(lines.filter((line) =>
    !/^ +at .*(\[eval\]|node:internal)/.test(line)).join("\n"));
  if (!call || call.done) return;
  const text = error instanceof Error ? String(error) : inspect(error);
  finish(call, "E", { kind: call.id ? "crashed" : "bad_input",
                      sentence: text.split("\n")[0] });
}

// nodejs: what Express gives a handler, as far as a function needs it.
async function callExpress(fn, call, meta, rawBody) {
  const headers = {}, ours = {};
  for (const [name, value] of Object.entries(meta.headers || {})) {
    const key = name.toLowerCase();
    (key.startsWith("x-faas-") ? ours : headers)[key] = value;
  }
  const path = ours["x-faas-path"] || "/", search = ours["x-faas-query"];
  const get = (name) => headers[name.toLowerCase()];
  await fn({ method: ours["x-faas-method"] || "POST", path,
             url: path + (search ? "?" + search : ""),
             query: { ...require("querystring").parse(search) },
             headers, get, header: get, rawBody, body: rawBody.toString() },
           new Response(call));
}

function canonical(name) {      // as the platform spells it: Content-Type
  return name.toLowerCase().replace(/\b[a-z]/g, (c) => c.toUpperCase());
}

class Response {
  statusCode = 200; headers = {}; pieces = [];
  constructor(call) { this.call = call; }
  get headersSent() { return this.call.done; }
  get(name) { return this.headers[canonical(name)]; }
  set(name, value) {
    const given = typeof name === "object" ? name : { [name]: value };
    for (const key in given)
      this.headers[canonical(key)] = String(given[key]);
    return this;
  }
  header(name, value) { return this.set(name, value); }
  setHeader(name, value) { return this.set(name, value); }
  type(t) { return this.set("Content-Type", TYPES[t] || t); }
  status(n) {
    if (!Number.isInteger(n) || n < 100 || n > 599)
      throw new RangeError(`${inspect(n)} is no status: use 100 to 599`);
    this.statusCode = n;
    return this;
  }
  write(piece) { this.pieces.push(Buffer.from(piece)); return this; }
  end(piece) {
    const { statusCode: status, headers } = this.status(this.statusCode);
    if (piece !== undefined && piece !== null) this.write(piece);
    finish(this.call, "R", { status, headers }, Buffer.concat(this.pieces));
    return this;
  }
  as(type) { return this.type(this.get("Content-Type") || type); }
  json(value) {
    const text = JSON.stringify(value);
    return this.as("application/json; charset=utf-8").end(text);
  }
  send(v) {
    if (v === undefined || v === null) return this.end();
    if (typeof v === "string") this.as("text/plain; charset=utf-8");
    else if (v instanceof Uint8Array) this.as("application/octet-stream");
    else return this.json(v);
    return this.end(v);
  }
  sendStatus(n) { return this.status(n).send(String(n)); }
}

// node: the body is JSON, and so is what cb is given.
async function callBack(fn, call, meta, body) {
  let context = {}, wrong;
  try {
    if (body.length) context = JSON.parse(body);
    if (Object(context) !== context) wrong = inspect(context).slice(0, 60);
  } catch (error) {
    wrong = error.message.replace(/\s+/g, " ");
  }
  if (wrong)
    return refuse(call, "the body is no JSON object or array: " + wrong);
  const res = new Response(call), cb = (value) =>
    value instanceof Error ? fail(call, value)
      : value === undefined ? res.end() : res.json(value);
  const returned = fn(context, cb), value = await returned;
  if (fn.length < 2 && returned !== undefined) cb(value);
}

async function load() {
  const main = require.resolve(process.cwd());
  try {
    return require(main);
  } catch (error) {             // An ES module cannot always be required.
    if (!/^ERR_REQUIRE_/.test(error?.code)) throw error;
    return import(require("url").pathToFileURL(main));
  }
}

function serve(loaded) {
  const fn = loaded?.default ?? loaded, takes = { node: "(context, cb)" };
  if (typeof fn !== "function")
    return refuse(running, "index.js must export a function: " +
      `module.exports = ${takes[TONGUE] || "(req, res)"} => ...`);
  let size = 0, bytes;          // of the rest of a frame; 0: not yet known
  channel.on("readable", () => {
    while ((bytes = channel.read(size || 4)) !== null) {
      if (size) take(fn, bytes);
      size = size ? 0 : bytes.readUInt32BE(0);
    }
  });
  finish(running, "H", {});
}

function take(fn, bytes) {
  const call = running = { id: bytes.readUInt32BE(0), done: false };
  const end = 9 + bytes.readUInt32BE(5);
  const meta = JSON.parse(bytes.subarray(9, end));
  CALLS[TONGUE](fn, call, meta, bytes.subarray(end))
    .catch((error) => fail(call, error));
}

// A print must be in the pipe before the answer is; Node would otherwise
// keep what does not fit, and write it later.
for (const stream of [process.stdout, process.stderr])
  stream._handle?.setBlocking?.(true);
for (const event of ["uncaughtException", "unhandledRejection"])
  process.on(event, (error) => fail(running, error));
for (const event of ["end", "error"])
  channel.on(event, () => process.exit(0));
load().then(serve).catch((error) => fail(running, error));
"""


# 5.4 go: a function that is compiled -----------------------------------------
#
#       package main
#
#       func fn(data string, headers map[string]string) (string, error) {
#           return "hello " + data, nil
#       }
#
# Go has no interpreter to wait with a shim, so the shim is compiled together
# with the function, once per digest, when it is deployed (5.11). What does not
# compile is not deployed, and the answer says which line the compiler means.
#
# It is the shortest of the three, and the best one to compare with 4.2 line by
# line: main is worker_main, faasRun is answer, faasSend is frame_encode. Its
# names begin with faas, for they share a package with the function's.

GO_SHIM = r"""
package main

// Written by the platform beside fn.go, before the build. It speaks the
// frames of 4.1 over descriptor 3; what fn prints goes to the log.

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"syscall"
)

var faasChannel = os.NewFile(3, "frames")

type faasCall struct {
	Headers map[string]string `json:"headers"`
}

type faasError struct {
	Kind     string `json:"kind"`
	Sentence string `json:"sentence"`
}

func faasSend(id uint32, verb byte, meta interface{}, body string) {
	text, _ := json.Marshal(meta)
	frame := make([]byte, 13, 13+len(text)+len(body))
	binary.BigEndian.PutUint32(frame, uint32(9+len(text)+len(body)))
	binary.BigEndian.PutUint32(frame[4:], id)
	frame[8] = verb
	binary.BigEndian.PutUint32(frame[9:], uint32(len(text)))
	faasChannel.Write(append(append(frame, text...), body...))
}

func faasRead(most uint32) []byte {
	data := make([]byte, most)
	if _, err := io.ReadFull(faasChannel, data); err != nil {
		os.Exit(0) // The platform has closed the channel.
	}
	return data
}

func faasRun(id uint32, headers map[string]string, body string) {
	defer func() {
		if what := recover(); what != nil {
			fmt.Fprintf(os.Stderr, "panic: %v\n%s", what, debug.Stack())
			faasFail(id, fmt.Sprintf("panic: %v", what))
		}
	}()
	if out, err := fn(body, headers); err != nil {
		faasFail(id, err.Error())
	} else {
		faasSend(id, 'R', struct{}{}, out)
	}
}

func faasFail(id uint32, sentence string) {
	faasSend(id, 'E', faasError{"crashed", sentence}, "")
}

func main() {
	syscall.CloseOnExec(3)
	faasSend(0, 'H', struct{}{}, "")
	for {
		data := faasRead(binary.BigEndian.Uint32(faasRead(4)))
		size := 9 + binary.BigEndian.Uint32(data[5:])
		call := faasCall{Headers: map[string]string{}}
		json.Unmarshal(data[9:size], &call)
		faasRun(binary.BigEndian.Uint32(data), call.Headers, string(data[size:]))
	}
}
"""

PROGRAM = "faas-program"        # what the compiler makes of a folder
GO_MAIN = "faas_main.go"        # where the shim lies meanwhile

# What a build adds to a version's folder, and is no part of its bundle.
BUILT = frozenset([PACKAGES, PROGRAM, GO_MAIN])


# 5.5 Built-in modules -------------------------------------------------------
#
# A function in lua, or in python with a handler, finds a small library beside
# its arguments: crypto.sha256(text), url.parse(text). It was FaaS-Go's and is
# made of Go's standard library, so it behaves as Go does, down to the layouts
# of its dates. It is written once, but for what Lua does itself (5.6): python
# calls it where it stands, lua over the worker's frames (chapter 4).
#
#       what                        lua                  python
#       kv, env, http, log          asks the platform    asks the platform
#       crypto, url, time, base64,  asks the platform,   computes it in its
#       random, router              which computes it    own process
#       strings, json               has them itself      has them itself
#
# Only the first row needs the platform: its database, its secrets, its name.
# Lua asks for the second because it has no hash functions and no dates.
#
# So all that goes in and out is what JSON can carry. Text is str; bytes that
# are no UTF-8 are lone surrogates (5.2). To fail is a ValueError with a
# sentence, which lua gets as `nil, sentence`. And since lua's calls run in the
# platform, where no signal ends them, each has bounds: of what it makes, and
# of what it searches for.
#
# A reader who wants to know how platforms work may go on at 5.6: what follows
# is a library, and how it is reached was told in 4.2.

MOST_TEXT = 6 << 20         # characters: what a function may answer
MOST_PARTS = 1 << 20        # of a list: they cost 60 bytes each
MOST_RANDOM = 1 << 20       # bytes; a key has 32
MOST_PATTERN = 1000         # characters of a layout or route; most have 30


def bounded(size, most=MOST_TEXT):
    """Refuse to go on with what is too large."""
    if size > most:
        raise ValueError(f"{size} characters or parts are more than {most}")


def to_bytes(text):
    return text.encode("utf-8", "surrogateescape")


def to_text(data):
    return data.decode("utf-8", "surrogateescape")


LUA_TYPES = {"nil": type(None), "boolean": bool, "number": (int, float),
             "string": str, "table": (list, tuple, dict)}


def lua_type(value):
    return next((name for name, kind in LUA_TYPES.items()
                 if isinstance(value, kind)), type(value).__name__)


def fit(value, wanted):
    """Make a value what is wanted, or None.

    A number may stand for a string, as everywhere in Lua, which has only one
    kind of number: 3.0 is written 3.

    >>> fit(3.0, "string"), fit(2.7, "int"), fit(True, "string")
    ('3', 2, None)
    """
    found = lua_type(value)
    if found != "number" or wanted not in ("int", "string"):
        return value if found == wanted else None
    small = abs(value) < 1 << 63        # so neither nan nor inf
    if wanted == "int":
        return int(value) if small else None
    return str(int(value) if small and value == int(value) else value)


def check_arguments(name, takes, given):
    """Check and fit the arguments of a built-in function.

    >>> check_arguments("strings.repeat", "text:string n:int", [7, 3.0])
    ['7', 3]
    >>> check_arguments("crypto.md5", "text:string", [])
    Traceback (most recent call last):
    ...
    TypeError: bad argument #1 to md5 (string expected, got nil)
    """
    fitted = []
    for number, parameter in enumerate(takes.split(), 1):
        wanted = parameter.partition(":")[2].rstrip("?")
        value = given[number - 1] if number <= len(given) else None
        fitted.append(fit(value, wanted))
        if fitted[-1] is None and (value is not None or parameter[-1] != "?"):
            got = lua_type(value)
            wanted = "number" if wanted == "int" != got != "number" else wanted
            raise TypeError(f"bad argument #{number} to {name.split('.')[-1]} "
                            f"({wanted} expected, got {got})")
    return fitted


def digest(name, text):
    import hashlib
    return hashlib.new(name, to_bytes(text)).hexdigest()


def keyed_digest(name, message, key):
    import hmac
    return hmac.digest(to_bytes(key), to_bytes(message), name).hex()


def base64_encode(data):
    import binascii
    bounded(len(data) * 4 // 3)
    return binascii.b2a_base64(data, newline=False).decode()


def base64_decode(text):
    """Undo base64_encode; only line ends may stand between the letters.

    >>> base64_decode("aG\\nk="), base64_encode(b"hi")
    ('hi', 'aGk=')
    """
    import binascii
    letters = to_bytes(text).translate(None, b"\r\n")
    try:
        return to_text(binascii.a2b_base64(letters, strict_mode=True))
    except binascii.Error as error:
        raise ValueError(f"illegal base64 data: {error}") from None


# time. A Go layout is not %Y-%m-%d but an example: how would one write one
# certain moment, whose parts count from 1 to 7?
#
#       Mon Jan 2 15:04:05 MST 2006
#       month 1, day 2, hour 3 (15), minute 4, second 5, year 6, zone -7
#
# So a layout is read by looking for the parts of that moment in it, and each
# part found becomes the same part of another moment:
#
#       layout                       20 November 2026, 08:50:39 in Berlin
#       2006-01-02 15:04:05          2026-11-20 08:50:39
#       Mon, 2 Jan 06, 3:04 PM       Fri, 20 Nov 26, 8:50 AM
#       2006-01-02T15:04:05Z07:00    2026-11-20T08:50:39+01:00
#
# Each token: how strftime spells it, and the pattern that reads it.

SHORT = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
LONG = ("January|February|March|April|May|June|July|August|September|October|"
        "November|December")
ONE, TWO = "[0-9]{1,2}", "[0-9]{2}"

LAYOUT = {
    "2006": ("%04Y", "[0-9]{4}"), "06": ("%y", TWO),
    "January": ("%B", f"(?ai:{LONG})"), "Jan": ("%b", f"(?ai:{SHORT})"),
    "01": ("%m", TWO), "1": ("%-m", ONE),
    "Monday": ("%A", "(?ai:(?:Sun|Mon|Tues|Wednes|Thurs|Fri|Satur)day)"),
    "Mon": ("%a", "(?ai:Sun|Mon|Tue|Wed|Thu|Fri|Sat)"),
    "02": ("%d", TWO), "2": ("%-d", ONE), "_2": ("%_d", f" ?{ONE}"),
    "002": ("%j", "[0-9]{3}"), "__2": ("%_j", " {0,2}[0-9]{1,3}"),
    "15": ("%H", ONE), "03": ("%I", TWO), "3": ("%-I", ONE),
    "04": ("%M", TWO), "4": ("%-M", ONE),
    "05": ("%S", TWO), "5": ("%-S", ONE),
    "PM": ("%p", "AM|PM"), "pm": ("%P", "am|pm"),
    "MST": ("%Z", "UTC|ChST|MeST|(?:GMT)?[+-]0*(?:2[0-3]|1?[0-9])(?![0-9])|"
            "GMT|(?:[A-Z]{3,4}T|WITA|[A-Z]{3})(?![A-Z])")}
for tail in "07", "0700", "07:00", "070000", "07:00:00":
    reads = "[+-]" + re.sub("0[07]", TWO, tail)
    LAYOUT |= {"-" + tail: ("%z", reads), "Z" + tail: ("%z", f"Z|{reads}")}

# A fraction of a second, .000 or ,999, is a token too; our seconds are whole.
# What is no token stands for itself: "Janus" is no month.
LAYOUT_TOKEN = re.compile(
    r"(January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|0[1-6]|002|15|[1-5]|"
    r"_2(?!006)|__2|PM|pm|[-Z]07(?:0000|:00:00|00|:00)?|"
    r"[.,](?:0++|9++)(?![0-9]))")
FRACTION = "(?:[.,][0-9]+)?"    # may follow the seconds, whatever the layout


def show_token(token, at):
    if token[0] in ".,":
        return token[:10] if token[1] == "0" else ""
    if token[0] not in "-Z":
        return time.strftime(LAYOUT[token][0], at)
    if token[0] == "Z" and at.tm_gmtoff == 0:
        return "Z"
    east = abs(at.tm_gmtoff)
    parts = iter((east // 3600, east // 60 % 60, east % 60))
    return "+-"[at.tm_gmtoff <= -60] + re.sub(
        "0[07]", lambda _: f"{next(parts):02}", token[1:])


def time_format(seconds, layout):
    """Write a moment, in the local zone, as the layout writes Go's.

    >>> time_format(86400 * 200, "2006 Jan _2, .00")
    '1970 Jul 20, .00'
    """
    bounded(len(layout), MOST_PATTERN)
    try:
        at = time.localtime(seconds)
    except (OverflowError, OSError):
        raise ValueError(f"{seconds} is too far away to be a date") from None
    return LAYOUT_TOKEN.sub(lambda match: show_token(match[0], at), layout)


def layout_patterns(layout):
    """Give (piece, letter of its strftime code, pattern) for each piece.

    >>> list(layout_patterns("5 s"))[1]
    ('5', 'S', '([0-9]{1,2})(?:[.,][0-9]+)?')
    """
    bounded(len(layout), MOST_PATTERN)
    pieces = LAYOUT_TOKEN.split(layout)    # text, token, ..., token, text
    for index, piece in enumerate(pieces):
        letter, last = "", index + 2 >= len(pieces)
        if index % 2 == 0:              # a space may be several, or the end
            reads = r"(?: +|\Z)".join(map(re.escape, re.split(" +", piece)))
        elif piece[0] in ".,":
            digits = f"[.,][0-9]{{{len(piece) - 1}}}"
            reads = digits if piece[1] == "0" else FRACTION
        else:
            letter, reads = LAYOUT[piece][0][-1], LAYOUT[piece][1]
        free = letter == "S" and (last or pieces[index + 2][:1] not in ".,")
        yield piece, letter, f"({reads})" + FRACTION * free


def time_parse(text, layout):
    """Read a moment that was written like the layout; no zone is UTC.

    >>> time_parse("20 Jul 1970", "2 Jan 2006") // 86400
    200
    >>> time_parse("31 Feb 1970", "2 Jan 2006")
    Traceback (most recent call last):
    ...
    ValueError: parsing time "31 Feb 1970": day is out of range for month
    """
    found, at = {}, 0
    try:
        for piece, letter, reads in layout_patterns(layout):
            match = re.compile(reads).match(text, at)
            if not match:
                raise ValueError(f'cannot parse "{text[at:at + 40]}" as '
                                 f'"{piece[:40]}"')
            at, found[letter] = match.end(), match[1]
        if at < len(text):
            raise ValueError(f'extra text: "{text[at:at + 40]}"')
        return unix_seconds(found) - seconds_east(found)
    except ValueError as error:
        raise ValueError(f'parsing time "{text[:80]}": {error}') from None


DAYS = 146_097              # in 400 years


def unix_seconds(found):
    """Count the seconds from 1970 to {strftime's letter: what was read}.

    A layout without a year means Go's year 0. Python's calendar begins with 1
    and repeats every 400 years, so it is asked about a later one.
    """
    import datetime
    number = {letter: int(digits) for letter, digits in found.items()
              if letter and letter in "YymdjHIMS"}
    year = number.get("Y", 0)
    if "y" in number:
        year = number["y"] + (1900 if number["y"] >= 69 else 2000)
    later = 400 + year % 400
    name = found.get("b", found.get("B", ""))[:3].title()
    month = SHORT.split("|").index(name) + 1 if name else number.get("m", 1)
    when = datetime.datetime(later, month, number.get("d", 1), hour_of(found),
                             number.get("M", 0), number.get("S", 0))
    if "j" in number:
        when = when.replace(month=1, day=1)
        when += datetime.timedelta(number["j"] - 1)
        if when.year != later:
            raise ValueError("day of the year is out of range")
    since = when - datetime.datetime(1970, 1, 1)
    return (since.days + (year - later) // 400 * DAYS) * 86400 + since.seconds


def hour_of(found):
    hour = int(found.get("H", found.get("I", 0)))
    if int(found.get("I", 0)) > 12:
        raise ValueError("hour must be in 0..12")
    half = found.get("p", found.get("P", "")).upper()
    return (hour % 12 if half == "AM" and hour == 12 else
            hour + 12 if half == "PM" and hour < 12 else hour)


def seconds_east(found):
    """Tell how far east of UTC it was written: by a number, or by a name.

    As in Go, a name that is not one of the local zone's says nothing.

    >>> seconds_east({"z": "-02:30"}), seconds_east({"Z": "XYZ"})
    (-9000, 0)
    """
    zone, name = found.get("z", ""), found.get("Z", "")
    if zone == "Z" or name == "UTC":
        return 0
    if zone:
        digits = zone.replace(":", "") + "0000"
        hour, minute, second = [int(digits[i:i + 2]) for i in (1, 3, 5)]
        if hour > 24 or minute > 60 or second > 60:
            raise ValueError("time zone offset is out of range")
        return int(zone[0] + "1") * (hour * 3600 + minute * 60 + second)
    local = dict(zip(time.tzname, (-time.timezone, -time.altzone)))
    return local.get(name, 0)


# url. urllib.parse reads almost anything as a URL; Go refuses what it could
# not write again, and decodes the parts.
#
#       http://me:x@host:80/a%20b?c=1&c=2#top
#       scheme   'http'             path       '/a b'
#       host     'host:80'          query      {'c': ['1', '2']}
#       username 'me'               fragment   'top'
#       password 'x'
#
# A URL that two readers take apart in two ways is how requests are sent to
# hosts that were meant to be out of reach; so what is doubtful is an error.

URL = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*+):)?+(?://([^/?]*))?([^?]*)"
                 r"\??(.*)", re.DOTALL)
USERINFO = re.compile(r"[A-Za-z0-9._:~!$&'()*+,;=%@-]*")
URL_HOST = re.compile(
    r"\[(?=[^]]*:)[0-9A-Fa-f:.]++(?:%25[^][]+)?\](?::[0-9]*)?|(?:[^\0-\x7f]|"
    r"""[]A-Za-z0-9._~!$&'()*+,;=:<>"-]|%[89A-Fa-f].|%25)*+""")


def percent_decode(text):
    if bad := re.search("%(?![0-9A-Fa-f]{2}).{0,2}", text, re.DOTALL):
        raise ValueError(f'invalid URL escape "{bad[0]}"')
    return to_text(re.sub(b"%(..)", lambda match: bytes([int(match[1], 16)]),
                          to_bytes(text)))


def url_decode(text):
    return percent_decode(text.replace("+", " "))


def url_encode(text):
    """
    >>> url_encode("a b&é"), url_decode("a+b%26%C3%A9")
    ('a+b%26%C3%A9', 'a b&é')
    """
    import urllib.parse
    data = to_bytes(text)
    bounded(len(data) + 2 * len(re.sub(rb"[\w.~ -]+", b"", data)))
    return urllib.parse.quote_plus(data)


def url_parse(text):
    """Take a URL apart.

    >>> url_parse("http://a:8/b?c=1&c=2")["query"], url_parse("/b")["path"]
    ({'c': ['1', '2']}, '/b')
    """
    head, _, fragment = text.partition("#")
    if re.search(r"[\0-\x1f\x7f]", head):
        raise ValueError("invalid control character in URL")
    match = URL.fullmatch(head)
    scheme, authority, path, query = match.groups("")
    if not scheme and head.startswith("///"):
        path = head.partition("?")[0]
    elif match[2] is None and not path.startswith("/"):
        if not scheme and ":" in path.partition("/")[0]:
            raise ValueError("first path segment in URL cannot contain colon")
        path = "" if scheme else path       # mailto:me@example.org has none
    return {"scheme": scheme.lower(), "path": percent_decode(path),
            "fragment": percent_decode(fragment), "query": query_parse(query),
            **authority_parse(authority)}


def authority_parse(authority):
    """Take what stands between // and / apart.

    >>> authority_parse("me:x%41@h:80")
    {'host': 'h:80', 'username': 'me', 'password': 'xA'}
    """
    userinfo, _, host = authority.rpartition("@")
    port = host.rpartition(":")[2] if ":" in host and host[0] != "[" else ""
    if not USERINFO.fullmatch(userinfo) or not URL_HOST.fullmatch(host):
        raise ValueError("invalid character in host name or userinfo")
    if not re.fullmatch("[0-9]*", port):
        raise ValueError(f'invalid port "{port[:40]}" after host')
    username, _, password = map(percent_decode, userinfo.partition(":"))
    found = {"host": percent_decode(host), "username": username,
             "password": password}
    return {name: value for name, value in found.items()
            if value or name == "host"}


def query_parse(query):
    """Give {name: value}, and a list where a name came more than once.

    As in Go, a pair that cannot be read is left out.
    """
    bounded(query.count("&"), 10_000)
    found = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if pair and ";" not in pair:
            with contextlib.suppress(ValueError):
                name, value = url_decode(name), url_decode(value)
                found.setdefault(name, []).append(value)
    return {name: values if values[1:] else values[0]
            for name, values in found.items()}


# strings, for python; Lua has its own.

def split(text, separator):
    """
    >>> split("a,b", ","), split("ab", "")
    (['a', 'b'], ['a', 'b'])
    """
    bounded(text.count(separator), MOST_PARTS)
    return text.split(separator) if separator else list(text)


def join(parts, separator):
    parts = list(parts.values()) if isinstance(parts, dict) else parts
    parts = [part if isinstance(part, str) else fit(part, "string") or ""
             for part in parts]
    bounded(sum(map(len, parts)) + len(separator) * max(len(parts) - 1, 0))
    return separator.join(parts)


def replace(text, old, new, most):
    """Replace the first `most`, or all where it is negative or None.

    >>> replace("aaa", "a", "b", 2), replace("aaa", "a", "b", None)
    ('bba', 'bbb')
    """
    times = text.count(old)
    times = times if most is None or most < 0 else min(most, times)
    bounded(len(text) + times * (len(new) - len(old)))
    return text.replace(old, new, times)


def change_case(change, text):
    """Change each letter alone, as Go does.

    >>> change_case(str.upper, "Straße"), change_case(str.lower, "ΣΑΣ")
    ('STRAßE', 'σασ')
    """
    if text.isascii():
        return change(text)
    return "".join([new if len(new := change(letter)) == 1 else letter
                    for letter in text])


def repeat(text, times):
    if times < 0:
        raise ValueError(f"a text cannot be repeated {times} times")
    bounded(len(text) * times)
    return text * times


# router. A function gets every path below its own; these tell them apart.


def router_match(path, pattern):
    """Give the parameters of a path that fits a pattern, or None.

    >>> router_match("/users/7/a/b", "/users/:id/*")
    {'id': '7'}
    >>> router_match("/users/7", "/users/:id/*")
    """
    bounded(len(pattern), MOST_PATTERN)
    have, want = [[part for part in text.split("/") if part]
                  for text in (path, pattern)]
    if want[-1:] == ["*"] and len(have) >= len(want):
        want.pop()
        have = have[:len(want)]
    pairs = list(zip(want, have))
    if len(have) != len(want) or any(
            name != part for name, part in pairs if name[0] != ":"):
        return None
    return {name[1:]: part for name, part in pairs if name[0] == ":"}


def router_fill(pattern, params):
    """Put parameters into a pattern, :idx before :id.

    >>> router_fill("/a/:id/:idx", {"id": 7, "idx": "x"})
    '/a/7/x'
    """
    bounded(len(pattern), MOST_PATTERN)
    bounded(len(params or ()), 100)
    if not params:
        return pattern
    names = sorted(params, key=len, reverse=True)
    parts = re.split(f":({'|'.join(map(re.escape, names))})", pattern)
    parts[1::2] = [params[name] for name in parts[1::2]]
    return join(parts, "")


# SHELL. What asks the machine: what time is it, and what can nobody guess?


def noise(size):
    if not 0 < size <= MOST_RANDOM:
        raise ValueError(f"the length must be 1 to {MOST_RANDOM}, not {size}")
    return os.urandom(size)


def random_int(least, most):
    """
    >>> random_int(7, 7)
    7
    """
    import random
    if least > most:
        raise ValueError(f"there is no number from {least} to {most}")
    return random.SystemRandom().randint(least, most)


def random_string(size):
    """Draw letters and digits: base64's, without its other two.

    >>> len(random_string(1)), random_string(200).isalnum()
    (1, True)
    """
    letters = base64_encode(noise(size) + os.urandom(64))
    return re.sub("[+/=]", "", letters)[:size]


def random_uuid():
    import uuid
    return str(uuid.uuid4())


class Builtin(typing.NamedTuple):
    """One function of a module: what it takes, and what does it.

    >>> takes, do = PURE["crypto.sha1"]
    >>> do(*check_arguments("crypto.sha1", takes, [7]))[:12]
    '902ba3cda188'
    """
    takes: str                  # '?': may be left out
    do: typing.Callable         # the arguments -> what JSON can carry


HMAC = "message:string key:string"

def builtins_of(rows):
    return {name: Builtin(*row) for name, row in rows.items()}


PURE = builtins_of({
    "crypto.md5": ("text:string", lambda text: digest("md5", text)),
    "crypto.sha1": ("text:string", lambda text: digest("sha1", text)),
    "crypto.sha256": ("text:string", lambda text: digest("sha256", text)),
    "crypto.sha512": ("text:string", lambda text: digest("sha512", text)),
    "crypto.hmac_sha1": (HMAC, lambda *two: keyed_digest("sha1", *two)),
    "crypto.hmac_sha256": (HMAC, lambda *two: keyed_digest("sha256", *two)),
    "crypto.hmac_sha512": (HMAC, lambda *two: keyed_digest("sha512", *two)),
    "crypto.uuid": ("", random_uuid),
    "base64.encode": ("text:string", lambda t: base64_encode(to_bytes(t))),
    "base64.decode": ("text:string", base64_decode),
    "time.now": ("", lambda: int(time.time())),
    "time.format": ("seconds:int layout:string", time_format),
    "time.parse": ("text:string layout:string", time_parse),
    "url.parse": ("text:string", url_parse),
    "url.encode": ("text:string", url_encode),
    "url.decode": ("text:string", url_decode),
    "strings.trim": ("text:string", str.strip),
    "strings.trimLeft": ("text:string", lambda t: t.lstrip(" \t\r\n")),
    "strings.trimRight": ("text:string", lambda t: t.rstrip(" \t\r\n")),
    "strings.split": ("text:string separator:string", split),
    "strings.join": ("parts:table separator:string", join),
    "strings.hasPrefix": ("text:string prefix:string", str.startswith),
    "strings.hasSuffix": ("text:string suffix:string", str.endswith),
    "strings.contains": ("text:string part:string", str.__contains__),
    "strings.replace": ("text:string old:string new:string most:int?",
                        replace),
    "strings.toLower": ("text:string", lambda t: change_case(str.lower, t)),
    "strings.toUpper": ("text:string", lambda t: change_case(str.upper, t)),
    "strings.repeat": ("text:string times:int", repeat),
    "random.int": ("min:int max:int", random_int),
    "random.float": ("", lambda: (int.from_bytes(os.urandom(7)) >> 3) / 2**53),
    "random.string": ("length:int", random_string),
    "random.bytes": ("length:int", lambda size: base64_encode(noise(size))),
    "random.hex": ("length:int", lambda size: noise(size).hex()),
    "random.id": ("", lambda: new_id(time.time())),
    "router.match": ("path:string pattern:string",
                     lambda *two: router_match(*two) is not None),
    "router.params": ("path:string pattern:string",
                      lambda *two: router_match(*two) or {}),
})

# What only the platform can do has no `do` here: a worker asks for it (4.2),
# and the other half is in 8.6.

BUILTINS = {
    "kv.get": Builtin("key:string", None),
    "kv.set": Builtin("key:string value:string", None),
    "kv.delete": Builtin("key:string", None),
    "kv.increment": Builtin("key:string by:number?", None),
    "env.get": Builtin("name:string", None),
    "env.set": Builtin("name:string value:string", None),
    "env.delete": Builtin("name:string", None),
    "http.get": Builtin("url:string options:table?", None),
    "http.post": Builtin("url:string options:table?", None),
    "http.put": Builtin("url:string options:table?", None),
    "http.delete": Builtin("url:string options:table?", None),
    "router.path": Builtin("pattern:string params:table?", None),
    "router.url": Builtin("pattern:string params:table?", None),
    "time.sleep": Builtin("ms:number", None),
    **PURE}


# 5.6 lua: a language with nothing in it --------------------------------------
#
#       function handler(ctx, event)
#         local hits = kv.increment("hits")
#         log.info("hit " .. hits .. " from " .. event.method)
#         return { statusCode = 200, body = { hits = hits } }
#       end
#
# Lua is an interpreter of 250 kB with no sockets, no JSON and no clock beyond
# os.time: a function in it asks the platform for what 5.5 lists, and the shim
# makes each question look like a call. JSON, strings and log are Lua's own
# here, because they need nobody.
#
# FaaS-Go runs the whole text anew for each call, in an interpreter inside the
# server; here it runs once, when the worker starts, and then handler() is
# called. So a global variable lives as long as its worker, and two workers
# have two of them: what must be counted, belongs into kv.
#
# FaaS-Go's Lua is 5.1, as LuaJIT's is. On Lua 5.4, 10/2 is 5.0 and not 5, and
# setfenv is gone; unpack, loadstring, table.getn and math.pow are put back.
#
# Lua can read and write files, and a socket is none. So its frames travel
# over standard input and output, where a shell has put them (LUA_START), and
# which the shim keeps to itself: print and io.write go to the log, and what
# the function starts gets neither.
#
# The shim is long because Lua is small. Its parts:
#
#       the first 50 lines    files that the function may have, for those that
#                             it may not; what Lua 5.4 has lost since 5.1
#       spell_...             JSON out; a table with keys 1 to n is a list
#       read_...              JSON in, in runs of text: find and sub are C, and
#                             a loop over bytes would take a second for 1 MB
#       send, receive         frame_encode and FrameReader
#       ask, check, define    a question that looks like a function: kv.get(k)
#       split, join, ...      strings, as Go has them
#       told, send_error      the traceback to the log, one sentence to us
#       answer                one C frame: handler(ctx, event), and its table

LUA_SHIM = r"""
local input, output = io.stdin, io.stdout   -- The frames travel over these,
input:setvbuf("full")                       -- so the function gets others:
output:setvbuf("full")                      -- nothing to read, and the log.
io.input("/dev/null")
io.output(io.stderr)
io.stdin, io.stdout = io.input(), io.stderr

local char, concat, floor = string.char, table.concat, math.floor
local execute, popen, load_file = os.execute, io.popen, loadfile
local declared = services
services, arg, debug.debug = nil, nil, nil  -- debug.debug reads stdin.

unpack = unpack or table.unpack             -- what Lua 5.4 lacks of 5.1
loadstring = loadstring or load
table.getn = table.getn or function(t) return #t end
math.pow = math.pow or function(x, y) return x ^ y end
package.path = "./?.lua;./?/init.lua;" .. package.path

function print(...)
  local words = {...}
  for i = 1, select("#", ...) do words[i] = tostring(words[i]) end
  io.stderr:write(concat(words, "\t") .. "\n")
end

function os.execute(command)
  return execute(command and "exec </dev/null >&2; " .. command)
end

function io.popen(command, mode)
  local other = mode == "w" and "exec >&2; " or "exec </dev/null; "
  return popen(other .. command, mode or "r")
end

function loadfile(name, ...)                -- without a name: from stdin
  return load_file(name or "/dev/null", ...)
end

local function run_file(name)
  local chunk, problem = loadfile(name)
  if not chunk then error(problem, 0) end
  return chunk()
end
dofile = run_file

local function text_of(value)               -- 3.0 is "3", also on Lua 5.4
  if type(value) == "number" and value % 1 == 0
    and value > -2 ^ 53 and value < 2 ^ 53 then
    return ("%.0f"):format(value)
  end
  return tostring(value)
end

-- JSON, written as Go writes it -------------------------------------------

local DEEPEST = 500         -- Python's own reader stops near 1000.
local ESCAPES = setmetatable({['"'] = '\\"', ["\\"] = "\\\\",
  ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t"},
  {__index = function(_, c) return ("\\u%04x"):format(c:byte()) end})
local SEPARATORS = {["\168"] = "\\u2028", ["\169"] = "\\u2029"}

local function spell_string(s)              -- Any byte >= 0x80 stays.
  s = s:gsub('[%z\1-\31"\\<>&]', ESCAPES)
  return '"' .. s:gsub("\226\128([\168\169])", SEPARATORS) .. '"'
end

local function spell_number(n)
  local text = text_of(n)
  if text:find("n") then                    -- nan, inf, -inf
    error("json: unsupported value: " .. text, 0)
  end
  return tonumber(text) == n and text or ("%.17g"):format(n)
end

local function array_length(t)              -- nil if it is empty, or none
  local length, count = 0, 0
  for k in next, t do
    if type(k) ~= "number" or k < 1 or k % 1 ~= 0 then return nil end
    length, count = math.max(length, k), count + 1
  end
  if length > 10 * count + 1000 then
    error("json: an array of mostly holes", 0)
  end
  return length > 0 and length or nil
end

local spell

local function spell_array(t, length, depth)
  local parts = {}
  for i = 1, length do parts[i] = spell(t[i], depth) end
  return "[" .. concat(parts, ",") .. "]"
end

local function spell_object(t, depth)
  local names, values = {}, {}
  for k, v in next, t do
    k = tostring(k)
    names[#names + 1], values[k] = k, v
  end
  table.sort(names)
  for i, k in ipairs(names) do
    names[i] = spell_string(k) .. ":" .. spell(values[k], depth)
  end
  return "{" .. concat(names, ",") .. "}"
end

function spell(value, depth)                -- functions and such are null
  local kind = type(value)
  if kind == "string" then return spell_string(value) end
  if kind == "number" then return spell_number(value) end
  if kind == "boolean" then return tostring(value) end
  if kind ~= "table" then return "null" end
  if depth > DEEPEST then error("json: a table too deep, or a ring", 0) end
  local length = array_length(value)
  if length then return spell_array(value, length, depth + 1) end
  return spell_object(value, depth + 1)
end

local function encode(value)
  local good, text = pcall(spell, value, 1)
  if good then return text end
  return nil, text
end

-- JSON, read in runs of text, never byte by byte --------------------------

local function fail(what, i)
  error(("json: %s at position %d"):format(what, i), 0)
end

local function skip(s, i)                   -- to what is no space
  return s:find("[^ \t\r\n]", i) or #s + 1
end

local function utf8_of(code)
  if code < 128 then return char(code) end
  local tail, room = "", 64                 -- room in the first byte
  repeat
    tail = char(128 + code % 64) .. tail
    code, room = floor(code / 64), room / 2
  until code < room
  return char(256 - 2 * room + code) .. tail
end

local function pair(high, low)              -- of surrogates
  return utf8_of(tonumber(high, 16) % 1024 * 1024
    + tonumber(low, 16) % 1024 + 65536)
end

-- What each \uXXXX means; a lone \udc80 to \udcff is a raw byte.
local CODES = setmetatable({}, {__index = function(codes, hex)
  local code = tonumber(hex, 16)
  local raw = code >= 0xdc80 and code <= 0xdcff
  local lone = code >= 0xd800 and code <= 0xdfff
  local text = raw and char(code % 256) or utf8_of(lone and 0xfffd or code)
  codes[hex] = text
  return text
end})

local SHORT = {['"'] = '"', ["/"] = "/", b = "\b", f = "\f", n = "\n",
  r = "\r", t = "\t", ["\\"] = "\\u005c"}   -- which CODES turns back

local function unescape(s)                  -- nil if an escape is wrong
  s = s:gsub("\\([^u])", SHORT)
  if s:find("\\[^u]") or (s .. '"'):find("\\u%x?%x?%x?%X") then return end
  s = s:gsub("\\u([dD][89abAB]%x%x)\\u([dD][c-fC-F]%x%x)", pair)
  return (s:gsub("\\u(%x%x%x%x)", CODES))
end

local function closing_quote(s, i)          -- one after an even row of \
  local stop = s:find('"', i, true)
  while stop do
    local back = stop
    while s:byte(back - 1) == 92 do back = back - 1 end
    if (stop - back) % 2 == 0 then return stop end
    stop = s:find('"', stop + 1, true)
  end
end

local function read_string(s, i)            -- i is behind the first quote
  local stop = closing_quote(s, i) or fail("a string without end", i - 1)
  local text = s:sub(i, stop - 1)
  if text:find("[%z\1-\31]") then fail("a control character after", i) end
  if text:find("\\", 1, true) then
    text = unescape(text) or fail("a wrong escape in the string", i - 1)
  end
  return text, stop + 1
end

local function read_number(s, i)
  local text = s:match("^-?%d[%d.eE+-]*", i) or fail("no JSON value", i)
  local n = tonumber(text)
  if not n or n == 1 / 0 or n == -1 / 0 or text:find("^-?0%d")
    or (text .. "$"):find("%.%D") then fail("a wrong number", i) end
  return n, i + #text
end

local read_value

local function read_items(s, i, stop, read_item)
  i = skip(s, i)
  if s:sub(i, i) == stop then return i + 1 end
  while true do
    i = skip(s, read_item(skip(s, i)))
    local c = s:sub(i, i)
    if c == stop then return i + 1 end
    if c ~= "," then fail("no , or " .. stop .. " after a value", i) end
    i = i + 1
  end
end

local function read_array(s, i, depth)
  local list, n = {}, 0
  return list, read_items(s, i, "]", function(j)
    n = n + 1
    list[n], j = read_value(s, j, depth)
    return j
  end)
end

local function read_object(s, i, depth)
  local map = {}
  return map, read_items(s, i, "}", function(j)
    if s:sub(j, j) ~= '"' then fail("no name in quotes", j) end
    local name, colon = read_string(s, j + 1)
    colon = skip(s, colon)
    if s:sub(colon, colon) ~= ":" then fail("no : after a name", colon) end
    map[name], j = read_value(s, colon + 1, depth)
    return j
  end)
end

function read_value(s, i, depth)            -- the value, and where it ends
  i = skip(s, i)
  local c, word = s:sub(i, i), s:match("^%a+", i)
  if c == '"' then return read_string(s, i + 1) end
  if c == "{" or c == "[" then
    if depth > DEEPEST then fail("too deep", i) end
    return (c == "{" and read_object or read_array)(s, i + 1, depth + 1)
  end
  if word == "null" then return nil, i + 4 end
  if word == "true" then return true, i + 4 end
  if word == "false" then return false, i + 5 end
  return read_number(s, i)
end

local function read_all(s)
  local value, i = read_value(s, 1, 1)
  i = skip(s, i)
  if i <= #s then fail("more text after the value", i) end
  return value
end

local function decode(text)
  local good, value = pcall(read_all, text)
  if good then return value end
  return nil, value
end

-- Frames ------------------------------------------------------------------

local function pack(n)                      -- >I
  return char(floor(n / 2 ^ 24), floor(n / 2 ^ 16) % 256,
    floor(n / 256) % 256, n % 256)
end

local function number_at(s, i)
  local a, b, c, d = s:byte(i, i + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function send(id, verb, meta, body)
  output:write(pack(9 + #meta + #body), pack(id), verb, pack(#meta), meta,
    body)
  output:flush()
end

local function read_exactly(size)
  local data = input:read(size)
  if not data or #data < size then os.exit(0) end
  return data
end

local function receive()                    -- id, verb, meta as text, body
  local rest = read_exactly(number_at(read_exactly(4), 1))
  local stop = 9 + number_at(rest, 6)
  return number_at(rest, 1), rest:sub(5, 5), rest:sub(10, stop),
    rest:sub(stop + 1)
end

local asked = 0

local function ask(what, ...)               -- a question in mid-call
  local args, n = {...}, select("#", ...)
  while n > 0 and args[n] == nil do n = n - 1 end
  local good, text = pcall(spell_array, args, n, 1)
  if not good then return nil, text end
  asked = asked + 1
  send(asked, "Q", ('{"do":"%s","args":%s}'):format(what, text), "")
  local id, verb, meta
  repeat id, verb, meta = receive() until verb == "A" and id == asked
  meta, text = decode(meta)
  if not meta then return nil, text end
  if meta.error ~= nil then return nil, meta.error end
  return meta.value
end

-- What a function finds: modules of functions that check their arguments --

local function fitting(value, kind)         -- nil if it is not of that kind
  local is = type(value)
  if is == kind then return value end
  if is == "number" and kind == "string" then return text_of(value) end
  if is == "string" and kind == "number" then return tonumber(value) end
end

local function check(name, kinds, ...)
  local given = {...}
  for i, kind in ipairs(kinds) do
    local wanted, optional = kind:match("^(%a+)(%??)$")
    local value = fitting(given[i], wanted)
    if value == nil and (optional == "" or given[i] ~= nil) then
      error(("bad argument #%d to %s (%s expected, got %s)"):format(i, name,
        wanted, type(given[i])), 3)
    end
    given[i] = value
  end
  return unpack(given, 1, #kinds)
end

local function define(signature, f)         -- "kv.increment string number?"
  local module, name, rest = signature:match("^%s*([%w_]+)%.(%S+)(.*)$")
  local kinds = {}
  for kind in rest:gmatch("%S+") do         -- Lua's int is a number, too.
    kinds[#kinds + 1] = kind:gsub("^int", "number")
  end
  _G[module] = _G[module] or {}
  _G[module][name] = function(...) return f(check(name, kinds, ...)) end
end

for line in (declared or ""):gmatch("[^\n]*%S[^\n]*") do
  local name = line:match("%S+")
  define(line, function(...) return ask(name, ...) end)
end

for level in ("debug info warn error"):gmatch("%a+") do
  define("log." .. level .. " string", function(message)
    send(0, "L", '{"level":"' .. level .. '"}', message)
  end)
end

define("json.decode string", decode)
json.encode = encode

-- strings: plain text as in Go, never patterns ----------------------------

local function split(s, sep)
  local list, i = {}, 1
  if sep == "" then                         -- into characters of UTF-8
    for one in s:gmatch(".[\128-\191]*") do list[#list + 1] = one end
    return list
  end
  repeat
    local from, to = s:find(sep, i, true)
    list[#list + 1] = s:sub(i, (from or 0) - 1)
    i = to and to + 1
  until not i
  return list
end

local function join(list, sep)
  local words = {}
  for i = 1, #list do words[i] = text_of(list[i]) end
  return concat(words, sep)
end

local function replace(s, old, new, n)      -- the first n, or all
  local parts = split(s, old)
  if old == "" then
    table.insert(parts, 1, "")
    parts[#parts + 1] = ""
  end
  for i = 2, #parts do
    local here = not n or n < 0 or i - 1 <= n
    parts[i] = (here and new or old) .. parts[i]
  end
  return concat(parts)
end

define("strings.split string string", split)
define("strings.join table string", join)
define("strings.replace string string string number?", replace)
define("strings.toLower string", string.lower)
define("strings.toUpper string", string.upper)
define("strings.repeat string number", string.rep)
define("strings.rep string number", string.rep)
define("strings.trim string", function(s)
  return s:match(".*%S", s:find("%S") or #s + 1) or ""
end)
define("strings.trimLeft string", function(s)
  return s:match("^[ \t\r\n]*(.*)$")
end)
define("strings.trimRight string", function(s)
  return s:match("^.*[^ \t\r\n]") or ""
end)
define("strings.contains string string", function(s, part)
  return s:find(part, 1, true) ~= nil
end)
define("strings.hasPrefix string string", function(s, start)
  return s:sub(1, #start) == start
end)
define("strings.hasSuffix string string", function(s, tail)
  return tail == "" or s:sub(-#tail) == tail
end)

-- Calls -------------------------------------------------------------------

local function sentence_of(problem)         -- of whatever error() was given
  local kind, meta = type(problem), getmetatable(problem)
  if kind == "string" or kind == "number"
    or type(meta) == "table" and meta.__tostring then
    local good, text = pcall(tostring, problem)
    if good and type(text) == "string" then return text end
  end
  return "error object is a " .. kind
end

local function told(problem)                -- the traceback, less our lines
  local text = debug.traceback(sentence_of(problem), 2)
  text = text:match("^(.*)\n\t%[C%]: in function 'xpcall'") or text
  text = text:gsub("\n\t%(command line%)[^\n]*", "")
  io.stderr:write((text:gsub("\nstack traceback:$", "")) .. "\n")
  return problem
end

local function send_error(id, kind, problem)
  local text = sentence_of(problem):sub(1, 10000)
  local line, rest = text:match("^main%.lua:(%d+): (.*)$")
  send(id, "E", spell({kind = kind, sentence = rest or text,
    line = tonumber(line)}, 1), "")
end

local function the_handler()
  if type(handler) == "function" then return handler end
  error("main.lua defines no function called handler", 0)
end

local function status_of(given)
  local status = tonumber(given)
  if given == nil or status == 0 then return 200 end
  if not status or status % 1 ~= 0 or status < 200 or status > 599 then
    error("statusCode " .. tostring(given) .. " is no status", 0)
  end
  return status
end

local function headers_of(given)
  local headers, typed = {}, false
  for k, v in pairs(type(given) == "table" and given or {}) do
    if type(k) == "string" and fitting(v, "string") then
      headers[k], typed = text_of(v), typed or k:lower() == "content-type"
    end
  end
  if not typed then headers["Content-Type"] = "application/json" end
  return headers
end

local function body_of(result)
  local body, problem = result.body, nil
  if body == nil then return "" end
  if not fitting(body, "string") then body, problem = encode(body) end
  if body and result.isBase64Encoded == true then
    body, problem = ask("base64.decode", body)
  end
  return body and text_of(body) or error("body: " .. tostring(problem), 0)
end

local function answer(id, meta, body)
  meta = read_all(meta)
  meta.event.body = body
  local result = the_handler()(meta.ctx, meta.event)
  if type(result) ~= "table" then
    error("handler must return a table, and returned a " .. type(result), 0)
  end
  body = body_of(result)
  send(id, "R", spell({status = status_of(result.statusCode),
    headers = headers_of(result.headers)}, 1), body)
end

local function load_main()
  run_file("main.lua")
  the_handler()
end

local good, problem = xpcall(load_main, told)
if not good then
  send_error(0, "bad_input", problem)
  os.exit(0)
end
send(0, "H", "{}", "")
while true do
  local id, _, meta, body = receive()
  good, problem = xpcall(function() answer(id, meta, body) end, told)
  if not good then
    meta, body = nil, nil
    collectgarbage()        -- after "not enough memory" there may be some
    send_error(id, "crashed", problem)
  end
end
"""

LUA_START = 'exec "$0" -e "$1" -e "$2" <&3 >&3 3>&-'


def lua_services():
    """Write down, for the shim, what a lua function may ask for.

    >>> lua_services().splitlines()[0]
    'kv.get string'
    """
    lines = []
    for name, builtin in BUILTINS.items():
        if not name.startswith("strings."):         # Lua has its own.
            kinds = (word.partition(":")[2] for word in builtin.takes.split())
            lines.append(" ".join([name, *kinds]))
    return "\n".join(lines)


# 5.7 python: the same contract, in another language --------------------------
#
#       def handler(ctx, event):
#           hits = ctx.kv.increment("hits")
#           ctx.log.info(f"hit {hits} from {event['method']}")
#           return {"statusCode": 200, "body": {"hits": hits}}
#
# Lay it beside the Lua above. The same question and the same line for the log
# cross the frames; what is a table there is a dict here, a module is an
# attribute of ctx, and what gives nil and a sentence there raises an exception
# here. Both get
#
#       ctx     executionId functionId functionName requestId startedAt
#               version baseUrl
#       event   method path relativePath headers query body


def event_meta(fn, call, ident, started, base):
    """Make what a handler(ctx, event) is called with, but for the body.

    >>> fn = Function("f", "lua", "/f", version=2, id="06f1")
    >>> meta = event_meta(fn, Call("f", path="/a", query="b=1"), "id-1", 0, "")
    >>> meta["event"]["path"], meta["event"]["query"], meta["ctx"]["version"]
    ('/fn/06f1/a', {'b': '1'}, '2')
    """
    import urllib.parse
    query = {}
    for name, value in urllib.parse.parse_qsl(call.query, True):
        query.setdefault(name, value)       # the first, as FaaS-Go does
    headers = {name: value for name, value in call.headers.items()
               if name != "Host"}
    path = f"/fn/{fn.id}" + (call.path if call.path != "/" else "")
    return {"ctx": {"executionId": ident, "requestId": ident,
                    "functionId": fn.id, "functionName": fn.name,
                    "startedAt": int(started), "version": str(fn.version),
                    "baseUrl": base},
            "event": {"method": call.method, "path": path,
                      "relativePath": call.path, "headers": headers,
                      "query": query}}


def give_response(value):
    """Turn what a handler returned into (meta, body).

    >>> give_response({"statusCode": 201, "body": {"a": 1}})
    ({'status': 201, 'headers': {'Content-Type': 'application/json'}}, \
b'{"a": 1}')

    Errors: FaasError crashed, for what is no response.
    """
    if not isinstance(value, dict):
        raise FaasError("crashed", "handler must return a dict, and returned "
                        f"a {type(value).__name__}")
    status = value.get("statusCode")
    if status in (None, 0, "0"):
        status = 200
    if not re.fullmatch("[2-5][0-9][0-9]", str(status)):
        raise FaasError("crashed", f"statusCode {status!r} is no status")
    headers = value.get("headers")
    headers = {str(name): str(text) for name, text in (
        headers if isinstance(headers, dict) else {}).items()}
    if "content-type" not in map(str.lower, headers):
        headers["Content-Type"] = "application/json"
    body = value.get("body", "")
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogateescape")
    elif not isinstance(body, bytes):
        body = b"" if body is None else give_python3(body)[1]
    if value.get("isBase64Encoded"):
        body = to_bytes(base64_decode(to_text(body)))
    return {"status": int(status), "headers": headers}, body


def python_modules(channel):
    """Give the built-in modules as attributes: ctx.kv.get, ctx.log.info.

    >>> python_modules(None)["strings"].toUpper("hi")
    'HI'
    """
    import types
    modules = collections.defaultdict(types.SimpleNamespace)
    for name, builtin in BUILTINS.items():
        module, _, word = name.partition(".")
        setattr(modules[module], word, python_builtin(name, builtin, channel))
    for level in "info", "debug", "warn", "error":
        setattr(modules["log"], level, lambda text, level=level: channel.send(
            Frame(0, b"L", {"level": level}, str(text).encode(
                "utf-8", "surrogateescape"))))
    modules["json"].encode, modules["json"].decode = json.dumps, json.loads
    modules["time"].sleep = lambda ms: time.sleep(ms / 1000)
    return modules


def python_builtin(name, builtin, channel):
    """Make the Python function of one row of BUILTINS."""
    def call(*given):
        arguments = check_arguments(name, builtin.takes, given)
        if builtin.do:
            return builtin.do(*arguments)
        return channel.question(name, *arguments)
    return call


def load_python(program, channel):
    """Import main.py and make a handler (meta, body) -> (meta, body) of it.

    Errors: FaasError bad_input where there is no handler; otherwise whatever
    the import raises.
    """
    import types
    module, told = import_module("main")
    handler = getattr(module, "handler", None)
    if not callable(handler):
        raise FaasError("bad_input", "main.py defines no function called "
                        "handler")
    modules = python_modules(channel)

    def answer(meta, body):
        ctx = types.SimpleNamespace(**modules, **meta["ctx"])
        event = {**meta["event"],
                 "body": body.decode("utf-8", "surrogateescape")}
        return told(lambda: give_response(handler(ctx, event)))
    return answer


LOADERS["python"] = load_python


# 5.8 What went wrong, for its author -----------------------------------------
#
# Whoever calls a function hears that it failed. Its author wants to know where
# and why, and most often it is one of some twenty mistakes that everybody
# makes. So the error that is stored has three parts, as FaaS-Go has them: the
# interpreter's own sentence, the lines around the one that it names, and a tip
# if the mistake is a common one.
#
#       Error at line 2: attempt to index local 'user' (a nil value)
#
#       [CODE]
#           1 | function handler(ctx, event)
#       >   2 |   return { body = user.name }
#           3 | end
#       [/CODE]
#
#       [TIP] There is nil where a table was expected: ...
#
# The line comes from whoever knows it: Lua writes it before its message, and
# of a Python exception the traceback is walked down to the last frame that is
# in main.py (5.2); it travels in the E frame's meta. The text comes from the
# shelf, where it cannot have changed since. So nothing has to be remembered
# for an explanation, and it costs nothing until something fails.
#
# A tip is chosen by the interpreter's words, and those differ: LuaJIT and Lua
# 5.1 say "index local 'user' (a nil value)", Lua 5.4 "index a nil value (local
# 'user')". The rows were taken from what the interpreters print, and the tests
# make them print it again. The first row that fits is the tip, so what is
# special stands before what is general.

TIPS = {
    "lua": (
        ("defines no function called handler",
         "Define it as `function handler(ctx, event)`, without `local` before "
         "it, and mind the spelling."),
        ("^handler must return a table",
         "End with `return { statusCode = 200, body = ... }`, on every path "
         "through handler."),
        ("attempt to (index|get length of) .*nil value",
         "There is nil where a table was expected: the name may be misspelt, "
         "or nothing was found. Test it first: `if x then ... end`."),
        ("attempt to (index|get length of) ",
         "Only tables have fields: look with type(x) at what this value is. "
         "JSON text becomes a table with json.decode."),
        ("attempt to call ",
         "What is called here is no function: the name may be misspelt, or "
         "its `local function` stands further down."),
        ("bad argument #|bad 'for' |'for' .* must be a number",
         "An argument is nil or of another type than the function takes: "
         "print it, or convert it with tostring(x) or tonumber(x)."),
        ("attempt to perform |attempt to .* a '.*' with a '",
         "Arithmetic needs a number on both sides: tonumber(x) makes one of a "
         "text, and (x or 0) one of nil."),
        ("attempt to concatenate |for 'concat'",
         "Only strings and numbers can be joined with `..`: use tostring(x), "
         "(x or \"\") for nil, or json.encode(x) for a table."),
        ("attempt to compare ",
         "Only two numbers or two strings can be compared: convert one side "
         "with tonumber(x) or tostring(x)."),
        (r"'(end|until)' expected .*<eof>",
         "Each function, if, for and while needs its own `end`, and each "
         "repeat its `until`: count them from the line that was not closed."),
        (r"\S near ['<]|label '",
         "This is no Lua: look here and on the line above for a missing "
         "bracket, comma, quote, `then` or `do`."),
    ),
    "python": (
        ("defines no function called handler",
         "Define it as `def handler(ctx, event):`, at the left margin, and "
         "mind the spelling."),
        ("^handler must return a dict",
         "End with `return {\"statusCode\": 200, \"body\": ...}`, on every "
         "path through handler."),
        ("object is not callable",
         "What is called here is no function: was its name given to another "
         "value?"),
        ("'NoneType' object (is not|has no|does not)|'NoneType' has no len",
         "There is None where a value was expected: nothing was found, or a "
         "function ended without a return. Test it first: `if x:`."),
        ("object is not subscriptable|indices must be integers|"
         "does not support item",
         "Only a dict has keys: look with type(x) at what this value is. JSON "
         "text becomes a dict with json.loads."),
        ("^KeyError",
         "This key is not in the dict: d.get(key) gives None instead, and "
         "d.get(key, 0) a value of your choice."),
        ("^IndexError",
         "The list is shorter than expected: look at its len(x) first."),
        ("^AttributeError",
         "Values of this type have no such name: it may be misspelt, or the "
         "value is another than expected. print(dir(x)) lists its names."),
        ("unsupported operand|bad operand type",
         "These two types do not go together: make a number of a text with "
         "int(x) or float(x), and think of what may be None."),
        ("can only concatenate|can't concat|expected str instance",
         "Only text can be joined with text: use str(x), or an f-string such "
         "as f\"{x} apples\"; for bytes, x.decode()."),
        ("not supported between instances",
         "Only values of one type can be compared: convert one side with "
         "int(x) or str(x), and think of what may be None."),
        (r"missing \d+ required|takes .* argument|unexpected keyword|"
         "bad argument #|argument must be |must be str",
         "An argument is missing, or is not of the type that the function "
         "takes: compare the call with the function's first line."),
        ("not JSON serializable",
         "JSON knows dict, list, str, int, float, bool and None: convert this "
         "value first, for example with str(x) or list(x)."),
        ("JSONDecodeError",
         "This text is no JSON: print it to see what came, and think of the "
         "empty body of a GET."),
        ("invalid literal for|could not convert string",
         "This text is no number: look at what came, or catch the ValueError "
         "and answer with status 400."),
        ("^(NameError|UnboundLocalError)",
         "The name is misspelt, not yet defined here, or its import is "
         "missing; to change a global, say `global x` first."),
        ("^(ModuleNotFoundError|ImportError)",
         "A function sees the standard library, its own files and what its "
         "requirements.txt names: is it there, and spelt so?"),
        ("^(IndentationError|TabError)",
         "Lines of one block begin in the same column, with spaces only; "
         "what follows a `:` is indented by four more."),
        ("^SyntaxError",
         "This is no Python: look here and on the line above for a missing "
         "colon, bracket, comma or quote."),
        ("^RecursionError",
         "A function calls itself without end: which case should stop it?"),
    ),
}


def find_tip(tongue, sentence):
    """Give the line with the first tip that fits a sentence, or ''.

    >>> find_tip("lua", "attempt to compare nil with number")[:31]
    '[TIP] Only two numbers or two s'
    >>> find_tip("python", "ValueError: out of cheese")
    ''
    """
    sentence = sentence[:400]       # What a pattern costs grows faster.
    for pattern, tip in TIPS.get(tongue, ()):
        if re.search(pattern, sentence):
            return f"[TIP] {tip}"
    return ""


CONTEXT, WIDEST = 2, 160    # lines on either side; of longer ones, the start


def show_code(text, line):
    """Give the lines around one of them, numbered, with a mark; or ''.

    >>> print(show_code("local a = 1\\nlocal b = nil\\nreturn a + b", 3))
    [CODE]
        1 | local a = 1
        2 | local b = nil
    >   3 | return a + b
    [/CODE]
    """
    lines = text.split("\n") if text else []
    if not 1 <= line <= len(lines):
        return ""
    shown = ["[CODE]"]
    for number in range(max(1, line - CONTEXT),
                        min(len(lines), line + CONTEXT) + 1):
        mark = ">" if number == line else " "
        here = lines[number - 1].rstrip()[:WIDEST]
        shown.append(f"{mark} {number:3} | {here}".rstrip())
    return "\n".join([*shown, "[/CODE]"])


def explain(tongue, name, sentence, line, text):
    """Tell a function's author what went wrong, where, and what may help.

    `line` is 0 or None if it is not known; `text` is that of the file `name`.

    >>> print(explain("python", "main.py", "ZeroDivisionError: division by "
    ...               "zero", 1, "1 / 0"))
    Error at line 1: ZeroDivisionError: division by zero
    <BLANKLINE>
    [CODE]
    >   1 | 1 / 0
    [/CODE]
    >>> explain("python", "main.py", "OSError: no luck", 0, "")
    'Error: OSError: no luck'
    """
    # Python's SyntaxError names the place once more.
    sentence = sentence.replace(f" ({name}, line {line})", "")
    where = f"Error at line {line}" if line else "Error"
    parts = (f"{where}: {sentence}", show_code(text, line or 0),
             find_tip(tongue, sentence))
    return "\n\n".join(part for part in parts if part)


# 5.9 SHELL: server, a function that speaks HTTP itself -----------------------
#
# SmolFaaS's functions are servers: they listen on the port in the variable
# PORT, and the platform passes requests on to them. Such a function can do
# what no other tongue can, which is to answer while it is still being asked.
# It is also the one that the platform knows least about, and so most of this
# section is about what may be wrong:
#
#       it never listens                 its start has a limit
#       it listens on another port       it is told which variable to read
#       it listens, and is not ready     it is greeted until it answers
#       it ends                          the next call starts another
#       it hangs in one call             that call ends; the others go on
#       it hangs in all of them          it no longer greets, and is ended
#
# One process serves many calls at a time. Whoever calls has a visitor, a place
# at the server, and the pool of 4.5 lends visitors as it lends workers. When
# the last visitor has gone, the server ends. So there is no code that ends
# servers: the pool ends visitors, when it is retired or was not used for a
# while, and the server follows.
#
#       pool of 4.5                 Front          Server
#         | lends a Visitor           |               |
#         |--- none idle: birth ----> |--- dead? -->  | one process,
#         |                           |    start one  | one port
#       Visitor 1 --- connection ---------------------|
#       Visitor 2 --- connection ---------------------|
#
# Why a visitor, where a call could open a connection and be done? Because the
# pool is written: it counts, waits, reaps and retires what it lends, and wants
# of it only ask(), healthy() and end(). A visitor is a server cut to that
# shape. A Worker is a process and its only caller; a Visitor is one caller of
# a process that has many, so its end is not the process's end, until it is
# the last.
#
# Each call has a connection of its own, closed at its end; on loopback that
# costs 0.1 ms. Over one that is kept, what a server left unread of one
# caller's body would be the next caller's request (see chapter 9), and a
# server with one thread would wait for the next question of a connection that
# has none.

# Body and answer of such a call may both be long, so neither is kept by us as
# a whole. The naive way reads all of the body, then sends it, then reads all
# of the answer: it needs memory for both, and waits for ever where a function
# answers each line as it comes.
#
#      client              9.5's thread           pump           server
#        | head, 1st piece --> |                    |               |
#        |                     | head ---------------------------> |
#        |                     | - starts --------> | 1st piece --> |
#        | <-- head, 1st ----- | <------------ head, 1st piece --- |
#        | 2nd piece ------------------------------>| ------------> |
#        | <-- 2nd piece ----- | <------------------ 2nd piece --- |
#        | end -----------------------------------> | ------------> |
#        | <-- end ----------- | <------------------------ end --- |
#
# The pump is a thread of its own, because a write can wait as well as a read:
# a server that answers before it has read to the end would otherwise stop us
# in the middle of a write, with its answer unread.

GREETING = (b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
            b"Connection: close\r\n\r\n")
GREET_TIME = 1.0            # s for an answer to it; who is silent for longer
                            # may be busy, and counts as there
ELSEWHERE = 2.0             # s on another port, until we believe it
SERVER_LOG = 1 << 16        # bytes kept of what it prints between two calls
WHOLE = 1 << 16             # bytes of an answer that is not worth streaming
LAST_WORDS = 0.2            # s between a process's last byte and its end


def free_port():
    """Give a port that nobody listens on, at this moment.

    >>> free_port() > 1023
    True
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def greet(port, patience=GREET_TIME):
    """Ask what listens on a port for its health.

    True: it speaks HTTP. None: it took the question, and is silent. False:
    nobody is there, or it is no HTTP server.

    >>> greet(free_port())
    False
    """
    try:
        with socket.create_connection(("127.0.0.1", port), patience) as link:
            link.sendall(GREETING)
            with link.makefile("rb") as reply:
                return reply.read(5) == b"HTTP/"
    except TimeoutError:
        return None
    except OSError:
        return False


def listening_ports(pids):
    """Give the TCP ports that some processes listen on.

    >>> listener = socket.create_server(("127.0.0.1", 0))
    >>> listener.getsockname()[1] in listening_ports([os.getpid()])
    True
    >>> listener.close()

    Source: proc(5), /proc/net/tcp: state 0A is LISTEN, the tenth column the
    inode, which /proc/PID/fd names.
    """
    sockets, ports = set(), set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    sockets.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    for table in "/proc/net/tcp", "/proc/net/tcp6":
        with contextlib.suppress(OSError), open(table) as file:
            for row in file.readlines()[1:]:
                cells = row.split()
                if cells[3] == "0A" and f"socket:[{cells[9]}]" in sockets:
                    ports.add(int(cells[1].rpartition(":")[2], 16))
    return ports


class Server:
    """A process that listens on a port of its own, and ends with its visitors.

    Errors: FaasError from the constructor, where it does not come to serve.
    """

    def __init__(self, parent, program, deadline):
        self.parent, self.limits = parent, program.limits
        self.port, self.said = free_port(), bytearray()
        self.turn, self.visitors, self.alive = threading.RLock(), 0, True
        self.status = 0             # its wait status, once it has ended
        self.pid, self.crowded = 0, False
        log, log_w = pipe()
        program = program._replace(
            env={**program.env, "PORT": str(self.port)})
        with log_w, open(os.devnull, "rb") as null:
            # First, because this machine may have no more threads.
            threading.Thread(target=self.listen, args=(log,),
                             daemon=True).start()
            try:
                self.pid = parent.start(program, [
                    file.fileno() for file in (null, log_w, log_w)])
                self.life = os.pidfd_open(self.pid)
            except OSError as error:
                if self.pid:
                    parent.end(self.pid)
                raise no_room(error) from None
        try:
            self.wait_until_ready(deadline)
        except FaasError as error:
            self.end()
            error.detail = self.take_log()
            raise

    def listen(self, log):
        """Keep the end of what it prints, for a full pipe would stop it; and
        once a second, count its processes."""
        heard, next_look = select.poll(), 0.0
        heard.register(log, select.POLLIN)
        with log:
            while True:
                if heard.poll(1000):
                    piece = log.read(65536)
                    if not piece:
                        return
                    with self.turn:
                        self.said = (self.said + piece)[-SERVER_LOG:]
                if self.pid and time.monotonic() >= next_look:
                    next_look = time.monotonic() + 1.0
                    if outgrown(self.pid, self.limits.processes):
                        self.crowded = True
                        self.end()

    def take_log(self):
        with self.turn:
            said, self.said = bytes(self.said), bytearray()
        return said

    def wait_until_ready(self, deadline):
        """Wait until it answers a greeting, or is silent about it.

        It, and not a stranger who was given the same port meanwhile.
        """
        began = time.monotonic()
        while True:
            well = greet(self.port) is not False
            if self.gone():
                raise self.obituary()
            ports, now = listening_ports(family(self.pid)), time.monotonic()
            here, late = self.port in ports, now >= deadline.at
            if well and here:
                return
            if ports and not here and (late or now - began > ELSEWHERE):
                raise FaasError("bad_input", "it listens on port "
                                f"{min(ports)} and not on the one that the "
                                "variable PORT names")
            if late:
                verb = "speak HTTP on 127.0.0.1, at" if here else "listen on"
                raise FaasError("timeout", f"it did not {verb} the port in "
                                f"PORT within {deadline.why}")
            time.sleep(0.02)

    def gone(self, patience=0.0):
        """Tell whether it has ended, or does within `patience` seconds."""
        with self.turn:
            if not self.alive:
                return True
            ended = select.poll()
            ended.register(self.life, select.POLLIN)
            return bool(ended.poll(1000 * patience))

    def obituary(self):
        status = self.end()
        if self.crowded:
            return FaasError("crashed", "the server started more than "
                             f"{self.limits.processes} processes")
        return exit_error("the server", status, self.limits) or FaasError(
            "crashed", "the server exited with status 0")

    def end(self):
        """End the process and all it started; give its wait status."""
        with self.turn:
            if self.alive:
                self.alive = False
                os.close(self.life)
                self.status = self.parent.end(self.pid)
            return self.status

    def visit(self):
        with self.turn:
            self.visitors += 1
        return Visitor(self)

    def leave(self):
        with self.turn:
            self.visitors -= 1
            if self.visitors == 0:
                self.end()


class Front:
    """Gives visitors to the one server of a function, and starts it."""

    def __init__(self, parent, program):
        self.parent, self.program = parent, program
        self.server, self.turn = None, threading.Lock()

    def visit(self, deadline):
        """Errors: FaasError, where the server does not come to serve."""
        with self.turn:
            if self.server:
                with self.server.turn:      # Nobody ends it meanwhile.
                    if not self.server.gone():
                        return self.server.visit()
            self.server = Server(self.parent, self.program, deadline)
            return self.server.visit()


def chunk_encode(piece):
    """Spell a piece of a body of unknown length; an empty one ends it.

    >>> chunk_encode(b"hello, world"), chunk_encode(b"")
    (b'c\\r\\nhello, world\\r\\n', b'0\\r\\n\\r\\n')

    Source: RFC 9112, section 7.1.
    """
    return b"%x\r\n%b\r\n" % (len(piece), piece)


# What is about one connection and not about the call is not passed on (RFC
# 9110, section 7.6.1); lengths are written anew by whoever sends.

HOP_BY_HOP = frozenset(
    "connection keep-alive te trailer transfer-encoding upgrade "
    "proxy-connection proxy-authenticate proxy-authorization "
    "content-length date".split())


def end_to_end(fields):
    """Give those of some fields that are not about the connection.

    >>> end_to_end([("A", "1"), ("Connection", "B"), ("B", "2")])
    [('A', '1')]
    """
    named = {word.strip().lower() for name, value in fields
             if name.lower() == "connection" for word in value.split(",")}
    return [(name, value) for name, value in fields
            if name.lower() not in HOP_BY_HOP | named]


def server_meta(call, ident):
    """Make what a server is asked, but for the body.

    >>> server_meta(Call("f", path="/a b", query="x=1"), "id-1")["target"]
    '/a%20b?x=1'
    """
    import urllib.parse
    target = call.raw or urllib.parse.quote(
        call.path, safe="/!$&'()*+,;=:@~", errors="surrogateescape")
    return {"method": call.method, "more": call.more, "gone": call.gone,
            "target": target + ("?" + call.query if call.query else ""),
            "length": call.headers.get("Content-Length"),
            "headers": {"Host": "localhost",
                        **dict(end_to_end(list(call.headers.items()))),
                        "X-Faas-Execution": ident}}


def head_encode(meta, *framing):
    """Spell the head of what a server is asked (RFC 9112, section 3).

    >>> asked = {"method": "GET", "target": "/", "headers": {}}
    >>> head_encode(asked)
    b'GET / HTTP/1.1\\r\\nConnection: close\\r\\n\\r\\n'

    `framing` is the line that says how long the body is, where there is one.
    Errors: ValueError, where a line would be two.
    """
    lines = [f"{meta['method']} {meta['target']} HTTP/1.1",
             *(f"{name}: {value}" for name, value in meta["headers"].items()),
             *framing, "Connection: close"]
    if any(re.search("[\r\n\0]", line) for line in lines):
        raise ValueError("a header of the call has a line break in it")
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"


def reply_headers(reply, method):
    """Give the headers of a server's reply; of several, a tuple.

    Its length as http.client has read it, and not as it was spelled: two
    readers must not see two replies in the same bytes (promise S8).
    """
    headers = {}
    for name, value in end_to_end(reply.getheaders()):
        headers[name.title()] = (*headers.get(name.title(), ()), value)
    spelled = reply.getheader("Content-Length", "")
    if method == "HEAD" and re.fullmatch("[0-9]{1,15}", spelled):
        headers["Content-Length"] = spelled
    elif method != "HEAD" and reply.length is not None:
        headers["Content-Length"] = str(reply.length)
    return headers


class Link(socket.socket):
    """A connection whose reads end at a deadline, however they drip.

    A timeout of sockets counts from each read, and http.client reads a line
    by many of them; all come through here.
    """

    LOOK = 1.0      # s between two looks whether the caller is still there

    def __init__(self, port, deadline, gone):
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.deadline, self.gone = deadline, gone
        self.ready = select.poll()
        self.ready.register(self, select.POLLIN)
        try:
            self.settimeout(self.left())
            self.connect(("127.0.0.1", port))
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            self.close()
            raise

    def left(self):
        """Give the seconds that are left; a day where there is no deadline."""
        return min(max(0.001, self.deadline.at - time.monotonic()), 86400.0)

    def recv_into(self, *arguments):
        if time.monotonic() >= self.deadline.at:
            raise TimeoutError      # though there may be something to read
        while not self.ready.poll(1000 * min(self.LOOK, self.left())):
            if time.monotonic() >= self.deadline.at:
                raise TimeoutError
            if self.gone():
                raise ConnectionAbortedError("its caller has left")
        return super().recv_into(*arguments)

    def hang_up(self):
        """End it for whoever reads or writes it, in whichever thread."""
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)


class Visitor:
    """A place at a server; it is asked as a Worker is.

    The Run of a reply that is long, or of no known length, has the rest of it
    as `more`, an iterator of pieces that has to be closed.
    """

    def __init__(self, server):
        self.server, self.alive = server, True
        self.idle_since, self.began = time.monotonic(), 0.0
        self.lost = None            # why its caller's body has no end

    def ask(self, meta, body, deadline):
        """Pass one call on to the server; whatever happens, here is its Run.

        What a server prints belongs to no call: it goes into the log of
        whichever ends next.
        """
        import http.client
        self.began, self.lost, link = time.monotonic(), None, None
        if self.server.gone():
            self.end()              # or the pool would lend it again
            return Run(error=FaasError("crashed", "the server has ended"),
                       start="")
        try:
            link = Link(self.server.port, deadline, meta["gone"])
            pump = self.send(link, meta, body)
            reply = self.read_head(link, meta["method"])
            headers = reply_headers(reply, meta["method"])
            more, out = self.pieces(link, reply, pump), b""
            next(more)              # From here on, close() finds its finally.
            if reply.length is not None and reply.length <= WHOLE:
                out, more = b"".join(more), None
                if meta["method"] != "HEAD":
                    headers.pop("Content-Length", "")   # It is here.
        except (OSError, ValueError, FaasError, http.client.HTTPException
                ) as error:
            return Run(log=self.server.take_log(), start="warm",
                       error=self.failure(link, error, deadline))
        return Run(out, self.server.take_log(), None,
                   {"status": reply.status, "headers": headers}, "warm", more)

    def send(self, link, meta, body):
        """Send head and body; a long body from a thread, for it may be
        answered before it was read to its end. Give the thread, or None."""
        spell, framing = bytes, ()
        if meta["more"] and not meta["length"]:
            spell, framing = chunk_encode, ["Transfer-Encoding: chunked"]
        elif meta["more"] or body or meta["length"]:
            size = meta["length"] if meta["more"] else len(body)
            framing = [f"Content-Length: {size}"]
        link.sendall(head_encode(meta, *framing))
        if not meta["more"] and len(body) < WHOLE:
            return link.sendall(body)

        def pump():
            read_on = True
            try:
                for piece in itertools.chain([body], meta["more"]):
                    if read_on and piece:
                        read_on = try_to_send(link, spell(piece))
                if read_on:
                    try_to_send(link, spell(b""))
            except FaasError as error:      # The client is gone, or raves.
                self.lost = error
                link.hang_up()
        thread = threading.Thread(target=pump, daemon=True)
        thread.start()
        return thread

    def read_head(self, link, method):
        """Read the head of the reply. What comes before it, says little:
        103, for example, is a hint to browsers (RFC 9110, 15.2)."""
        import http.client
        reply = http.client.HTTPResponse(link, method=method)
        reply.begin()
        while reply.status < 200:
            reply.headers = None    # begin() again
            reply.begin()
        if reply.length and reply.length > self.server.limits.output:
            raise too_much(self.server.limits.output)
        return reply

    def pieces(self, link, reply, pump):
        """Yield b"", and then a reply as it comes. Errors: FaasError."""
        import http.client
        total, length = 0, reply.length
        try:
            yield b""
            while piece := reply.read1(WHOLE):
                total += len(piece)
                if total > self.server.limits.output:
                    raise too_much(self.server.limits.output)
                yield piece
            if length and total < length:
                raise ConnectionError("it ended in the middle of its reply")
            if pump:
                pump.join(0.05)     # Who answers early, need not read on.
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self.failure(link, error, link.deadline) from None
        finally:
            link.hang_up()          # The pump may be in the middle of it.
            reply.close()
            link.close()

    def failure(self, link, error, deadline):
        """Say what an exception on the connection means."""
        if link:
            link.hang_up()
            link.close()
        if self.lost or isinstance(error, FaasError):
            return self.lost or error
        late = isinstance(error, TimeoutError)
        if self.server.gone(0.0 if late else LAST_WORDS):
            return self.server.obituary()
        if isinstance(error, ConnectionAbortedError):
            return FaasError("unavailable", "it was given up: its caller has "
                             "left")
        if not late:
            return FaasError("crashed", "the server broke the connection, or "
                             f"spoke no HTTP: {error or type(error).__name__}")
        # It hangs, and not only for us? Who asked for half a second is no
        # witness of that.
        asked = time.monotonic() - self.began
        if asked >= 0.9 * self.server.limits.timeout and not greet(
                self.server.port):
            self.server.end()
        return FaasError("timeout", f"it was not answered within "
                         f"{deadline.why}")

    def gone(self):
        return self.server.gone()

    def healthy(self):
        return not self.gone()

    def end(self):
        if self.alive:
            self.alive = False
            self.server.leave()


def try_to_send(link, data):
    """Send, and tell whether it was taken; why not, the answer may say."""
    try:
        link.sendall(data)
        return True
    except OSError:
        return False


# 5.10 From a folder to a process ---------------------------------------------
#
# Every tongue that stays is known now; here is how each is started. A Program
# without an argv is forked from the nursery and loads the function itself.
#
#       python3, python      no argv: a fork of the nursery, 4 ms
#       lua                  /bin/sh, which becomes the interpreter: 10 ms
#       node, nodejs         node -e SHIM: 35 ms, most of it Node's own
#       go                   the compiled program: 4 ms
#       server               the program, main.py or node, and then the wait
#                            until it listens: 30 ms and more
#
# Node and Go reserve addresses as if they were free, which they are: Node some
# 700 MB of them before the first line of a function runs. A limit on addresses
# would be a limit on nothing, so for these two it is one on what can be
# written (3.1).


def find_tool(tongue, needs="", package=""):
    """Give the path of the program that a tongue needs, or ''.

    It is looked for when a function is deployed, and again at each start of
    a worker, for it may have been removed meanwhile.

    Errors: FaasError bad_input, with the package to install.
    """
    import shutil
    programs = (needs or TONGUES[tongue].needs).split()
    where = os.pathsep.join(filter(None, [os.environ.get("PATH"),
                                          SEARCH_PATH]))
    for program in programs:
        if path := shutil.which(program, path=where):
            return os.path.abspath(path)
    if programs:
        raise FaasError("bad_input", f"{tongue} functions need {programs[0]} "
                        "on this machine: apt install "
                        + (package or TONGUES[tongue].package))
    return ""


def server_argv(fn):
    """Give the argv of a server, by the marks of SmolFaaS."""
    there = set(os.listdir(fn.folder))
    if "go.mod" in there:
        return (os.path.join(fn.folder, PROGRAM),)
    if "package.json" in there:
        return (find_tool("server", "node", "nodejs"), ".")
    return (sys.executable, "-S", "main.py")


def staying_program(fn):
    """Make the Program of a worker, or of a server.

    >>> staying_program(Function("f", "python3", "/f")).tongue
    'python3'

    Errors: FaasError bad_input, where its interpreter is not installed.
    """
    tool = find_tool(fn.tongue)
    argv = {"node": (tool, "-e", NODE_SHIM, fn.tongue),
            "nodejs": (tool, "-e", NODE_SHIM, fn.tongue),
            "go": (os.path.join(fn.folder, PROGRAM),),
            "lua": ("/bin/sh", "-c", LUA_START, tool,
                    f"services=[[{lua_services()}]]", LUA_SHIM),
            }.get(fn.tongue, ())
    env = clean_environment(fn)
    if fn.tongue == "server":
        argv = server_argv(fn)
        env["PYTHONPATH"] = os.path.join(fn.folder, PACKAGES)
        env["PYTHONUNBUFFERED"] = "1"   # Its log is read while it runs.
    if not argv:
        return Program((), fn.folder, env, fn.limits, fn.tongue)
    # It cannot raise its own CPU limit from call to call, as a forked worker
    # does; what spins ends by its timeout.
    return Program(argv, fn.folder, env, fn.limits._replace(cpu=0),
                   reserves=fn.tongue != "lua")


def start_staying(parent, fn, tell):
    """Make what gives birth to a function's workers: deadline -> Worker."""
    program = staying_program(fn)
    if TONGUES[fn.tongue].runs == "server":
        return Front(parent, program).visit
    return lambda deadline: Worker(parent, program, deadline, tell)


def question_of(fn, call, ident, started, base):
    """Make the meta with which a function that stays is asked.

    >>> fn = Function("f", "python3", "/f")
    >>> question_of(fn, Call("f"), "id-1", 0, "")["headers"]["X-Faas-Path"]
    '/'
    """
    if fn.tongue == "server":
        return server_meta(call, ident)
    if TONGUES[fn.tongue].asks:
        return event_meta(fn, call, ident, started, base)
    return {"headers": call_headers(call, ident)}


def call_headers(call, ident):
    """Give a function the headers of its call, and what else it may ask.

    >>> call_headers(Call("f", path="/a", query="b=1"), "id-1")
    {'X-Faas-Method': 'POST', 'X-Faas-Path': '/a', 'X-Faas-Query': 'b=1', \
'X-Faas-Execution': 'id-1', 'X-Faas-Trigger': 'http'}
    """
    return {**call.headers, "X-Faas-Method": call.method,
            "X-Faas-Path": call.path, "X-Faas-Query": call.query,
            "X-Faas-Execution": ident, "X-Faas-Trigger": call.trigger}


# 5.11 SHELL: dependencies ----------------------------------------------------
#
# What a function needs is fetched once, at deploy time, into the version's own
# folder: two functions may need two versions of the same package, and a
# rollback brings back the packages too. pip, npm and the Go compiler are
# programs like any other, so they are run like any other (chapter 3), with
# their bounds. The digest covers requirements.txt, not what pip found for it:
# who wants newer packages changes a line in it, and who wants the same ones
# for ever writes their versions.
#
#       requirements.txt            pip install --target site-packages
#       pyproject.toml, a server's  the same, for its [project] dependencies
#       package.json                npm install, or npm ci beside a lock file
#       fn.go, go.mod               go mod tidy, go build

# What lies in a version's folder afterwards. All of it was there before the
# folder got its name (6.3), so a build that fails, or is killed, leaves none:
#
#       fn.py requirements.txt          + site-packages/
#       index.js package.json           + node_modules/
#       fn.go go.mod                    + faas_main.go, faas-program
#       main.go go.mod (a server)       + faas-program
#
# What the tools keep for the next time lies in data/cache. It may be deleted
# at any time; a Go build without it takes ten seconds instead of one.

BUILD_TIME = 300.0              # s; numpy from source on a Pi takes longer,
                                # and is better taken from piwheels

# A compiler is a larger program than a function, and works for us.
BUILD_LIMITS = Limits(timeout=BUILD_TIME, memory=1 << 40, cpu=600, files=4096,
                      file_size=1 << 30, processes=256)

# What they need to know about the machine, and a function does not. Each sees
# its own: an address to fetch from may have a password in it, and what npm
# fetches brings programs of strangers along.
BUILD_VARIABLES = {
    "pip": "PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE "
           "PIP_TRUSTED_HOST PIP_CERT",
    "npm": "NPM_CONFIG_REGISTRY NPM_CONFIG_USERCONFIG",
    "go": "GOPROXY GONOSUMDB GOSUMDB GOFLAGS GOCACHE GOMODCACHE",
    "": "SSL_CERT_FILE http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY "
        "NO_PROXY"}


def build(parent, folder, what, tool, *argv, env={}):
    """Run one step of a build in a version's folder, with a tool's variables.

    Errors: FaasError bad_input, with the tool's first and last lines.
    """
    words = f"{BUILD_VARIABLES[tool]} {BUILD_VARIABLES['']}".split()
    env = {"PATH": os.pathsep.join([os.path.dirname(argv[0]), SEARCH_PATH]),
           "LANG": "C.UTF-8", "HOME": folder, **env,
           **{name: os.environ[name] for name in words if name in os.environ}}
    deadline = Deadline(time.monotonic() + BUILD_TIME,
                        f"the {BUILD_TIME:.0f} s that a build may take")
    run = run_program(parent, Program(argv, folder, env, BUILD_LIMITS), b"",
                      deadline)
    if run.error:
        said = (run.out + run.log).decode("utf-8", "replace")
        if "No module named pip" in said:
            said = "pip is not installed here: apt install python3-pip"
        lines = said.replace(folder + "/", "").splitlines()
        if len(lines) > 24:         # npm says why first, and pip last.
            lines = [*lines[:12], "...", *lines[-12:]]
        raise FaasError("bad_input", "\n".join([f"{what} ({run.error}):",
                                                *lines]))


def install_requirements(parent, folder, cache):
    """Install a version's Python packages, if it names any.

    Errors: FaasError bad_input with pip's last lines.
    """
    wanted = ["-r", "requirements.txt"]
    text = read_small(folder, "requirements.txt")
    if not re.search(rb"^\s*[^\s#]", text, re.MULTILINE):
        wanted = project_dependencies(folder)
    if wanted:
        build(parent, folder, f"{wanted[-1]} could not be installed", "pip",
              sys.executable, "-m", "pip", "install", "--no-input",
              "--disable-pip-version-check", "--no-cache-dir",
              "--target", PACKAGES, *wanted)


def read_small(folder, name):
    """Give a file's bytes, or none where there is no such file."""
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""


def project_dependencies(folder):
    """List the dependencies of a pyproject.toml (PEP 621).

    Errors: FaasError bad_input, where it is no TOML.
    """
    import tomllib
    text = read_small(folder, "pyproject.toml")
    try:
        needs = tomllib.loads(text.decode()).get("project", {}).get(
            "dependencies", [])
        # What begins with a dash would be an option of pip.
        if not isinstance(needs, list) or not all(
                isinstance(one, str) and one[:1] != "-" for one in needs):
            raise TypeError("dependencies must be a list of packages")
        return needs
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise FaasError("bad_input", f"pyproject.toml cannot be read: {error}"
                        ) from None


def install_packages(parent, folder, cache):
    """Install what a package.json names, and run its build script.

    Errors: FaasError bad_input with npm's last lines.
    """
    text = read_small(folder, "package.json")
    try:
        package = json.loads(text or b"{}")
        needs = package.get("dependencies")
        script = (package.get("scripts") or {}).get("build")
    except (ValueError, AttributeError, RecursionError) as error:
        raise FaasError("bad_input", f"package.json cannot be read: {error}"
                        ) from None
    env = {"npm_config_cache": os.path.join(cache, "npm")}
    if needs:
        locked = os.path.exists(os.path.join(folder, "package-lock.json"))
        build(parent, folder, "package.json could not be installed", "npm",
              find_tool("node", "npm", "npm"), "ci" if locked else "install",
              "--omit=dev", "--no-audit", "--no-fund", env=env)
    if script:
        build(parent, folder, "the build script of package.json failed", "",
              find_tool("node", "npm", "npm"), "run", "build", env=env)


def compile_go(parent, folder, cache):
    """Compile a go function with its shim, or a server as it is.

    Errors: FaasError bad_input with what the compiler says.
    """
    go = find_tool("go")
    if {PROGRAM, GO_MAIN} & set(os.listdir(folder)):
        raise FaasError("bad_input", f"the names {PROGRAM} and {GO_MAIN} are "
                        "taken: the build makes files of these names")
    if os.path.exists(os.path.join(folder, "fn.go")):
        with open(os.path.join(folder, GO_MAIN), "w") as file:
            file.write(GO_SHIM)
    env = {"GOCACHE": os.path.join(cache, "go-build"), "CGO_ENABLED": "0",
           "GOPATH": os.path.join(cache, "go"), "GOTOOLCHAIN": "local",
           "XDG_CONFIG_HOME": os.path.join(cache, "config"),
           "GOWORK": "off"}             # What lies above is not ours.
    steps = [("build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o",
              PROGRAM, ".")]
    if not os.path.exists(os.path.join(folder, "vendor", "modules.txt")):
        steps.insert(0, ("mod", "tidy"))
    if not os.path.exists(os.path.join(folder, "go.mod")):
        steps.insert(0, ("mod", "init", "main"))
    for step in steps:
        try:
            name = " ".join(word for word in step[:2] if word[0] != "-")
            build(parent, folder, f"go {name} failed", "go", go, *step,
                  env=env)
        except FaasError as error:
            if GO_MAIN in str(error):           # Our file cannot call theirs.
                raise FaasError(
                    "bad_input", "fn.go must be of package main, define no "
                    "main, and define func fn(data string, headers "
                    f"map[string]string) (string, error)\n{error}") from None
            raise


def prepare(parent, tongue, folder, cache):
    """Fetch and build what a version needs; `cache` may be kept, or lost.

    Errors: FaasError bad_input.
    """
    there = set(os.listdir(folder))
    if tongue == "go" or tongue == "server" and "go.mod" in there:
        compile_go(parent, folder, cache)
    elif TONGUES[tongue].needs == "node" or (
            tongue == "server" and "package.json" in there):
        install_packages(parent, folder, cache)
    elif tongue in ("python3", "python", "server"):
        install_requirements(parent, folder, cache)
    find_tool(tongue)


# Try it ---------------------------------------------------------------------
#   >>> import tempfile
#   >>> folder = tempfile.mkdtemp()
#   >>> with open(folder + "/fn.py", "w") as file:
#   ...     _ = file.write("def fn(input): return input[::-1]")
#   >>> nursery, soon = Nursery(), Deadline(time.monotonic() + 9)
#   >>> fn = Function("mirror", "python3", folder)
#   >>> worker = Worker(nursery, staying_program(fn), soon)
#   >>> worker.ask({"headers": {}}, b"live", soon).out
#   b'evil'
#   >>> nursery.close()
#   >>> folder_of = {mark: name for name, tongue in TONGUES.items()
#   ...              for mark in tongue.marks}       # who is recognised last?
#   >>> folder_of["package.json"], folder_of["main.py"]
#   ('server', 'python')
#   >>> takes, do = BUILTINS["time.format"]
#   >>> do(1795170639, "Mon Jan 2006")
#   'Fri Nov 2026'
#
# Roads not taken ------------------------------------------------------------
#   A decorator or a base class for functions: then every function imports the
#     platform, and cannot be tested, or moved, without it.
#   Streaming bodies for every tongue: a function that reads as it goes is a
#     server, and 5.9 is what that costs.
#   FaaS-Go's interpreter inside the server: nothing is faster, and nothing can
#     be stopped; os.exit() in a function ends the platform.
#   The shims as files beside this one: then a copy of faas.py alone would
#     speak three tongues, and a shim of yesterday could meet a platform of
#     today.
#   WebAssembly for all tongues: one runner, and for each language a compiler
#     that few readers have; the standard library runs none of it.
#   A library that functions import to reach kv and http: it would have to be
#     installed, versioned and kept compatible, in each language. A frame is
#     all of that in 13 bytes.
#   Guessing bytes or str from the Content-Type: a type that depends on what a
#     client claims is a bug waiting for that client.
#
# Real world -----------------------------------------------------------------
#   Lambda's runtimes are shims too, and open: they ask a local HTTP address
#   for the next event, where ours read a frame. Its contract is handler(event,
#   context); Google's Functions Framework hands over a Flask request, OpenFaaS
#   a template of your choice, and WASI returns to section 5.1: standard input,
#   standard output, variables.

# ============================================================================
# Chapter 6. The shelf: how to replace a running function?
# ============================================================================
#
# Fault 9 of the toy: copy a new file over one that is being run, and some
# caller gets half of each. Editors, scp and unzip all write in place. The cure
# is a rule with two halves:
#
#       what was published never changes;     a new text is a new folder
#       what changes is one pointer,          and it changes in one instant
#
#       data/shelf/shout/9f86d0.../fn.py      version 1
#       data/shelf/shout/60303a.../fn.py      version 2   <- active
#
# The folder's name is the digest of what lies in it, so the same bytes are
# never stored twice, and a rollback is the pointer moved back. The pointer is
# a row in SQLite: a commit either happened or did not, also after a power
# cut (promise S11):
#
#       unpack into .new-x    write all, fsync
#       rename to DIGEST      a crash until here leaves rubbish, no version
#       start its workers     a text that does not load stops here
#       commit the row        the instant
#       switch the pool       calls in flight end on the old workers
#
# Promised: nothing.

import io
import sqlite3
import stat

# 6.1 Bundles ----------------------------------------------------------------
#
# A bundle comes from a stranger too. Every way in which an archive has hurt
# somebody before (promise S4):
#
#       ../../.ssh/authorized_keys       leaves the folder ("zip slip", 2018)
#       /etc/cron.d/x                    does not even try to stay
#       a link to /etc, then link/x      leaves it in two steps
#       a device or a pipe               hangs whoever reads it
#       42.zip                           42 kB that unpack to 4.5 PB
#       the same name twice              which one did the scanner look at?
#
# So an archive is never unpacked onto the disk. It is read into a dict of
# path and Item, under bounds, and only a dict that is clean is written. A
# link that stays inside becomes a copy: what is published must not change
# behind its digest.

MAX_ENTRIES = 10_000            # npm trees reach some thousands
MAX_UNPACKED = 64 << 20         # bytes; a Pi Zero has 512 MB of memory
MAX_RATIO = 200                 # text reaches 20; a bomb 1000, the most that
                                # deflate can do
MAX_PATH = 1000                 # PATH_MAX is 4096, and the shelf needs some
MAX_HOPS = 8                    # links that lead to links; the kernel's is 40
SMALL = 1 << 20                 # bytes below which the ratio is of no harm


class Item(typing.NamedTuple):
    """One file of a bundle."""
    data: bytes
    executable: bool = False


class Bounds:
    """Counts what a bundle unpacks to, and refuses what is too much.

    >>> bounds = Bounds(packed=100)
    >>> bounds.add(5_000_000)
    Traceback (most recent call last):
    ...
    faas.FaasError: the bundle unpacks to more than 200 times its size, as \
only a bomb does
    """

    def __init__(self, packed):
        self.most = min(MAX_UNPACKED, max(SMALL, packed * MAX_RATIO))
        self.entries = self.total = 0

    def add(self, size):
        self.entries, self.total = self.entries + 1, self.total + size
        if self.entries > MAX_ENTRIES:
            raise FaasError("too_large", "the bundle has more than "
                            f"{MAX_ENTRIES} entries")
        if self.total <= self.most:
            return
        if self.most == MAX_UNPACKED:
            raise FaasError("too_large", "the bundle unpacks to more than "
                            f"{MAX_UNPACKED} bytes")
        raise FaasError("too_large", "the bundle unpacks to more than "
                        f"{MAX_RATIO} times its size, as only a bomb does")


def clean_path(path):
    """Give the path of an entry in its one spelling, relative and plain.

    >>> clean_path("./lib//fn.py")
    'lib/fn.py'
    >>> clean_path("lib/../../fn.py")
    Traceback (most recent call last):
    ...
    faas.FaasError: the bundle has an entry that leaves its folder: \
'lib/../../fn.py'
    """
    if len(path) > MAX_PATH:
        raise FaasError("bad_input", "the bundle has a path of more than "
                        f"{MAX_PATH} characters")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts:
        raise FaasError("bad_input", "the bundle has an entry that leaves "
                        f"its folder: {path[:100]!r}")
    if not path.replace("\xa0", "").replace("\u202f", "").isprintable() or (
            any(len(os.fsencode(part)) > 255 for part in parts)):
        raise FaasError("bad_input", "the bundle has an entry whose name no "
                        f"disk should hold: {path[:100]!r}")
    return "/".join(parts)


def not_a_file(path):
    return FaasError("bad_input", "the bundle has a device or a pipe: "
                     f"{path[:100]!r}")


def zip_entries(data, bounds):
    """Yield (path, Item or link target) for each file of a zip."""
    import zipfile
    # ZipFile reads the whole directory before it gives the first entry.
    if data.count(b"PK\x01\x02") > MAX_ENTRIES:
        raise FaasError("too_large", "the bundle's directory has more than "
                        f"{MAX_ENTRIES} records")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            bounds.add(info.file_size)
            mode = info.external_attr >> 16
            if info.is_dir():
                clean_path(info.filename)
                continue
            if info.flag_bits & 1 or info.compress_type not in (0, 8):
                raise FaasError("bad_input", "the bundle is encrypted, or "
                                "packed otherwise than by deflate")
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK):
                raise not_a_file(info.filename)
            # No more is read than the header says, and its CRC is checked.
            content = archive.read(info)
            if len(content) != info.file_size:
                raise FaasError("bad_input", "the bundle lies about the size "
                                f"of {info.filename[:100]!r}")
            if stat.S_ISLNK(mode):
                yield info.filename, content.decode("utf-8", "replace")
            else:
                yield info.filename, Item(content, bool(mode & 0o111))


def gunzip(data):
    """Unpack gzip, if it is gzip, no further than MAX_UNPACKED."""
    import zlib
    if data[:2] != b"\x1f\x8b":
        return data
    # An entry costs up to 1 kB of header and padding besides its bytes.
    most = MAX_UNPACKED + 1024 * MAX_ENTRIES
    stream = zlib.decompressobj(31)         # 31: gzip, with the largest window
    unpacked = stream.decompress(data, most)
    if len(unpacked) == most:
        raise FaasError("too_large", "the bundle's gzip stream unpacks to "
                        f"more than {MAX_UNPACKED} bytes")
    if not stream.eof or stream.unused_data:
        raise FaasError("bad_input", "the bundle's gzip stream is cut short, "
                        "or something follows it")
    return unpacked


# A tar is a row of blocks of 512 bytes: a header, then its file's bytes, then
# the next header; two blocks of zeros end it.
#
#       OFFSET  SIZE  FIELD (POSIX.1-1988, ustar)
#            0   100  name
#          124    12  size of what follows, in octal digits
#          156     1  type: 0 a file, 5 a folder, 2 a link; x, g, L and K
#                     hold more of the next header, S is sparse

MORE_HEADERS = b"xgLKXSN"
MAX_HEADER = 8192           # bytes; a long path and a date take some hundreds


def check_tar(data):
    """Walk over a tar's blocks before anything tries to understand them.

    Python's own reader, up to 3.11.9, takes hours for a megabyte of digits in
    an extended header (CVE-2024-6232), goes backwards at a size below zero
    (CVE-2025-8194), and takes a tar that ends too early for a shorter one.
    """
    at = 0
    while any(block := data[at:at + 512]):
        digits = block[124:136].strip(b" \0") or b"0"
        if not re.fullmatch(rb"[0-7]{1,11}", digits) or (
                block[156] in MORE_HEADERS and int(digits, 8) > MAX_HEADER):
            raise FaasError("bad_input", "the bundle has an entry with a "
                            "size or a header that no tar needs")
        at += 512 + (int(digits, 8) + 511) // 512 * 512
    if len(data) < at + 512:
        raise FaasError("bad_input", "the bundle's tar ends too early")


def tar_entries(data, bounds):
    """Yield (path, Item or link target) for each file of a tar."""
    import tarfile
    check_tar(data)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for info in archive:
            bounds.add(info.size if info.isreg() else 0)
            if info.isdir():
                clean_path(info.name)
            elif info.issym():
                yield info.name, info.linkname
            elif info.islnk():      # relative to the top, not to the link
                depth = clean_path(info.name).count("/")
                yield info.name, "../" * depth + info.linkname
            elif info.isreg():
                content = archive.extractfile(info).read()
                if len(content) < info.size:
                    raise FaasError("bad_input", "the bundle ends in the "
                                    f"middle of {info.name[:100]!r}")
                yield info.name, Item(content, bool(info.mode & 0o111))
            else:
                raise not_a_file(info.name)


def follow(path, files, links, hops=0):
    """Find the Item that a path of a bundle leads to, over its links."""
    if path in files:
        return files[path]
    if path not in links or hops == MAX_HOPS:
        raise FaasError("bad_input", "the bundle has a link to what is no "
                        f"file in it: {path!r}")
    where = os.path.normpath(os.path.join(os.path.dirname(path), links[path]))
    if where.startswith(("/", "../")):
        raise FaasError("bad_input", "the bundle has a link that leaves its "
                        f"folder: {path!r} -> {links[path][:100]!r}")
    return follow(where, files, links, hops + 1)


def follow_links(files, links, bounds):
    """Replace each link by a copy of the file it leads to."""
    copies = {path: follow(path, files, links) for path in links}
    for item in copies.values():
        bounds.add(len(item.data))
    files.update(copies)


def check_tree(files):
    """Refuse a dict of files that no folder could hold.

    >>> check_tree({"a": Item(b""), "a/b": Item(b"")})
    Traceback (most recent call last):
    ...
    faas.FaasError: the bundle has both a file and a folder called 'a'
    """
    if "" in files:
        raise FaasError("bad_input", "the bundle has a file without a name")
    for path in files:
        while path := os.path.dirname(path):
            if path in files:
                raise FaasError("bad_input", "the bundle has both a file "
                                f"and a folder called {path!r}")


def read_bundle(data):
    """Turn a zip, a tar or a tar.gz into a dict of path and Item.

    >>> sorted(read_bundle(pack_tar({"fn.sh": Item(b"date", True)})).items())
    [('fn.sh', Item(data=b'date', executable=True))]

    Errors: FaasError bad_input or too_large.
    """
    import tarfile
    import zipfile
    import zlib
    files, links, bounds = {}, {}, Bounds(len(data))
    try:
        if data.startswith(b"PK"):
            entries = zip_entries(data, bounds)
        else:
            entries = tar_entries(gunzip(data), bounds)
        for path, item in entries:
            path = clean_path(path)
            if path in files or path in links:
                raise FaasError("bad_input", "the bundle has two entries "
                                f"called {path!r}")
            (files if isinstance(item, Item) else links)[path] = item
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError,
            NotImplementedError, RuntimeError, ValueError, OverflowError,
            LookupError, struct.error) as error:
        raise FaasError("bad_input", "the bundle is no zip, tar or tar.gz "
                        f"that can be read: {error}") from None
    follow_links(files, links, bounds)
    check_tree(files)
    return files


def pack_tar(files):
    """Turn a dict of path and Item into a tar; read_bundle's opposite."""
    import tarfile
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, item in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.size = len(item.data)
            info.mode = 0o755 if item.executable else 0o644
            archive.addfile(info, io.BytesIO(item.data))
    return buffer.getvalue()


# A folder on our own disk is a bundle too, with the same bounds. What a tool
# leaves behind is not part of a function.

SKIPPED = frozenset(["__pycache__", "node_modules", "venv"])


def folder_paths(folder, without=frozenset()):
    """Yield the path of each file below `folder`, relative, sorted.

    `without` names what is to be left out, by its path in the folder.
    """
    for where, folders, names in os.walk(folder):
        # os.walk does not enter a folder that is a link: it is listed as if
        # it were a file, so that read_folder() refuses it.
        names += [name for name in folders
                  if os.path.islink(os.path.join(where, name))]
        folders[:] = sorted(set(folders) - SKIPPED - set(names))
        here = os.path.relpath(where, folder)
        folders[:] = [name for name in folders if not name.startswith(".")
                      and os.path.normpath(f"{here}/{name}") not in without]
        for name in sorted(set(names) - SKIPPED):
            path = os.path.normpath(f"{here}/{name}")
            if not name.startswith(".") and path not in without:
                yield path


def read_folder(folder, without=frozenset()):
    """Read a folder into a dict of path and Item; as folder_paths lists it.

    Errors: FaasError bad_input, too_large or not_found.
    """
    files, bounds = {}, Bounds(MAX_UNPACKED)
    top = os.path.realpath(folder)
    try:
        os.listdir(top)             # os.walk is silent where there is nothing
        for path in folder_paths(folder, without):
            full = os.path.realpath(os.path.join(folder, path))
            if not full.startswith(top + os.sep):
                raise FaasError("bad_input", "the folder has a link that "
                                f"leaves it: {path!r}")
            info = os.stat(full)
            if not stat.S_ISREG(info.st_mode):
                raise not_a_file(path)
            bounds.add(info.st_size)
            with open(full, "rb") as file:
                files[clean_path(path)] = Item(file.read(),
                                               bool(info.st_mode & 0o111))
    except OSError as error:
        raise FaasError("not_found", "the folder cannot be read: "
                        f"{error.strerror}") from None
    return files


def fingerprint(folder):
    """Tell cheaply whether a folder may have changed: compare two of these."""
    marks = []
    for path in folder_paths(folder):
        try:
            info = os.stat(os.path.join(folder, path))
        except OSError:
            continue            # It vanished while we looked.
        marks.append((path, info.st_mtime_ns, info.st_size, info.st_mode))
    return tuple(marks)


def digest_of(tongue, files):
    """Give the SHA-256 of a bundle's meaning: tongue, names, bits, contents.

    A size stands before each content, so that no two bundles feed the hash
    the same bytes. When a file was touched does not matter.

    >>> one, two = {"a": Item(b"bc")}, {"ab": Item(b"c")}
    >>> digest_of("binary", one) == digest_of("binary", two)
    False
    """
    import hashlib
    sha = hashlib.sha256(tongue.encode())
    for path, item in sorted(files.items()):
        sha.update(f"\0{path}\0{item.executable:d}{len(item.data)}\0"
                   .encode("utf-8", "surrogateescape"))
        sha.update(item.data)
    return sha.hexdigest()


# 6.2 SHELL: the database ----------------------------------------------------
#
# SQLite in WAL mode: readers never wait for the writer, and a commit is one
# append to a log. `synchronous=FULL` makes a commit wait until the disk has
# it. That costs milliseconds, so only what was promised pays for it; chapter
# 7 opens the same file with less patience.

SHELF_TABLES = """
CREATE TABLE IF NOT EXISTS functions (
    name TEXT PRIMARY KEY,
    active INTEGER NOT NULL,        -- the number of a version: the pointer
    threads INTEGER NOT NULL,
    env TEXT NOT NULL,              -- JSON
    timeout REAL NOT NULL,          -- 0 for the platform's
    source TEXT NOT NULL,           -- 'upload' or 'folder'
    seen TEXT NOT NULL,             -- the last digest taken from its folder
    note TEXT NOT NULL,
    created REAL NOT NULL,
    id TEXT NOT NULL DEFAULT '',
    settings TEXT NOT NULL DEFAULT '{}',        -- JSON, a Settings
    last INTEGER NOT NULL DEFAULT 0);           -- the last version deleted
CREATE TABLE IF NOT EXISTS versions (
    function TEXT NOT NULL REFERENCES functions ON DELETE CASCADE,
    number INTEGER NOT NULL,
    tongue TEXT NOT NULL,
    digest TEXT NOT NULL,
    created REAL NOT NULL,
    files TEXT NOT NULL DEFAULT '[]',           -- JSON: their names
    PRIMARY KEY (function, number), UNIQUE (function, digest));
"""


def open_database(path, tables="", synchronous="FULL"):
    """Open the platform's database; any thread may use the connection."""
    database = sqlite3.connect(path, timeout=10, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={synchronous}")
    database.execute("PRAGMA foreign_keys=ON")
    database.execute("PRAGMA cache_size=-512")      # kB; the default is 2 MB
    database.executescript(tables)
    return database


def add_column(database, table, column):
    """Give a table of an older faas.py a column that it does not have yet.

    >>> db = open_database(":memory:", "CREATE TABLE t (a)")
    >>> for _ in range(2): add_column(db, "t", "b TEXT NOT NULL DEFAULT ''")
    >>> len(db.execute("PRAGMA table_info(t)").fetchall())
    2
    """
    rows = database.execute(f"PRAGMA table_info({table})").fetchall()
    if column.split()[0] not in [row[1] for row in rows]:
        database.execute(f"ALTER TABLE {table} ADD COLUMN {column}")


# What the two tables hold, after two deploys of shout and a rollback (and,
# not shown here, its id, and the JSON of its Settings):
#
#       functions    name    active   threads   env    timeout   source
#                    shout        1         2   {}           0   upload
#
#       versions     function   number   tongue    digest      created
#                    shout           1   python3   9f86d081…   1795170305.0
#                    shout           2   python3   60303ae2…   1795170391.5
#
# Settings belong to the function and not to a version: who rolls back wants
# yesterday's text, and today's password.
#


def settings_of(text):
    """Read the JSON of a Settings; what another faas.py wrote is let be.

    >>> settings_of('{"disabled": true, "colour": "red"}').disabled
    True
    """
    return Settings(**{name: value for name, value in json.loads(text).items()
                       if name in Settings._fields})


# 6.3 SHELL: the shelf -------------------------------------------------------


def write_files(folder, files):
    """Write a dict of files to a new folder."""
    os.makedirs(folder)
    for path, item in files.items():
        full = os.path.join(folder, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as file:
            file.write(item.data)
        os.chmod(full, 0o755 if item.executable else 0o644)


def sync(path):
    """See a file, or a folder's list of names, to the disk (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    os.fsync(fd)
    os.close(fd)


def sync_tree(folder):
    """See all that lies in a folder to the disk: contents, bits and names."""
    for where, _, names in os.walk(folder):
        for name in [*names, "."]:
            full = os.path.join(where, name)
            if not os.path.islink(full):
                sync(full)


class Version(typing.NamedTuple):
    """One deploy that is kept."""
    number: int
    tongue: str
    digest: str
    created: float          # s since 1970
    active: bool


# The order inside publish() does not matter, for a reader sees all of a
# transaction or nothing. The order around it does: place() first, because a
# row may never point to a folder that is not complete; the pool is switched
# last, because a caller may never run what a crash would take back.
#
# A folder without a row is harmless, and sweep() removes it at the next
# start. A row without a folder would be a function that cannot start: so the
# platform (8.9) deploys and deletes under one lock per name.


# What the Shelf can be asked to do, and what each of it changes:
#
#       place             a folder, before anybody knows of it
#       publish           the rows: a new version, and the pointer to it
#       activate          the pointer
#       configure         variables and Settings
#       forget_version    a row, then its folder
#       remove            all rows of a function, then its folders
#       sweep             folders that no row knows
#       bundle            nothing: it reads a version's files back
#
# Rows go before folders where something is deleted, and after them where
# something is made: so a crash in between leaves a folder too many, and never
# a row too many.


class Shelf:
    """The versions of all functions: folders, and the row that points.

    >>> import tempfile
    >>> data = tempfile.TemporaryDirectory()
    >>> shelf = Shelf(data.name)
    >>> def put(text):
    ...     files = {"fn.sh": Item(text)}
    ...     digest, folder = shelf.place("f", "binary", files)
    ...     fn = Function("f", "binary", folder, digest=digest)
    ...     return shelf.publish(fn, now=0.0).version
    >>> put(b"one"), put(b"two"), put(b"two"), put(b"one")
    (1, 2, 2, 1)
    >>> [v.number for v in shelf.versions("f") if v.active]
    [1]
    >>> shelf.close(); data.cleanup()
    """

    def __init__(self, data):
        self.folder, self.turn = os.path.join(data, "shelf"), threading.RLock()
        os.makedirs(self.folder, exist_ok=True)
        self.database = open_database(os.path.join(data, "faas.db"),
                                      SHELF_TABLES)
        with self.database as db:
            add_column(db, "functions", "id TEXT NOT NULL DEFAULT ''")
            add_column(db, "functions", "settings TEXT NOT NULL DEFAULT '{}'")
            add_column(db, "functions", "last INTEGER NOT NULL DEFAULT 0")
            add_column(db, "versions", "files TEXT NOT NULL DEFAULT '[]'")
            for row in db.execute("SELECT name, created FROM functions "
                                  "WHERE id=''").fetchall():
                db.execute("UPDATE functions SET id=? WHERE name=?",
                           (new_id(row[1]), row[0]))

    def close(self):
        self.database.close()

    def path(self, name, *rest):
        """Give the path of a function's folder, or of what lies in it."""
        return os.path.join(self.folder, check_name(name), *rest)

    def place(self, name, tongue, files, prepare=lambda folder: None):
        """Put a bundle's files in their final folder; (digest, folder).

        `prepare` may add to the folder before it gets its name. Nothing
        points to it yet. Errors: those of `prepare`; no trace is left.
        """
        import shutil
        digest = digest_of(tongue, files)
        folder = self.path(name, digest)
        if os.path.isdir(folder):
            return digest, folder
        fresh = self.path(name, f".new-{os.urandom(6).hex()}")
        try:
            write_files(fresh, files)
            prepare(fresh)
            sync_tree(fresh)
            os.rename(fresh, folder)
            sync(self.path(name))
            sync(self.folder)
        except OSError as error:
            raise FaasError("unavailable", "the shelf cannot be written: "
                            f"{error.strerror}") from None
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.rmdir(self.path(name))       # where it was the first
        return digest, folder

    def bundle(self, fn):
        """Read back what a version was made of, without what was built.

        A build may have changed its folder as it liked; what has become a way
        out of it is no part of the bundle any more. Errors: FaasError.
        """
        with self.turn:
            paths = json.loads(self.database.execute(
                "SELECT files FROM versions WHERE function=? AND number=?",
                (fn.name, fn.version)).fetchone()[0])
        if not paths:                   # It was made by an older faas.py.
            return read_folder(fn.folder, BUILT)
        files, top = {}, os.path.realpath(fn.folder) + os.sep
        for path in paths:
            full = os.path.realpath(os.path.join(fn.folder, path))
            if not full.startswith(top) or not os.path.isfile(full):
                raise FaasError("bad_input", f"the build of version "
                                f"{fn.version} has taken {path!r} away: "
                                "deploy the whole function")
            with open(full, "rb") as file:
                files[path] = Item(file.read(), os.access(full, os.X_OK))
        return files

    def publish(self, fn, now, files=()):
        """Make fn's digest the active version; give fn with its number.

        A digest that is on the shelf already keeps its number. `files` are
        the names of its files, to tell them from what the build added.
        """
        with self.turn, self.database as db:
            db.execute("BEGIN IMMEDIATE")   # Nobody numbers beside us.
            number = self.number_of(fn.name, fn.digest)
            seen = fn.digest if fn.source == "folder" else ""
            db.execute(
                "INSERT INTO functions VALUES (?,?,?,?,?,?,?,'',?,?,?,0) "
                "ON CONFLICT (name) DO UPDATE SET active=excluded.active, "
                "threads=excluded.threads, env=excluded.env, "
                "timeout=excluded.timeout, source=excluded.source, "
                "seen=excluded.seen, settings=excluded.settings, note=''",
                (fn.name, number, fn.threads, json.dumps(fn.env),
                 fn.limits.timeout, fn.source, seen, now, fn.id,
                 json.dumps(fn.settings._asdict())))
            db.execute("INSERT OR IGNORE INTO versions VALUES (?,?,?,?,?,?)",
                       (fn.name, number, fn.tongue, fn.digest, now,
                        json.dumps(sorted(files))))
            ident = db.execute("SELECT id FROM functions WHERE name=?",
                               (fn.name,)).fetchone()[0]
        return fn._replace(version=number, note="", id=ident)

    def number_of(self, name, digest):
        """Give the number that a digest has, or would be given now."""
        with self.turn:
            return self.database.execute(
                "SELECT coalesce(max(number) FILTER (WHERE digest=?2), "
                "max(coalesce(max(number), 0), coalesce((SELECT last FROM "
                "functions WHERE name=?1), 0)) + 1) "
                "FROM versions WHERE function=?1", (name, digest)
            ).fetchone()[0]

    def activate(self, name, number):
        """Move the pointer to another version.

        Errors: FaasError not_found.
        """
        with self.turn, self.database as db:
            moved = db.execute(
                "UPDATE functions SET active=?2, note='' WHERE name=?1 AND "
                "EXISTS (SELECT 1 FROM versions WHERE function=?1 AND "
                "number=?2)", (name, number)).rowcount
        if not moved:
            raise FaasError("not_found", f"{name} has no version {number}")

    def configure(self, fn):
        """Store a function's variables and Settings; its text stays."""
        with self.turn, self.database as db:
            db.execute("UPDATE functions SET env=?, settings=? WHERE name=?",
                       (json.dumps(fn.env), json.dumps(
                           fn.settings._asdict()), fn.name))

    def forget_version(self, name, number):
        """Delete one version; the active one has to stay.

        Errors: FaasError bad_input, not_found.
        """
        with self.turn, self.database as db:
            db.execute("BEGIN IMMEDIATE")
            known = {version.number: version.active
                     for version in self.versions(name)}
            if known.get(number):
                raise FaasError("bad_input", "Cannot delete active version")
            if number not in known:
                raise FaasError("not_found", f"{name} has no version {number} "
                                "to delete")
            db.execute("DELETE FROM versions WHERE function=? AND number=?",
                       (name, number))
            # Its number stays in the executions, and is not given again.
            db.execute("UPDATE functions SET last=max(last, ?) WHERE name=?",
                       (number, name))
        self.sweep(name)

    def annotate(self, name, note, seen):
        """Remember why the newest text of a folder is not what serves."""
        with self.turn, self.database as db:
            db.execute("UPDATE functions SET note=?, seen=? WHERE name=?",
                       (note, seen, name))

    def seen(self, name):
        """Give the digest last taken from a function's folder, or ''."""
        with self.turn:
            row = self.database.execute(
                "SELECT seen FROM functions WHERE name=?", (name,)).fetchone()
        return row[0] if row else ""

    def functions(self, name=None, number=None):
        """List all Functions as they are to serve, or one, or one's version.

        Errors: FaasError not_found, if one was asked for.
        """
        with self.turn:
            rows = self.database.execute(
                "SELECT name, tongue, digest, number, threads, env, timeout, "
                "source, note, id, settings FROM functions JOIN versions "
                "ON function=name AND number=coalesce(?2, active) "
                "WHERE ?1 IS NULL OR name=?1 ORDER BY name",
                (name, number)).fetchall()
        if name and not rows:
            wanted = f"version {number}" if number else "version at all"
            raise FaasError("not_found", f"{name} has no {wanted} on the "
                            "shelf")
        return [self.function_of(*row) for row in rows]

    def function_of(self, name, tongue, digest, number, threads, env, timeout,
                    source, note, ident, settings):
        folder = self.path(name, digest)
        return Function(name, tongue, folder, number, digest, threads,
                        json.loads(env), Limits(timeout=timeout), source, note,
                        ident, settings_of(settings))

    def known(self, name):
        """Give a function's Function, or None."""
        with contextlib.suppress(FaasError):
            return self.functions(name)[0]

    def created(self):
        """Give when each function was deployed first, in s since 1970."""
        with self.turn:
            return dict(self.database.execute(
                "SELECT name, created FROM functions").fetchall())

    def versions(self, name):
        """List the Versions of a function, the newest first."""
        with self.turn:
            rows = self.database.execute(
                "SELECT number, tongue, digest, versions.created, "
                "number=active FROM versions JOIN functions ON function=name "
                "WHERE name=? ORDER BY number DESC", (name,)).fetchall()
        return [Version(*row[:4], bool(row[4])) for row in rows]

    def remove(self, name):
        """Forget a function with all its versions; True if it was there."""
        with self.turn, self.database as db:
            gone = db.execute("DELETE FROM functions WHERE name=?",
                              (name,)).rowcount
        self.sweep(name)
        return bool(gone)

    def sweep(self, only=None):
        """Delete each folder that no row knows: what a crash left behind."""
        import shutil
        for name in [only] if only else os.listdir(self.folder):
            known = {version.digest for version in self.versions(name)}
            folder = self.path(name)
            if not os.path.isdir(folder):
                continue
            for digest in set(os.listdir(folder)) - known:
                shutil.rmtree(os.path.join(folder, digest),
                              ignore_errors=True)
            if not known:
                shutil.rmtree(folder, ignore_errors=True)


# Try it ---------------------------------------------------------------------
#   >>> files = read_bundle(pack_tar({"fn.sh": Item(b"date", True)}))
#   >>> digest_of("binary", files) == digest_of("binary", {
#   ...     "fn.sh": Item(b"date", True)})
#   True
#   >>> bomb = {"zeros": Item(bytes(5_000_000))}
#   >>> import gzip
#   >>> try: read_bundle(gzip.compress(pack_tar(bomb)))
#   ... except FaasError as error: print(str(error)[:48])
#   the bundle unpacks to more than 200 times its si
#
# Roads not taken ------------------------------------------------------------
#   A symbolic link `current` as the pointer: rename() switches it in one
#     instant too, but the number, the date and the settings would need a
#     second file, and two files are never switched together.
#   tarfile's filter="data": a good filter, and not in every 3.11; and neither
#     zip nor the bounds would be covered by it.
#   Deleting old versions: rollback is worth more than the bytes. `faas
#     delete` takes all of them.
#
# Real world -----------------------------------------------------------------
#   Git, Nix and Docker's layers name things by what is in them. Lambda keeps
#   numbered versions that never change, and moves aliases between them. A web
#   host that unpacks over the running folder is still the commonest deploy.

# ============================================================================
# Chapter 7. Memory: what happened yesterday?
# ============================================================================
#
# "It worked on Tuesday" can be answered only by a platform that kept notes on
# Tuesday. Two kinds of notes, because there are two kinds of question:
#
#       an execution: one row       "how often, how long, how did it end?"
#       the log: what it printed    "what did it say?"
#
# Both are written on every call, so the price decides the design. A commit
# per call costs more than a warm call itself. So rows wait in a queue, and
# one thread commits whatever has come together in some milliseconds. A crash
# of the platform may lose those milliseconds of yesterday, a power cut some
# seconds more, and neither loses anything that was promised.
#
#       commit per call           0.4 of the rate without any notes
#       commit per 10 ms          0.9, in the same run
#
# Promised: nothing.

import datetime
import queue

# 7.1 Secrets ----------------------------------------------------------------
#
# Programs print their passwords, mostly in tracebacks and by accident; logs
# are then read by people who were never given the password. So what looks
# like a secret is replaced before it is stored (promise S9). "Looks like" is
# a list of shapes, and it errs: a token without any of these shapes stays.
#
#       what                     shape
#       a JSON Web Token         three base64 parts, the first begins eyJ
#       a Bearer or Basic one    the word, then the credential (RFC 7235)
#       a URL with a password    scheme://user:password@host
#       an AWS access key        AKIA and 16 capitals or digits
#       a private key            between its BEGIN and END lines
#       name and value           password=..., "api_key": "...", token: ...
#       the function's own       values of its variables with such a name

SECRET_NAME = (r"(?:password|passwd|secret(?:[_-](?:access[_-])?key)?|token|"
               r"(?:api|access|private)[_-]?key|credentials?)")

SECRET = re.compile(rf"""
    (?<![\w-])eyJ[\w-]{{5,}}\.[\w-]{{5,}}\.[\w-]*
  | (?i:(?<=\bbearer\s)|(?<=\bbasic\s))[\w.~+/=-]{{8,}}
  | \bAKIA[0-9A-Z]{{16}}\b
  | (?<=PRIVATE\ KEY-----)[^-]+(?=-----END)
  | (?<=://)[^\s/:@]{{1,100}}:[^\s/@]{{1,100}}(?=@)
  | (?i:(?P<name>{SECRET_NAME}(?:\\?["'])?\s{{0,3}}[:=]\s{{0,3}}))
    (?: (?P<quote>\\?["'])(?:(?!(?P=quote)).){{1,200}}
      | [^\s"',;&\\]{{4,}} )
    """, re.VERBOSE)


def mask(text, env={}):
    """Replace what looks like a secret by [REDACTED].

    >>> mask('login with {"password": "hunter2!"} failed')
    'login with {"password": "[REDACTED]"} failed'
    >>> mask("got 4711-4712", {"API_KEY": "4711-4712", "COLOUR": "got"})
    'got [REDACTED]'

    The longest values go first, for one may be the beginning of another; one
    of less than 4 characters would take half the text with it, and is let be.
    """
    secrets = [value for name, value in env.items() if len(value) >= 4
               and re.search(SECRET_NAME + "|key", name, re.IGNORECASE)]
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, "[REDACTED]")
    return SECRET.sub(lambda found: (found["name"] or "")
                      + (found["quote"] or "") + "[REDACTED]", text)


# 7.2 SHELL: log files -------------------------------------------------------
#
# One file per function, in PiFaaS's format, so that `tail -f`, grep and an
# editor are all the tools one needs:
#
#       <empty line>
#       --- Run at 2026-11-20T08:50:39.973999 ---
#       what it printed
#
# A run is appended in one write when it ends, so two runs at the same time
# never mix their lines. A file that has grown too large moves aside.


def log_entry(started, text):
    """Format one run; `started` is in seconds since 1970.

    >>> log_entry(0.5, "hi").splitlines()[1][:12], log_entry(0, "hi")[-3:]
    ('--- Run at 1', 'hi\\n')
    """
    when = datetime.datetime.fromtimestamp(started)
    return (f"\n--- Run at {when.isoformat(timespec='microseconds')} ---\n"
            + text.rstrip("\n") + "\n")


class LogBook:
    """The log files of all functions.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> book = LogBook(folder.name, most=100, keep=1)
    >>> for text in "one", "two", "three", "four":
    ...     book.append("f", 0.0, text)
    >>> book.read("f").count(b"--- Run at")
    4
    >>> folder.cleanup()
    """

    def __init__(self, folder, most=1 << 20, keep=2):
        self.folder, self.most, self.keep = folder, most, keep
        self.turn = threading.Lock()
        os.makedirs(folder, exist_ok=True)

    def path(self, name, age=0):
        return os.path.join(self.folder, check_name(name) + ".log"
                            + (f".{age}" if age else ""))

    def append(self, name, started, text):
        entry = log_entry(started, text).encode("utf-8", "replace")
        with self.turn:
            path = self.path(name)
            if os.path.exists(path) and os.path.getsize(path) > self.most:
                self.rotate(name)
            with open(path, "ab", buffering=0) as file:
                file.write(entry)

    def rotate(self, name):
        for age in range(self.keep, 0, -1):
            younger = self.path(name, age - 1)
            if os.path.exists(younger):
                os.replace(younger, self.path(name, age))

    def read(self, name):
        """Give all that is kept of a function's log, the oldest first.

        Errors: FaasError not_found.
        """
        with self.turn:
            found = []
            for age in range(self.keep, -1, -1):
                if os.path.exists(self.path(name, age)):
                    with open(self.path(name, age), "rb") as file:
                        found.append(file.read())
        if not found:
            raise FaasError("not_found", "No logs found for function")
        return b"".join(found)

    def remove(self, name):
        for age in range(self.keep + 1):
            if os.path.exists(self.path(name, age)):
                os.remove(self.path(name, age))


# 7.3 Executions -------------------------------------------------------------


class Execution(typing.NamedTuple):
    """One call as it is remembered; the columns of its table, in order."""
    id: str                 # sorts by time
    function: str
    version: int
    trigger: str            # 'http', 'cli', 'cron', 'async'
    started: float          # s since 1970
    duration: float         # s
    start: str              # 'cold', 'warm', or '' where nothing ran
    status: str             # 'ok', 'skipped', or a key of KINDS
    bytes_in: int
    bytes_out: int
    error: str              # the sentence, masked
    code: int = 200         # of HTTP: what the function chose, or the kind's


class Detail(typing.NamedTuple):
    """What was said in one call, for calls in which anything was; masked."""
    id: str
    log: str                # what the function printed and logged
    event: str              # JSON: what a handler(ctx, event) was given
    answer: str             # JSON: what it gave, where that is to be kept


# An id that begins with the time sorts as the time does. So the table is kept
# in the order of its ids (WITHOUT ROWID): "the newest fifty" and "older than
# thirty days" are one walk along its edge. The newest fifty of one function
# are one along the edge of an index.

EXECUTION_TABLE = """
CREATE TABLE IF NOT EXISTS executions (
    id TEXT PRIMARY KEY, function TEXT NOT NULL, version INTEGER NOT NULL,
    trigger TEXT NOT NULL, started REAL NOT NULL, duration REAL NOT NULL,
    start TEXT NOT NULL, status TEXT NOT NULL, bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL, error TEXT NOT NULL,
    code INTEGER NOT NULL DEFAULT 200) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS executions_of ON executions (function, id);
CREATE TABLE IF NOT EXISTS details (
    id TEXT PRIMARY KEY, log TEXT NOT NULL, event TEXT NOT NULL,
    answer TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS details_go AFTER DELETE ON executions
    BEGIN DELETE FROM details WHERE id = old.id; END;
"""


class Retention(typing.NamedTuple):
    """How much of yesterday is kept: whichever is reached first."""
    days: float = 30.0      # the middle of what FaaS-Go offers
    size: int = 64 << 20    # bytes of database; some 300,000 executions


# 7.4 SHELL: the journal -----------------------------------------------------


# Three kinds of things travel through the queue to the writer's thread: an
# Execution or its Detail to write, an Event to set once all before it is
# written, and None at the end. The Event is how a reader waits for what was
# recorded before it asked, though nobody who records ever waits:
#
#       callers     record  record  record           record
#       queue         E       E       E      Event     E       None
#       writer      |------ one commit ------| set   |-commit-| ends


def storable(text, most):
    """Give what SQLite takes of a text: bounded, and no lone surrogates.

    >>> storable("ab\\udcff", 9), storable("abc", 2)
    ('ab?', 'ab')
    """
    return text[:most] if text.isascii() else text[:most].encode(
        "utf-8", "replace").decode()


MAX_DETAIL = 1 << 16        # characters of a text in a Detail


def complain(text):
    """Say what went wrong on the error output, if anybody can hear it.

    It may lie on the same full disk as what went wrong.
    """
    with contextlib.suppress(OSError, ValueError):
        print(f"faas: {text}", file=sys.stderr)


class Journal:
    """The executions: recorded by anyone, written by one thread.

    >>> import tempfile
    >>> data = tempfile.TemporaryDirectory()
    >>> journal = Journal(data.name + "/faas.db")
    >>> journal.record(Execution("1", "f", 1, "http", 0.0, 0.1, "cold", "ok",
    ...                          5, 5, ""))
    >>> [execution.status for execution in journal.recent("f")]
    ['ok']
    >>> journal.close(); data.cleanup()
    """

    BATCH = 0.01        # s; a hundred commits a second, however many calls
    SWEEP = 3600.0      # s between two looks at the retention

    def __init__(self, path, retention=Retention(), days_of=dict):
        self.path, self.retention, self.days_of = path, retention, days_of
        self.waiting = queue.SimpleQueue()
        self.reader = open_database(path, EXECUTION_TABLE, "NORMAL")
        add_column(self.reader, "executions",
                   "code INTEGER NOT NULL DEFAULT 200")
        self.turn = threading.Lock()
        self.thread = threading.Thread(target=self.write, name="journal",
                                       daemon=True)
        self.thread.start()

    def record(self, execution, detail=None):
        """Take an Execution, and let the caller go on."""
        self.waiting.put(execution._replace(
            function=storable(execution.function, 64),
            error=storable(execution.error, 4000)))
        if detail and any(detail[1:]):
            self.waiting.put(Detail(*(storable(text, MAX_DETAIL)
                                      for text in detail)))

    def flush(self):
        """Wait until all that was recorded before can be read."""
        written = threading.Event()
        self.waiting.put(written)
        written.wait(10)

    def recent(self, function=None, limit=50, offset=0):
        """List the newest Executions, of one function or of all."""
        only = "WHERE function=?1" if function else ""
        rows = self.read(f"SELECT * FROM executions {only} ORDER BY id DESC "
                         "LIMIT ?2 OFFSET ?3", (function, limit, offset))
        return [Execution(*row) for row in rows]

    def read(self, query, values):
        """Give the rows of a query, with all that was recorded before it."""
        self.flush()
        with self.turn:
            return self.reader.execute(query, values).fetchall()

    def count(self, function):
        """Give how many Executions of a function are remembered."""
        return self.read("SELECT count(*) FROM executions WHERE function=?",
                         (function,))[0][0]

    def find(self, ident):
        """Give an Execution and its Detail.

        Errors: FaasError not_found.
        """
        rows = self.read("SELECT * FROM executions WHERE id=?", (ident,))
        if not rows:
            raise FaasError("not_found", "Execution not found: "
                            + ident[:60])
        said = self.read("SELECT * FROM details WHERE id=?", (ident,))
        return Execution(*rows[0]), Detail(*(said or [(ident, "", "", "")])[0])

    def remove(self, function):
        """Forget all of a function's Executions."""
        self.flush()
        with self.turn, self.reader as database:
            database.execute("DELETE FROM executions WHERE function=?",
                             (function,))

    def close(self):
        self.waiting.put(None)
        self.thread.join()
        self.reader.close()

    def gather(self):
        """Wait for something to do, and take what comes along with it."""
        batch = [self.waiting.get()]
        if isinstance(batch[0], tuple):
            time.sleep(self.BATCH)
        while not self.waiting.empty():
            batch.append(self.waiting.get())
        return batch

    def write(self):
        """The life of the thread: write, forget, tell who waits."""
        database, batch = open_database(self.path, synchronous="NORMAL"), []
        next_sweep = 0.0
        while None not in batch:
            batch = self.gather()
            rows = [one for one in batch if isinstance(one, tuple)]
            try:
                insert_executions(database, rows)
                if time.monotonic() >= next_sweep:
                    next_sweep = time.monotonic() + self.SWEEP
                    forget(database, self.retention, time.time(),
                           self.days_of())
            # A full disk, or a row that no database takes, stops no call.
            except (sqlite3.Error, ValueError, OverflowError) as error:
                complain(f"{len(rows)} executions could not be recorded: "
                         f"{error}")
            for one in batch:
                if isinstance(one, threading.Event):
                    one.set()
        database.close()


def insert_executions(database, rows):
    """Write Executions and Details in one commit.

    >>> db = open_database(":memory:", EXECUTION_TABLE)
    >>> insert_executions(db, [Execution(*["x"] * 11)])
    >>> db.execute("SELECT count(*) FROM executions").fetchone()
    (1,)
    """
    with database:
        for table, kind in ("executions", Execution), ("details", Detail):
            marks = ",".join("?" * len(kind._fields))
            database.executemany(
                f"INSERT OR REPLACE INTO {table} VALUES ({marks})",
                [row for row in rows if isinstance(row, kind)])


def forget(database, retention, now, days_of={}):
    """Delete executions past the retention; `now` in seconds since 1970.

    `days_of` holds the functions that have a retention of their own.

    >>> db = open_database(":memory:", EXECUTION_TABLE)
    >>> insert_executions(db, [Execution(new_id(day * 86400), *["x"] * 10)
    ...                        for day in range(10)])
    >>> forget(db, Retention(days=3), now=9 * 86400)
    >>> db.execute("SELECT count(*) FROM executions").fetchone()
    (4,)
    """
    with database:
        for name, days in [*days_of.items(), (None, retention.days)]:
            oldest = new_id(max(0.0, now - days * 86400))[:12]
            only = "=?2" if name else (
                "NOT IN (SELECT value FROM json_each(?2))")
            database.execute(
                f"DELETE FROM executions WHERE id < ?1 AND function {only}",
                (oldest, name or json.dumps(list(days_of))))
    while used_bytes(database) > retention.size:
        # A tenth at a time: the file does not shrink, but its pages are free
        # for the next rows.
        with database:
            gone = database.execute(
                "DELETE FROM executions WHERE id IN (SELECT id FROM "
                "executions ORDER BY id LIMIT 1 + (SELECT count(*) / 10 "
                "FROM executions))").rowcount
        if not gone:
            return


def used_bytes(database):
    """Give the bytes of a database's pages that hold something."""
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * size


# 7.5 SHELL: what functions remember ------------------------------------------
#
# A worker forgets when it ends, and two workers never agree. What a function
# wants to keep goes into a table, under a key of its own. The trap is old:
#
#       worker 1    get hits -> 41              set hits 42
#       worker 2                get hits -> 41             set hits 42
#
# Two calls, one count: get and then set is a race, whichever language writes
# it. `increment` does both in one transaction, and is the cure.
#
# Keys and values are bytes, because Lua's strings are; they travel as text in
# which a lone surrogate stands for a byte (4.1). A `kill -9` loses nothing
# here, but a power cut may lose the last second: nobody waits for the disk.
# A `set` counts what is there, 1 ms for the most that there may be, which is
# why there is a most.

KV_TABLE = """
CREATE TABLE IF NOT EXISTS kv (
    function TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (function, key));
"""

MAX_KEY = 512               # bytes
MAX_VALUE = 1 << 20         # bytes; what is larger is a file
MAX_STORED = 64 << 20       # bytes of one function: as many as a bundle's
MAX_KEYS = 10_000           # of one function


def kv_bytes(text, most, what):
    """Give the bytes of a key or a value.

    >>> kv_bytes("a\\udcff", 9, "key")
    b'a\\xff'

    Errors: FaasError too_large.
    """
    data = text.encode("utf-8", "surrogateescape")
    if len(data) > most:
        raise FaasError("too_large", f"the {what} is longer than {most} bytes")
    return data


def added(text, by):
    """Add to a number that is written as text.

    >>> added("41", 1), added("0.5", 1), added("2", 1.0)
    (42, 1.5, 3)

    Errors: FaasError bad_input.
    """
    if not re.fullmatch(r"-?\d{1,300}(\.\d{1,300})?(e[+-]?\d{1,3})?", text,
                        re.ASCII):
        raise FaasError("bad_input", f"the value {text[:40]!r} is no number "
                        "to add to")
    try:
        total = (int(text) if text.lstrip("-").isdigit() else float(text)) + by
        # Lua and JSON know one kind of number; 3.0 is 3 to both.
        total = int(total) if total == int(total) else total
        if len(str(total)) > 300:
            raise OverflowError
        return total
    except (OverflowError, ValueError):         # of what is not finite
        raise FaasError("bad_input", "the sum is no number that JSON can "
                        "carry") from None


class Store:
    """The values that functions keep; each sees its own.

    >>> store = Store(":memory:")
    >>> store.set("f", "hits", "41"), store.increment("f", "hits")
    (True, 42)
    >>> store.get("f", "hits"), store.get("g", "hits")
    ('42', None)
    >>> store.close()
    """

    def __init__(self, path):
        self.database = open_database(path, KV_TABLE, "NORMAL")
        self.sizes = {}             # function -> how many values, of what size
        self.turn, self.gone = threading.Lock(), set()

    def close(self):
        self.database.close()

    def get(self, function, key):
        """Give a value, or None."""
        with self.turn:
            return self.look(function, kv_bytes(key, MAX_KEY, "key"))

    def look(self, function, key):
        row = self.database.execute(
            "SELECT value FROM kv WHERE function=? AND key=?",
            (function, key)).fetchone()
        return row and row[0].decode("utf-8", "surrogateescape")

    def set(self, function, key, value):
        """Keep a value. Errors: FaasError too_large."""
        with self.turn, self.database:
            self.put(function, kv_bytes(key, MAX_KEY, "key"), value)
        return True

    def put(self, function, key, value):
        value = kv_bytes(value, MAX_VALUE, "value")
        if function in self.gone:       # Its last call outlives it.
            raise FaasError("not_found", "this function was deleted")
        sizes = self.sizes_with(function, key, len(key) + len(value))
        if sizes[0] > MAX_KEYS or sizes[1] > MAX_STORED:
            raise FaasError("too_large", "a function may keep at most "
                            f"{MAX_KEYS} values of {MAX_STORED} bytes in all")
        self.database.execute("INSERT OR REPLACE INTO kv VALUES (?,?,?)",
                              (function, key, value))
        self.sizes[function] = sizes

    def sizes_with(self, function, key, size):
        """Give how many values there will be, of what size, with a new one."""
        count = ("SELECT count(*), coalesce(sum(length(key) + length(value)), "
                 "0) FROM kv WHERE function=?")
        if function not in self.sizes:
            self.sizes[function] = self.database.execute(
                count, (function,)).fetchone()
        old = self.database.execute(count + " AND key=?",
                                    (function, key)).fetchone()
        keys, stored = self.sizes[function]
        return keys - old[0] + 1, stored - old[1] + size

    def increment(self, function, key, by=1):
        """Add to a number, and give the sum; what is not there is 0.

        Errors: FaasError bad_input, where the value is no number.
        """
        key = kv_bytes(key, MAX_KEY, "key")
        with self.turn, self.database as db:
            db.execute("BEGIN IMMEDIATE")   # Another process may be adding.
            total = added(self.look(function, key) or "0", by or 0)
            self.put(function, key, str(total))
        return total

    def delete(self, function, key):
        """Forget a value; True also where there was none."""
        with self.turn, self.database as db:
            db.execute("DELETE FROM kv WHERE function=? AND key=?",
                       (function, kv_bytes(key, MAX_KEY, "key")))
            self.sizes.pop(function, None)
        return True

    def remove(self, function):
        """Forget all that a function kept."""
        with self.turn, self.database as db:
            self.gone.add(function)
            db.execute("DELETE FROM kv WHERE function=?", (function,))
            self.sizes.pop(function, None)


# Try it ---------------------------------------------------------------------
#   >>> mask("curl -H 'Authorization: Bearer 0123456789abcdef'")
#   "curl -H 'Authorization: Bearer [REDACTED]'"
#   >>> new_id(time.time()) < new_id(time.time() + 0.01)
#   True
#   >>> mask("the author of token parsing")     # why is nothing masked?
#   'the author of token parsing'
#
# Roads not taken ------------------------------------------------------------
#   The logging module: levels, handlers and formatters for what is one
#     append; and a function's output is not the platform's log.
#   Logs in the database: then `tail -f` and grep need a server.
#   A commit per call, to lose nothing: the first line of the table above. Who
#     must not lose a call wants the durable queue of chapter 12.
#
# Real world -----------------------------------------------------------------
#   Lambda writes one REPORT line per call with duration, memory and the cold
#   start's INIT, into a log service that is billed by the byte. OpenFaaS keeps
#   counters only (Prometheus), and leaves logs to the container engine.

# ============================================================================
# Chapter 8. The narrow waist: what is a call, from end to end?
# ============================================================================
#
# Everything is there: nouns, processes, workers, tongues, a shelf, a memory.
# One function joins them. Every door ends in it and every runner begins after
# it, so what is true here is true of every call, whoever made it:
#
#       find      which version serves this name now?
#       queue     is there room? else wait, but not for ever, and not all
#       start     a worker: idle, or forked
#       run       the function
#       remember  the log, the execution, the counters
#
# The waist times each call: a trace lists find, queue, start and run with how
# long each took, and every door hands it back. "Why was this slow?" is then a
# question that the answer itself answers.
#
# Promised: nothing.

import functools

# 8.1 Time and room ----------------------------------------------------------


class Trace:
    """Spans of one call, as a stopwatch with laps.

    A name that is marked again adds to its span.

    >>> trace = Trace(now=1.0)
    >>> trace.mark("queue", now=1.5); trace.mark("run", now=3.5)
    >>> trace.spans
    {'queue': 0.5, 'run': 2.0}
    """

    def __init__(self, now):
        self.since = self.last = now
        self.spans = {}

    def mark(self, name, now):
        self.spans[name] = self.spans.get(name, 0.0) + now - self.last
        self.last = now


def deadline_of(call, limits, now):
    """Say until when a call may run, and who says so.

    >>> deadline_of(Call("f", timeout=2), Limits(), now=10.0)[:2]
    (12.0, 'the 2 s that the caller allowed')
    >>> deadline_of(Call("f", timeout=900), Limits(timeout=300), now=0.0)[:2]
    (300.0, "the function's limit of 300 s")
    """
    if 0 < call.timeout < limits.timeout:
        return Deadline(now + call.timeout, f"the {call.timeout:g} s that "
                        "the caller allowed", call.called_off)
    return Deadline(now + limits.timeout, "the function's limit of "
                    f"{limits.timeout:g} s", call.called_off)


class Gate:
    """Lets some in, some wait, and turns the rest away.

    A queue without a bound turns an overload into an outage: everyone waits
    so long that nobody is still there when the answer comes.

    >>> gate = Gate(most=1, queue=0)
    >>> gate.enter(Deadline(time.monotonic() + 1))
    >>> gate.enter(Deadline(time.monotonic() + 1))
    Traceback (most recent call last):
    ...
    faas.FaasError: 1 calls run and 0 wait: the limits of this function
    """

    LOOK = 0.25         # s between two looks whether somebody still waits

    def __init__(self, most, queue):
        self.most, self.bound, self.inside = most, queue, 0
        self.turn, self.queue = threading.Lock(), collections.deque()

    def enter(self, deadline):
        """Come in, or wait for it. Errors: FaasError busy, timeout."""
        with self.turn:
            if self.inside < self.most:
                self.inside += 1
                return
            if len(self.queue) >= self.bound:
                raise FaasError("busy", f"{self.most} calls run and "
                                f"{self.bound} wait: the limits of this "
                                "function")
            ticket = Ticket()
            self.queue.append(ticket)
        while ((patience := deadline.at - time.monotonic()) > 0
               and not deadline.called_off()):
            if ticket.wait(min(patience, self.LOOK)):
                return
        with self.turn:
            if ticket.served:       # at the last moment
                return
            self.queue.remove(ticket)
        deadline.check()
        raise FaasError("timeout", f"it waited in the queue for "
                        f"{deadline.why}")

    def leave(self):
        """Go, and leave the place to who has waited longest."""
        with self.turn:
            if self.queue:
                self.queue.popleft().serve(None)
            else:
                self.inside -= 1


class Live(typing.NamedTuple):
    """A function that can be called now."""
    fn: Function
    gate: Gate
    pool: Pool = None           # of workers, or of a server's visitors
    mark: tuple = ()            # the fingerprint of its folder


class Counters:
    """What /metrics shows: how many calls ended how, and their seconds.

    >>> counters = Counters()
    >>> counters.count("shout", "ok", "cold", 0.25)
    >>> counters.calls["shout", "ok", "cold"]
    [1, 0.25]
    """

    def __init__(self):
        self.calls, self.turn = {}, threading.Lock()

    def count(self, function, status, start, seconds):
        with self.turn:
            cell = self.calls.setdefault((function, status, start), [0, 0.0])
            cell[0] += 1
            cell[1] += seconds


def guess_type(body):
    """Say what bytes without a label are, as far as it can be known.

    >>> guess_type(b"hi"), guess_type(b"\\xff")
    ('text/plain; charset=utf-8', 'application/octet-stream')
    """
    try:
        body.decode()
        return "text/plain; charset=utf-8"
    except UnicodeDecodeError:
        return "application/octet-stream"


# 8.2 What an answer may say -------------------------------------------------
#
# A worker is a stranger's program, and its headers are a stranger's text. What
# no door could carry, or what would begin a second header, is dropped here,
# once for all doors; and which tongue may choose its headers and its status at
# all, is a column of TONGUES.


@functools.lru_cache(maxsize=1024)
def go_capitals(name):
    """Spell a field name as Go does.

    >>> go_capitals("x-request-id")
    'X-Request-Id'
    """
    return "-".join(part.capitalize() for part in name.split("-"))


# What no header can hold: control characters, and surrogates that stand for
# no byte (4.1).
UNSPEAKABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udc7f\udd00-\udfff]")


def clean_headers(headers, tongue):
    """Take of a worker's headers what any door can carry, for it may lie.

    >>> script, lua = TONGUES["script"], TONGUES["lua"]
    >>> clean_headers({"Content-Type": "text/plain", "Lab": "b"}, script)
    {'Content-Type': 'text/plain'}
    >>> clean_headers({"Lab": "b", "Content-Length": "9"}, lua)
    {'Lab': 'b'}
    >>> clean_headers({"Lab": "a\\r\\nEvil: b"}, lua)
    {}
    """
    clean = {}
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if may_choose(tongue, name) and can_be_said(value):
            clean[go_capitals(name.lower())] = value
    return clean


def can_be_said(value):
    """Tell whether a value, or each of several, can stand in a header."""
    if isinstance(value, str):
        return not UNSPEAKABLE.search(value)
    return isinstance(value, (list, tuple)) and all(
        isinstance(one, str) and can_be_said(one) for one in value)


@functools.lru_cache(maxsize=1024)
def may_choose(tongue, name):
    """Tell whether a function may set a header of this name.

    >>> may_choose(TONGUES["lua"], "lab"), may_choose(TONGUES["go"], "lab")
    (True, False)
    """
    name = name.lower()
    if name == "content-length":
        return tongue.runs == "server"      # It was read as such (5.9).
    if name in HOP_BY_HOP or not re.fullmatch("[a-z0-9!#$%&'*+.^_`|~-]+",
                                              name):
        return False
    return tongue.chooses or name == "content-type"


def result_of(run, fn, ident, spans):
    """Turn a Run into the Result that doors can carry.

    >>> run = Run(b"half", error=FaasError("timeout", "too late"))
    >>> result = result_of(run, Function("f", "script", "/f"), "id-1", {})
    >>> result.kind, result.sentence, result.body
    ('timeout', 'too late', b'')
    """
    tongue, status = TONGUES.get(fn.tongue), run.meta.get("status")
    if run.error:
        place = run.error.line and tongue and tongue.asks
        where = f"Error at line {run.error.line}: " if place else ""
        return Result(run.error.kind, to_bytes(mask(to_text(
            run.error.detail), fn.env)), {}, 200, mask(
                f"{where}{run.error}", fn.env), ident, fn.version, run.start,
            tuple(spans.items()))
    headers = clean_headers(run.meta.get("headers"), tongue)
    if not headers and not tongue.chooses:
        headers = {"Content-Type": guess_type(run.out)}
    return Result("ok", run.out, headers,
                  status if tongue.chooses and status else 200, "", ident,
                  fn.version, run.start, tuple(spans.items()), run.more)


# Three places may refuse an answer, each for what it alone can know: the shim
# what its language returned (5.3 to 5.7), this section what no door could
# carry, and a door what it cannot spell. So a refusal has the sentence of the
# first that noticed.


def checked_status(run):
    """Refuse an answer with a status that no client would understand.

    >>> checked_status(Run(meta={"status": 99})).error
    FaasError('it chose 99 as its status, which is none')
    """
    status = run.meta.get("status") or 200
    if run.error or isinstance(status, int) and 200 <= status <= 599:
        return run
    return run._replace(error=FaasError(
        "crashed", f"it chose {repr(status)[:40]} as its status, which is "
        "none"))


# 8.3 Answers that are still coming ------------------------------------------
#
# Most answers are there before anybody writes them down. That of a server may
# take minutes, or never end, and is passed on as it comes. What follows a call
# has to wait for its end: the row that says how it went, and the worker that
# is given back.


class Stream:
    """The pieces of an answer that is still coming.

    `at_end(size, error)` is called once, however it ends: used up, closed, or
    broken by a FaasError, which goes on to whoever reads.

    >>> pieces = (piece for piece in [b"a", b"b"])
    >>> stream = Stream(pieces, lambda size, error: print(size))
    >>> next(stream), list(stream)
    2
    (b'a', [b'b'])
    """

    def __init__(self, pieces, at_end):
        self.pieces, self.at_end = pieces, at_end
        self.size, self.ended = 0, False

    def __iter__(self):
        return self

    def __next__(self):
        try:
            piece = next(self.pieces)
            self.size += len(piece)
            return piece
        except FaasError as error:
            self.close(error)
            raise
        except StopIteration:
            self.close()
            raise

    def close(self, error=None):
        if not self.ended:
            self.ended = True
            self.pieces.close()
            self.at_end(self.size, error)


def give_back(after):
    """Undo what was taken for a call, the last first.

    >>> taken = [lambda: print("gate"), lambda: print("worker")]
    >>> give_back(taken), taken
    worker
    gate
    (None, [])
    """
    while after:
        after.pop()()


def whole(result):
    """Wait for all of a Result, for a door that cannot pass on its pieces.

    >>> whole(Result(body=b"a", more=iter([b"b"]))).body
    b'ab'
    """
    if result.more is None:
        return result
    try:
        return result._replace(body=result.body + b"".join(result.more),
                               more=None)
    except FaasError as error:
        return result._replace(kind=error.kind, sentence=str(error), body=b"",
                               headers={}, more=None)


# 8.4 What is written down ---------------------------------------------------
#
# Three readers want three things of a call that is over. Its author wants what
# the function printed, and where it failed, why: the log. Whoever looks after
# the machine wants one row: how long, how large, how it ended. And who has to
# reproduce a failure wants what it was asked. None of them may find a secret.


def story_of(fn, error):
    """Tell a function's author what went wrong, with the lines of its text.

    Errors: none; of tongues that only fail with a sentence, the sentence.
    """
    tongue = TONGUES.get(fn.tongue)
    if not (tongue and tongue.asks):
        return str(error)
    text = read_small(fn.folder, tongue.text).decode("utf-8", "replace")
    return explain(fn.tongue, tongue.text, str(error), error.line, text)


MAX_LOGGED = 1 << 19        # characters of one run: half of what a log file
                            # may hold; a failure is told at the end


def log_text(call, fn, run, story=""):
    """Give what of a run belongs into the log.

    What a script answers is logged because that is PiFaaS's log; and where
    nobody waits for the answer, the log is the only place for it.
    """
    text = run.log.decode("utf-8", "replace")
    alone = call.trigger in ("cron", "async")
    if fn.tongue == "script" or alone:
        text = run.out.decode("utf-8", "replace") + text
    if run.error:
        text += f"\n[{run.error.kind}] {story or run.error}"
    elif alone:
        text += "\n[ok]"
    if len(text) > MAX_LOGGED:
        text = (f"[{len(text) - MAX_LOGGED} characters are left out here]\n"
                + text[-MAX_LOGGED:])
    return text.strip("\n")


# "It fails with the event of Tuesday" can be looked into only by who still has
# the event of Tuesday. So FaaS-Go keeps what a handler was given, and where it
# was told to, what it gave. Both go through the masks of 7.1, and some more: a
# header or a member whose name says that it is secret loses its value,
# whatever that looks like.

SECRET_WORD = re.compile(
    r"authorization|cookie|token|key|secret|password|auth|credential", re.I)


def mask_members(value, env={}):
    """Mask a JSON value: by the names of its members, and by shape.

    >>> mask_members({"a": [{"api_key": 1}], "Cookie": "x", "b": "k=v"})
    {'a': [{'api_key': '[REDACTED]'}], 'Cookie': '[REDACTED]', 'b': 'k=v'}
    """
    if isinstance(value, dict):
        return {name: "[REDACTED]" if SECRET_WORD.search(name)
                else mask_members(inner, env)
                for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_members(inner, env) for inner in value]
    return mask(value, env) if isinstance(value, str) else value


def mask_body(body, env):
    """Give a body as text that may be stored: of JSON, its members masked.

    >>> mask_body(b'{"password": "x", "a": 1}', {})
    '{"a": 1, "password": "[REDACTED]"}'
    """
    text = body.decode("utf-8", "replace")
    if len(text) <= MAX_DETAIL:
        try:
            return json.dumps(mask_members(json.loads(text), env),
                              sort_keys=True)
        except (ValueError, RecursionError):
            pass                    # It is no JSON, and masked by shape.
    return mask(text[:MAX_DETAIL], env)


def fitting(value):
    """Write an event or an answer as JSON, its body cut until all fits.

    >>> len(fitting({"body": "x" * 10 ** 6})) < MAX_DETAIL
    True
    """
    text = json.dumps(value)
    while len(text) > MAX_DETAIL and len(value["body"]) > 20:
        half = value["body"].removesuffix("\n[TRUNCATED]")
        value = {**value,
                 "body": half[:len(half) // 2] + "\n[TRUNCATED]"}
        text = json.dumps(value)
    return text


def details_of(call, fn, result):
    """Give the JSON of a call's event and of its answer, or '' for each.

    >>> details_of(Call("f"), Function("f", "script", "/f"), Result())
    ('', '')
    """
    tongue, event, answer = TONGUES.get(fn.tongue), "", ""
    if tongue and tongue.asks:
        meta = event_meta(fn, call, "", 0, "")["event"]
        event = fitting({**mask_members(meta, fn.env),
                         "body": mask_body(call.body, fn.env)})
    if fn.settings.keep_answers and result.kind == "ok":
        answer = fitting({
            "statusCode": result.status,
            "headers": mask_members(result.headers, fn.env),
            "body": mask_body(result.body, fn.env)})
    return event, answer


# 8.5 What lies in a folder --------------------------------------------------


def digest_or_empty(folder):
    """Give the digest of a folder's function, or '' where it has none."""
    try:
        files = read_folder(folder)
        return digest_of(tongue_of("", files), files)
    except FaasError:
        return ""


def folder_tongue(folder):
    """Give the tongue of a folder, and read no more of it than that takes.

    >>> folder_tongue("functions/csv2json")
    'python3'

    Errors: as choose_tongue; OSError.
    """
    return choose_tongue("", os.listdir(folder),
                         lambda path: read_small(folder, path))


def tongue_of(wanted, files):
    """Give the tongue of a dict of files. Errors: as choose_tongue."""
    return choose_tongue(wanted, files, lambda path: files[path].data)


# 8.6 SHELL: host functions ---------------------------------------------------
#
# The other half of 5.5: what a function asks in the middle of its call is
# answered here, by the thread that carries the call. The first column is
# what it may ask, and the arguments were checked against BUILTINS before.
#
# It is asked in the name of one function, so there is no question by which it
# could see what another one keeps. An http question is bounded three times:
# by the call's deadline, by 30 s, and by the output limit.
#
#      worker                     the call's thread                  elsewhere
#        | -- Q http.get, url ------> |                                  .
#        |    (waits)                 | -- GET ------------------------> |
#        |                            | <-- 200, body ------------------ |
#        | <- A {statusCode, ...} --- |                                  .
#        | -- R -------------------> |
#
# That a function asks through us and not by itself is no wall: a lua function
# may run curl. It is a convenience that any language gets by speaking frames,
# Lua above all, which has no sockets. So there is no list of addresses where
# http.get may not go, 127.0.0.1 and the router at home among them: it would be
# a wall with a door beside it. The consequence: on loopback, where managing
# takes no key, a function can manage the platform. Who deploys other people's
# functions lets the platform listen on an address that asks for the key (S1).

# To ask the web for somebody is where a platform gets hurt. What may go wrong,
# and what is done about it:
#
#       file:///etc/passwd, ftp://          http and https only, also onward
#       it answers 10 GB                    `most` bytes, then an error
#       it drips a byte a minute            an alarm, whatever is being read
#       it leads on, and on, and back       MAX_REDIRECTS
#       it leads on with a body of 10 GB    that body is not read
#       it wants to know who asks           no cookies, no key, no Referer

HTTP_TIME = 30.0            # s; FaaS-Go's bound for its functions' requests


MAX_REDIRECTS = 10          # as many as Go's client follows


def web_connection(parts, seconds):
    """Choose the way to a URL, over a proxy if the environment says so.

    `parts` are those of urlsplit. Give the connection, not yet made, and the
    target to ask it for. Errors: ValueError.
    """
    import http.client
    import urllib.parse
    import urllib.request
    kind = {"http": http.client.HTTPConnection,
            "https": http.client.HTTPSConnection}[parts.scheme]
    # Letters beyond ASCII are escaped; what is escaped already stays so.
    target = urllib.parse.quote((parts.path or "/") + (
        "?" + parts.query if parts.query else ""), "%/?:@!$&'()*+,;=-._~")
    place = parts.netloc.rpartition("@")[2]     # nobody's name and password
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return kind(place, timeout=seconds), target
    connection = kind(proxy.rpartition("//")[2].rpartition("@")[2].rstrip(
        "/"), timeout=seconds)
    if parts.scheme == "http":
        return connection, f"http://{place}{target}"
    connection.set_tunnel(parts.hostname, parts.port)
    return connection, target


def web_step(method, url, headers, body, most, end):
    """Ask once: (status, headers, body, where it leads instead, or '').

    A timeout of sockets counts from each byte, and who drips never meets it.
    So an alarm hangs up at `end`, whatever is going on.
    """
    import urllib.parse
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the url must begin with http:// or https://")
    connection, target = web_connection(
        parts, max(0.001, min(10.0, end - time.monotonic())))
    # A proxy may drip too, so the alarm is set before there is a socket.
    alarm = threading.Timer(max(0.0, end - time.monotonic()),
                            lambda: hang_up(connection.sock))
    alarm.start()
    try:
        connection.connect()
        connection.sock.settimeout(None)
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        while answer.status < 200:              # Hints, and no answer yet.
            answer.headers = None
            answer.begin()
        where = answer.getheader("Location", "") if answer.status in (
            301, 302, 303, 307, 308) else ""
        data = b"" if where else answer.read(most + 1)
        if answer.length and not where and len(data) <= most:
            raise ConnectionError("it ended in the middle of its answer")
        # Of a header that comes twice, the first, as FaaS-Go has it.
        return (answer.status, dict(reversed(answer.getheaders())), data,
                where and urllib.parse.urljoin(url, where))
    finally:
        alarm.cancel()
        connection.close()


def without_secrets(headers, here, there):
    """Give the headers that may go along to another URL.

    >>> without_secrets({"Cookie": "a", "Lab": "b"}, "http://a/", "http://b/")
    {'Lab': 'b'}
    """
    import urllib.parse
    if urllib.parse.urlsplit(here).netloc == urllib.parse.urlsplit(
            there).netloc:
        return headers
    return {name: value for name, value in headers.items() if name.lower()
            not in ("authorization", "cookie", "proxy-authorization")}


def hang_up(link):
    with contextlib.suppress(OSError, AttributeError):  # None: not there yet
        link.shutdown(socket.SHUT_RDWR)


def web_request(method, url, headers={}, body=None, most=MAX_UNPACKED,
                seconds=HTTP_TIME):
    """Ask somebody else: (status, headers, body), for any status.

    Errors: FaasError bad_input, where there is no answer; too_large, past
    `most` bytes or `seconds`, however slowly it drips.
    """
    import http.client
    end, where = time.monotonic() + seconds, url
    try:
        for _ in range(MAX_REDIRECTS + 1):
            status, found, data, onward = web_step(method, where, headers,
                                                   body, most, end)
            if not onward:
                break
            headers = without_secrets(headers, where, onward)
            where = onward
            if status in (301, 302, 303) and method != "HEAD":
                method, body = "GET", None      # RFC 9110, 15.4
        else:
            raise ValueError(f"it leads on more than {MAX_REDIRECTS} times")
    except (OSError, ValueError, http.client.HTTPException) as error:
        if time.monotonic() < end:
            raise FaasError("bad_input", f"{url[:200]} cannot be had: {error}"
                            ) from None
        data = bytes(most + 1)
    if len(data) > most or time.monotonic() > end:
        raise FaasError("too_large", f"what is at {url[:200]} is larger than "
                        f"{most} bytes, or takes longer than {seconds:.0f} s")
    return status, found, data


# In whose name? The name of a function may be given to another one while a
# call of the first still runs. So values are kept under the id, which is never
# given again, and a late `kv.set` of what was deleted meanwhile goes nowhere.


class Host:
    """Answers the questions of one function's workers.

    A Worker's `tell`: call it with a question, its arguments and a Deadline.
    """

    def __init__(self, platform, fn):
        self.platform, self.name, self.first = platform, fn.name, fn

    def __call__(self, do, arguments, deadline):
        try:
            if do not in BUILTINS or not isinstance(arguments, list):
                raise ValueError(f"there is no {do!r} to ask for")
            given = check_arguments(do, BUILTINS[do].takes, arguments)
            if BUILTINS[do].do:
                return BUILTINS[do].do(*given)
            return HOST_FUNCTIONS[do](self, deadline, *given)
        except (TypeError, ValueError, OverflowError, AttributeError,
                LookupError, OSError, sqlite3.Error) as error:
            raise FaasError("bad_input", str(error)) from None

    @property
    def fn(self):
        """The Function as it is now; while it loads, as it will be.

        Who loads it, asks in the thread that deploys it (8.9).
        """
        live = self.platform.live.get(self.name)
        loads = self.platform.changers.get(self.name) == threading.get_ident()
        same = live and live.fn.id == self.first.id
        return live.fn if same and not loads else self.first

    def set_env(self, deadline, name, value):
        """Set one of the function's variables, or remove it."""
        def changed(env):           # as it is when our turn has come
            env = {**env, name: value}
            return checked_env({key: text for key, text in env.items()
                                if text is not None})
        self.platform.configure(self.name, changed, deadline,
                                self.first.id)
        return True

    def web(self, method, deadline, url, options):
        """Make a request for the function; the answer as FaaS-Go gives it."""
        import urllib.parse
        options = options or {}
        query, headers = (dict(options.get(word) or {}) for word in
                          ("query", "headers"))
        if query:
            url += ("&" if "?" in url else "?") + urllib.parse.urlencode(
                query, doseq=True)
        body = options.get("body")
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        status, headers, data = web_request(
            method, url, {str(name): str(value)
                          for name, value in headers.items()},
            None if body is None else to_bytes(str(body)),
            self.fn.limits.output,
            min(HTTP_TIME, max(0.001, deadline.at - time.monotonic())))
        return {"statusCode": status, "headers": headers,
                "body": data.decode("utf-8", "surrogateescape")}

    def fill(self, base, pattern, params):
        """Write the path of this function that a pattern stands for.

        A function that links to itself does not know under which id it was
        deployed; we do.
        """
        return f"{base}/fn/{self.fn.id}{router_fill(pattern, params or {})}"


def sleep_until(seconds, deadline):
    """Sleep, but no longer than the call may run."""
    time.sleep(max(0.0, min(seconds, deadline.at - time.monotonic())))


HOST_FUNCTIONS = {
    "kv.get": lambda host, when, key: host.platform.store.get(
        host.first.id, key),
    "kv.set": lambda host, when, key, value: host.platform.store.set(
        host.first.id, key, value),
    "kv.delete": lambda host, when, key: host.platform.store.delete(
        host.first.id, key),
    "kv.increment": lambda host, when, key, by: host.platform.store.increment(
        host.first.id, key, 1 if by is None else by),
    "env.get": lambda host, when, name: host.fn.env.get(name),
    "env.set": lambda host, when, name, value: host.set_env(
        when, name, value),
    "env.delete": lambda host, when, name: host.set_env(
        when, name, None),
    "http.get": lambda host, when, *rest: host.web("GET", when, *rest),
    "http.post": lambda host, when, *rest: host.web("POST", when, *rest),
    "http.put": lambda host, when, *rest: host.web("PUT", when, *rest),
    "http.delete": lambda host, when, *rest: host.web("DELETE", when, *rest),
    "router.path": lambda host, when, *rest: host.fill("", *rest),
    "router.url": lambda host, when, *rest: host.fill(
        host.platform.base_url, *rest),
    "time.sleep": lambda host, when, ms: sleep_until(ms / 1000, when),
}


# Variables come from strangers too, through two doors and from functions.


def checked_env(env):
    """Check environment variables; FaaS-Go's bounds, and no zero bytes.

    >>> checked_env({"COLOUR": "red"})
    {'COLOUR': 'red'}

    Errors: FaasError bad_input.
    """
    if len(env) > 100:
        raise FaasError("bad_input", "more than 100 environment variables")
    for name, value in env.items():
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,99}", name, re.ASCII):
            raise FaasError("bad_input", f"{name[:60]!r} is no name of an "
                            "environment variable")
        if not isinstance(value, str) or len(value) > 10000 or (
                re.search("[\0\ud800-\udc7f\udd00-\udfff]", value)):
            raise FaasError("bad_input", f"the variable {name} must be a "
                            "text of at most 10000 characters")
    return env


# 8.7 SHELL: the platform ----------------------------------------------------
#
# Functions come from two places, and a name belongs to one of them. What was
# uploaded lies on the shelf only. What lies in functions/ belongs to whoever
# edits it: a file is run in place; a folder is looked at on each call, and
# when it has changed, it is deployed as an upload would be. If that fails,
# the last good version goes on serving, and a note says why.
#
# Deployed by whom is the only difference. Of both, the text lies on the shelf
# as a version, can be rolled back, has an id, settings, values and executions;
# a file in functions/ has none of these but its log and its executions, for
# it is the one thing that is run where it lies.
#
#       find("shout")    on the shelf, uploaded?         that
#                        functions/shout is a folder?    take up its edits
#                        functions/shout is a file?      run it in place
#                        else                            not_found
#
# A redeploy is invisible to callers for three reasons: the new workers are
# ready before the row is committed, the row is committed before the pool is
# switched, and the old pool ends a worker only when its call has ended. A
# caller who found the old pool and comes too late gets Retired, and looks
# again.


# What a Platform is made of; each part is a chapter, and knows none of the
# others. Here is where they meet, and the only place that has to change when
# a part is exchanged:
#
#       parent      the nursery: starts and ends processes            (4.3)
#       shelf       which versions there are, and which one serves    (6)
#       logs        what functions printed, for people                (7.2)
#       journal     what was called, and how it ended                 (7.4)
#       store       what functions keep                               (7.5)
#       live        name -> Live: the functions that were called      (8.1)
#       ids         id -> name
#       locks       name -> who changes it waits here; see alone()    (8.9)
#       watchers    who wants to hear of new answers: (name, Result),
#                   or (name, None) when a function is gone           (14)
#       counters    for /metrics                                      (8.1)


class Platform:
    """A whole FaaS without a door.

    >>> import tempfile
    >>> home = tempfile.TemporaryDirectory()
    >>> with Platform(home.name) as platform:
    ...     _ = platform.deploy("hi", {"fn.py": Item(
    ...         b"def fn(input): return 'hi ' + input")})
    ...     result = platform.invoke(Call("hi", b"you"))
    >>> result.body, result.kind, result.start, result.version
    (b'hi you', 'ok', 'warm', 1)
    >>> home.cleanup()
    """

    IDLE = 300.0        # s until an unused worker ends; Lambda's is unsaid,
                        # and people have measured 5 to 7 minutes
    BACKGROUND = 64     # calls that run with nobody waiting

    def __init__(self, home=".", functions=None, data=None, logs=None,
                 idle=IDLE, limits=Limits(), retention=Retention()):
        self.functions = os.path.abspath(functions or home + "/functions")
        self.data = os.path.abspath(data or home + "/data")
        os.makedirs(self.functions, exist_ok=True)
        os.makedirs(self.data, mode=0o700, exist_ok=True)
        self.parent, self.shelf = Nursery(), Shelf(self.data)
        self.logs = LogBook(os.path.abspath(logs or home + "/logs"))
        database = os.path.join(self.data, "faas.db")
        self.journal = Journal(database, retention, self.keep_days)
        # In a file of its own, or it would count as yesterday's (7.4).
        self.store = Store(os.path.join(self.data, "kv.db"))
        self.base_url = ""
        self.counters, self.limits, self.idle = Counters(), limits, idle
        self.live, self.running, self.closing = {}, 0, False
        self.failed = {}            # folders that never loaded, and why
        self.locks = collections.defaultdict(threading.Lock)
        self.changers = {}          # name -> the thread that has its lock
        self.turn, self.stopped = threading.Condition(), threading.Event()
        self.background = threading.Semaphore(self.BACKGROUND)
        self.ids, self.watchers = {}, []
        for fn in self.shelf.functions():
            self.live[fn.name] = self.bring_to_life(self.with_limits(fn))
            self.ids[fn.id] = fn.name
        self.keeper = threading.Thread(target=self.keep, name="keeper",
                                       daemon=True)
        self.keeper.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def finish(self, deadline):
        """Take no more calls, and wait for those that run, to `deadline`."""
        with self.turn:
            self.closing = True
            self.turn.wait_for(lambda: not self.running,
                               max(0.0, deadline - time.monotonic()))

    def close(self, patience=10.0):
        """Let running calls finish for `patience` s, then end everything."""
        self.finish(time.monotonic() + patience)
        self.stopped.set()
        self.keeper.join()
        for live in list(self.live.values()):
            if live.pool:
                live.pool.retire()
        self.parent.close()         # And with it whoever still runs; those
        with self.turn:             # calls fail now, and are written down.
            self.turn.wait_for(lambda: not self.running, 2)
        self.journal.close()
        self.store.close()
        self.shelf.close()

    def keep_days(self):
        """Give the functions that have a retention of their own, and it."""
        return {name: live.fn.settings.keep_days for name, live in
                list(self.live.items()) if live.fn.settings.keep_days}

    def keep(self):
        """End idle workers, now and then; nothing may end the keeper."""
        while not self.stopped.wait(1.0):
            for live in list(self.live.values()):
                try:
                    if live.pool:
                        live.pool.reap(time.monotonic(), self.idle)
                except (FaasError, OSError) as error:
                    complain(f"{live.fn.name} keeps its workers: {error}")

    def with_limits(self, fn):
        """Give a Function from the shelf the platform's limits."""
        return fn._replace(limits=self.limits._replace(
            timeout=fn.limits.timeout or self.limits.timeout))

    def bring_to_life(self, fn):
        """Make what serves a Function; its workers come when needed."""
        old, limits = self.live.get(fn.name), fn.limits
        most = max(fn.threads, limits.concurrency)
        gate = old.gate if old else Gate(most, limits.queue)
        runs = TONGUES[fn.tongue].runs
        if runs == "process":
            return Live(fn, gate)
        started = None

        def birth(deadline):
            nonlocal started
            start = Deadline(time.monotonic() + limits.start, "the "
                             f"{limits.start:g} s that a start may take")
            try:                # not before: its interpreter may be missing
                started = started or start_staying(self.parent, fn,
                                                   Host(self, fn))
            except FaasError as error:
                raise FaasError("unavailable", str(error)) from None
            return started(min(deadline, start))
        # A visitor of a server costs a connection, and need not be waited for.
        patience = Pool.PATIENCE if runs == "worker" else 0.0
        return Live(fn, gate, Pool(birth, fn.threads, most, patience))

    # 8.8 Find ---------------------------------------------------------------
    #
    # A look at a folder compares names, sizes and times of change, and reads
    # nothing: some 20 us for a small one. Only when they differ are the files
    # read and their digest taken; and only when that differs from the last
    # one taken up is it deployed. So `touch` makes no version, and a text
    # that did not load is not tried again until somebody edits it.
    #
    #       what happened to functions/hi     the next call
    #       nothing                           version 1
    #       an edit                           waits for its load: version 2
    #       touch                             one read, and version 2
    #       an edit with a syntax error       version 2; a note says why
    #       nothing                           version 2, and no second try
    #       the error is cured                version 3
    #       the first text is back            version 1: its digest is known
    #       the folder is moved away          not_found
    #       and back                          version 1, without a new load

    def find(self, name, deadline=NEVER):
        """Give the Live function of a name.

        Errors: FaasError not_found, or bad_input where a folder's text does
        not load and no earlier one did; timeout, where that takes too long.
        """
        name = self.name_of(name)
        live = self.live.get(name)
        if live and live.fn.source == "upload":
            return live
        path = os.path.join(self.functions, check_name(name))
        if os.path.isdir(path):
            return self.take_up(name, path, deadline)
        if live and live.fn.source == "folder" or not os.path.isfile(path):
            self.let_go(live, name, deadline)
        if not os.path.isfile(path):
            raise FaasError("not_found", f"Function not found: {name}")
        if live and live.fn.source == "file":
            return live
        return self.live.setdefault(name, self.bring_to_life(Function(
            name, "script", path, limits=self.limits, source="file")))

    def name_of(self, word):
        """Give the name of a function, from its name or its id."""
        return word if word in self.live else self.ids.get(word, word)

    def let_go(self, live, name, deadline):
        """Serve what has gone from functions/ no more; the shelf keeps it.

        Only what was looked at may go: a deploy may have put another there.
        """
        if live:
            with self.alone(name, deadline):
                if self.live.get(name) is live:
                    self.put_to_rest(name)

    def put_to_rest(self, name):
        """Let a function serve no more calls; True if it did."""
        live = self.live.pop(name, None)
        if live and live.pool:
            live.pool.retire()
        if live:
            self.announce(name, None)
        return bool(live)

    def take_up(self, name, path, deadline):
        """Give a folder's function, with the newest edit that works."""
        mark, live = fingerprint(path), self.live.get(name)
        if live and live.mark == mark:
            return live
        with self.alone(name, deadline):
            live = self.live.get(name)
            if live and live.mark == mark:
                return live         # Another call took it up meanwhile.
            self.take_up_locked(name, path, mark)
            self.live[name] = self.live[name]._replace(mark=mark)
            return self.live[name]

    def take_up_locked(self, name, path, mark):
        """Deploy a folder as it is now, or go on with what serves."""
        live = self.live.get(name)
        serves = live and live.fn.source == "folder"
        # A folder that was moved away while we read it comes back as it was,
        # but for the time of its last change of name.
        with contextlib.suppress(OSError):
            mark += os.stat(path).st_ctime_ns,
        failed_mark, kind, sentence = self.failed.get(name, ((), "", ""))
        if kind and failed_mark == mark and not serves:
            raise FaasError(kind, sentence)
        try:
            # Look for its marks before reading all of what may be /etc.
            folder_tongue(path)
            files = read_folder(path)
            digest = digest_of(tongue_of("", files), files)
            if not serves or digest != self.shelf.seen(name):
                self.deploy_locked(name, files, source="folder")
            self.failed.pop(name, None)
        except (FaasError, OSError) as error:
            if serves:
                return self.keep_last_good(live, path, error)
            kind = getattr(error, "kind", "denied")
            self.failed[name] = mark, kind, str(error)
            raise FaasError(kind, str(error)) from None

    def keep_last_good(self, live, path, error):
        """Go on with the version that serves, and say so."""
        note = mask("the newest edit does not work, version "
                    f"{live.fn.version} goes on: {error}", live.fn.env)
        self.shelf.annotate(live.fn.name, note, digest_or_empty(path))
        fn = live.fn._replace(note=note)
        self.live[fn.name] = live._replace(fn=fn)
        self.logs.append(fn.name, time.time(), note)

    def uploaded(self):
        """List the names of the uploaded functions, in order."""
        return [fn.name for fn in self.shelf.functions()
                if fn.source == "upload"]

    def listing(self):
        """List every Function that could be called, by name."""
        found = {fn.name: self.with_limits(fn)
                 for fn in self.shelf.functions()
                 if fn.source == "upload" or os.path.isdir(
                     os.path.join(self.functions, fn.name))}
        for name in filter(NAME.fullmatch, os.listdir(self.functions)):
            path = os.path.join(self.functions, name)
            if name in found:
                continue
            if os.path.isfile(path):
                found[name] = Function(name, "script", path, source="file",
                                       limits=self.limits)
            elif os.path.isdir(path):
                with contextlib.suppress(FaasError, OSError):
                    tongue = folder_tongue(path)
                    note = self.failed.get(name, ("", "", ""))[2]
                    found[name] = Function(
                        name, tongue, path, limits=self.limits,
                        source="folder", note=note)
        return [found[name] for name in sorted(found)]

    # 8.9 Deploy, roll back, delete ------------------------------------------
    #
    # These move the same pointer and change the same pool, so they are done
    # one at a time for each name. Callers never wait for that lock, with
    # one exception: who is the first to meet an edited folder, or one that is
    # gone, waits until that is seen to, since "at the next call" is what was
    # promised.
    #
    # A deploy under load, as callers see it. At no moment is there nobody:
    #
    #                  old workers         new workers       who comes now
    #       place      answer                                old
    #       fill       answer              load, say hello   old
    #       commit     answer              ready             old
    #       switch     end their calls     ready             new
    #       retire     end, one by one     answer            new
    #
    # If loading fails, the right column never begins, and nobody has noticed.

    def deploy(self, name, files, tongue="", threads=None, env=None,
               timeout=None, settings=None, fresh=False):
        """Make a bundle's files the serving version of a function; give it.

        What is None stays as it was. Errors: FaasError bad_input where it
        does not load, conflict where the name is taken; then the old version
        goes on serving.
        """
        if check_name(name) in RESERVED:
            raise FaasError("conflict", f"{name!r} is a path of this "
                            "platform: choose another name")
        if os.path.exists(os.path.join(self.functions, name)):
            raise FaasError("conflict", f"functions/{name} is there already: "
                            "edit it, or choose another name")
        if name in self.ids:
            raise FaasError("conflict", f"{name} is the id of "
                            f"{self.ids[name]}: choose another name")
        with self.alone(name):
            if fresh and self.shelf.known(name):
                raise FaasError("conflict", f"{name} is taken")
            return self.deploy_locked(name, files, tongue, threads, env,
                                      timeout, settings)

    def deploy_locked(self, name, files, tongue="", threads=None, env=None,
                      timeout=None, settings=None, source="upload"):
        tongue = tongue_of(tongue, files)
        if tongue == "binary":
            files = {**files, "fn.sh": Item(files["fn.sh"].data, True)}
        cache = os.path.join(self.data, "cache")
        digest, folder = self.shelf.place(
            name, tongue, files,
            lambda fresh: prepare(self.parent, tongue, fresh, cache))
        was = self.shelf.known(name) or Function(
            name, "", "", id=new_id(time.time()), limits=Limits(timeout=0))
        # What is stored says 0 where nothing was asked for, so that another
        # platform's limit may hold when this data folder is served by it.
        stored = Function(
            name, tongue, folder, self.shelf.number_of(name, digest), digest,
            was.threads if threads is None else threads,
            was.env if env is None else env,
            self.limits._replace(timeout=was.limits.timeout if timeout is None
                                 else timeout), source, "", was.id,
            was.settings if settings is None else settings)
        fn, old = self.with_limits(stored), self.live.get(name)

        def commit():
            ident = self.shelf.publish(stored, time.time(), files).id
            self.ids[ident] = name
            return fn._replace(id=ident)
        if old and old.fn._replace(note="") == fn:
            # The same bytes and settings: no new version, no new workers.
            self.live[name] = old._replace(fn=commit())
            return fn
        return self.switch(fn, commit)

    def switch(self, fn, commit):
        """Let fn serve instead of what serves now; give it as committed.

        `commit` is the instant: before it a crash leaves the old version,
        after it the new one.
        """
        ready, old = self.bring_to_life(fn), self.live.get(fn.name)
        if ready.pool:
            try:
                ready.pool.fill(NEVER)
            except FaasError as error:
                said = error.detail.decode("utf-8", "replace")[-4000:]
                story = story_of(fn, error)     # while its text is there
                self.shelf.sweep(fn.name)
                raise FaasError("bad_input", mask(
                    f"{fn.name} does not start: {story}\n{said}".rstrip(),
                    fn.env)) from None
            except (OSError, RuntimeError) as error:    # no more threads
                self.shelf.sweep(fn.name)
                raise FaasError("unavailable", f"{fn.name} cannot be started "
                                f"here now: {error}") from None
        try:
            fn = commit()
        except sqlite3.Error:
            if ready.pool:
                ready.pool.retire()
            raise
        self.live[fn.name] = ready._replace(
            fn=fn, mark=old.mark if old else ())
        ready.gate.most = max(fn.threads, fn.limits.concurrency)
        if old and old.pool:
            old.pool.retire()
        return fn

    def rollback(self, name, number):
        """Let another version of a function serve; give the Function.

        Errors: FaasError not_found.
        """
        name = check_name(self.name_of(name))
        with self.alone(name):
            fn = self.with_limits(self.shelf.functions(name, number)[0])

            def commit():
                self.shelf.activate(name, number)
                return fn._replace(note="")
            return self.switch(fn, commit)

    @contextlib.contextmanager
    def alone(self, name, deadline=NEVER):
        """Be the only one who changes a function.

        Errors: FaasError timeout; conflict, where a function wants to change
        itself while it is loaded: its loader would wait for itself.
        """
        me = threading.get_ident()
        if self.changers.get(name) == me:
            raise FaasError("conflict", f"{name} is being loaded, and cannot "
                            "be changed before it serves")
        left = min(max(0.0, deadline.at - time.monotonic()), 86400.0)
        if not self.locks[name].acquire(timeout=left):
            raise FaasError("timeout", f"another change of {name} took longer "
                            f"than {deadline.why}")
        self.changers[name] = me
        try:
            yield
        finally:
            del self.changers[name]
            self.locks[name].release()

    def configure(self, name, env=None, deadline=NEVER, only="", **settings):
        """Change a function's variables, or its Settings; give it.

        `env` is the new ones, or a function that makes them of the old ones.
        `only` is the id that it has to have, where another may have its name.
        Errors: FaasError not_found; conflict for a file in functions/, which
        has no place for them.
        """
        name = self.find(name, deadline).fn.name
        with self.alone(name, deadline):
            live = self.live.get(name)
            if not live or only not in ("", live.fn.id):
                raise FaasError("not_found", f"{name} was deleted meanwhile")
            if not live.fn.id:
                raise FaasError("conflict", f"functions/{name} is a file, and "
                                "has no settings: deploy it to give it some")
            if callable(env):
                env = env(live.fn.env)
            fn = live.fn._replace(
                env=live.fn.env if env is None else env,
                settings=live.fn.settings._replace(**settings))

            def commit():
                self.shelf.configure(fn)
                return fn
            if fn.env == live.fn.env or TONGUES[fn.tongue].asks or (
                    not live.pool):
                self.live[name] = live._replace(fn=commit())
                return fn
            return self.switch(fn, commit)      # Workers were born with them.

    # Variables and Settings are the other thing that may change. Who asks for
    # its variables (5.5) sees the new ones in its next question; a process
    # that was born with the old ones has to be replaced, and is, as by a
    # deploy:
    #
    #       lua, python             nothing to do
    #       script, binary          nothing to do: each call is a new process
    #       the others              new workers, then the old ones retire

    def version(self, name, number):
        """Give a version of a function as a Function, and its own text.

        Errors: FaasError not_found.
        """
        fn = self.shelf.functions(self.name_of(name), number)[0]
        text = TONGUES[fn.tongue].text
        return fn, read_small(fn.folder, text).decode("utf-8", "replace")

    def forget_version(self, name, number):
        """Delete a version. Errors: FaasError bad_input, not_found."""
        name = self.name_of(name)
        with self.alone(name):
            self.shelf.forget_version(name, number)

    def delete(self, name):
        """Delete an uploaded function with all that it had and did.

        Errors: FaasError not_found; conflict for what is in functions/.
        """
        name = check_name(self.name_of(name))
        there = os.path.exists(os.path.join(self.functions, name))
        if there and name not in self.uploaded():
            raise FaasError("conflict", f"functions/{name} is yours: remove "
                            "it there")
        with self.alone(name):
            self.put_to_rest(name)
            if not self.shelf.remove(name):
                raise FaasError("not_found", f"{name} is not among the "
                                "uploaded functions")
            for ident in [ident for ident, other in self.ids.items()
                          if other == name]:
                del self.ids[ident]
                self.store.remove(ident)
            self.logs.remove(name)
            self.journal.remove(name)

    # 8.10 The waist ----------------------------------------------------------
    #
    # The first call of a python3 function after a start of the platform, as
    # its trace tells it, and the second:
    #
    #       cold   find;dur=0.1   queue;dur=0.01   start;dur=6.1    run;dur=0.4
    #       warm   find;dur=0.1   queue;dur=0.01   start;dur=0.01   run;dur=0.2
    #
    # The line in the log and the row in the journal cost some 20 us, and are
    # in no span.

    # What was taken for a call is given back when it is over: the worker, the
    # place behind the gate, the count of running calls. A `with` block would
    # give back when the function returns, and for an answer that is still
    # coming that is too early: its worker would be lent to the next call while
    # this one still reads from it. So what is to be given back is a list of
    # functions, `after`. It is worked off, the last first, when the Result is
    # there; or it travels with the Stream, and is worked off at its end.
    # Whoever has a Stream has to close it: that is the one duty that leaves
    # this chapter (9.5 does it in a `finally`). contextlib.ExitStack is such a
    # list too; for two entries it takes 2.4 us, and a plain one 0.2.

    def invoke(self, call):
        """Answer one Call, whatever happens, and remember it.

        Errors: none; a failure is the Result's kind and sentence.
        """
        with self.turn:
            self.running += 1
        after = [self.left]
        try:
            return self.answer(call, time.time(), Trace(time.monotonic()),
                               after)
        finally:
            give_back(after)

    def left(self):
        with self.turn:
            self.running -= 1
            if self.closing:
                self.turn.notify_all()

    def answer(self, call, started, trace, after):
        """Attempt a call, and see that it is remembered when it is over."""
        ident = new_id(started)
        fn, run = self.attempt(call, ident, trace, after)
        if run.error and run.more:
            run.more.close()        # It failed, so nobody will read on.
            run = run._replace(more=None)
        result = result_of(run, fn, ident, trace.spans)

        def remember(run, result, size):
            self.remember(call, fn, run, result, started,
                          time.monotonic() - trace.since, size)
        if not run.more:
            remember(run, result, len(result.body))
            self.announce(fn.name, result)
            return result
        later = after[:]
        after.clear()               # The Stream has it now.

        def at_end(size, error):
            try:
                end = run._replace(error=error)
                remember(end, result_of(end, fn, ident, {}), size)
            finally:
                give_back(later)
        return result._replace(more=Stream(run.more, at_end))

    def announce(self, name, result):
        """Tell the watchers of a good answer, or that `name` is gone."""
        if not result or result.kind == "ok":
            for watch in self.watchers:
                watch(name, result)

    def attempt(self, call, ident, trace, after):
        """Find, queue, run; give the Function and its Run, if a failed one."""
        fn = Function(call.fn, "", "")
        try:
            try:
                live = self.find_open(call, deadline_of(
                    call, self.limits, trace.since))
            finally:
                trace.mark("find", time.monotonic())
            fn = live.fn
            deadline = deadline_of(call, fn.limits, trace.since)
            try:
                live.gate.enter(deadline)
            finally:
                trace.mark("queue", time.monotonic())
            after.append(live.gate.leave)
            fn, run = self.run(call, live, ident, deadline, trace, after)
            trace.mark("run", time.monotonic())
            return fn, checked_status(run)
        except FaasError as error:
            return fn, Run(error=error, start="")
        # RuntimeError: Python's word for a machine without a free thread.
        except (OSError, sqlite3.Error, RuntimeError) as error:
            return fn, Run(error=FaasError(
                "unavailable", f"this machine refuses: {error}"), start="")

    def find_open(self, call, deadline=NEVER):
        """Find a call's function, and refuse what need not be tried."""
        if self.closing:
            raise FaasError("unavailable", "the platform is stopping")
        live = self.find(call.fn, deadline)
        if live.fn.settings.disabled:
            raise FaasError("denied", "Function is disabled")
        if len(call.body) > live.fn.limits.body:
            raise FaasError("too_large", "the body is larger than the "
                            f"{live.fn.limits.body} bytes a call may carry")
        return live

    def run(self, call, live, ident, deadline, trace, after):
        """Run an admitted call; give the Function that ran, and its Run."""
        if call.more and TONGUES[live.fn.tongue].runs != "server":
            call = call._replace(body=call.body + b"".join(call.more), more=())
        if not live.pool:
            program = program_of(live.fn, call, ident)
            run = run_program(self.parent, program, call.body, deadline)
            return live.fn, run
        while True:
            try:
                worker, start = live.pool.lease(deadline)
            except Retired:             # A redeploy came between.
                live = self.find_open(call, deadline)
                if not live.pool:       # It speaks another tongue now.
                    return self.run(call, live, ident, deadline, trace, after)
                continue
            trace.mark("start", time.monotonic())
            meta = question_of(live.fn, call, ident, time.time(),
                               self.base_url)
            run = Run(start="")
            try:
                deadline.check()        # Nobody waits: ask no worker.
                run = worker.ask(meta, call.body, deadline)
            finally:
                if run.more:
                    after.append(functools.partial(live.pool.give_back,
                                                   worker))
                else:
                    live.pool.give_back(worker)
            if run.start:
                return live.fn, run._replace(start=start)
            # It died while nobody looked, and was not asked: another will be.

    def remember(self, call, fn, run, result, started, seconds, size):
        """Write down what happened: log, execution, counters."""
        if fn.id and fn.id not in self.ids:
            return              # It was deleted, with all that it ever did.
        story = story_of(fn, run.error) if run.error else ""
        text = log_text(call, fn, run, story)
        text = text and mask(text, fn.env)
        if fn.folder and (text or fn.tongue == "script"):
            try:
                self.logs.append(fn.name, started, text)
            except OSError as error:
                complain(f"no log for {fn.name}: {error}")
        execution = Execution(
            result.id, fn.name if fn.folder else mask(call.fn[:64]),
            fn.version, call.trigger, started, seconds, run.start, result.kind,
            len(call.body) + getattr(call.more, "size", 0), size,
            story and mask(story, fn.env),
            KINDS[result.kind].http if run.error else result.status)
        self.journal.record(execution, Detail(
            result.id, text, *details_of(call, fn, result)))
        # Strangers may ask for any name; only functions get a counter.
        self.counters.count(fn.name if fn.folder else "", result.kind,
                            run.start, seconds)

    def invoke_later(self, call):
        """Run a call with nobody waiting; its end is in the log.

        Errors: those of find, and busy past BACKGROUND such calls.
        """
        self.find_open(call)
        if not self.background.acquire(blocking=False):
            raise FaasError("busy", f"{self.BACKGROUND} calls run in the "
                            "background already")

        def task():
            try:
                whole(self.invoke(call._replace(trigger="async")))
            finally:
                self.background.release()
        try:
            threading.Thread(target=task, name="async").start()
        except RuntimeError:
            self.background.release()
            raise FaasError("busy", "this machine can start no more threads"
                            ) from None


# Try it ---------------------------------------------------------------------
#   >>> import tempfile
#   >>> home = tempfile.mkdtemp()
#   >>> platform = Platform(home)
#   >>> with open(home + "/functions/shout", "w") as file:
#   ...     _ = file.write("#!/bin/sh\ntr a-z A-Z\n")
#   >>> platform.invoke(Call("shout", b"hi")).sentence[:17]
#   'Permission denied'
#   >>> os.chmod(home + "/functions/shout", 0o755)
#   >>> platform.invoke(Call("shout", b"hi")).body
#   b'HI'
#   >>> [execution.status for execution in platform.journal.recent()]
#   ['ok', 'denied']
#   >>> platform.close()
#
# Roads not taken ------------------------------------------------------------
#   Middleware, a chain of wrappers around a handler: each link is short, and
#     the order in which they run, which is the whole meaning, is nowhere.
#   inotify to see edits: a thread and a kernel queue that can overflow, to
#     save the 20 us that a look at a small folder costs.
#   Retrying a failed call here: only the caller knows whether its call may
#     run twice.
#
# Real world -----------------------------------------------------------------
#   Lambda's invoke has the same spans; X-Ray draws them. Knative puts a queue
#   proxy with a concurrency limit before each container. Little's law binds
#   all of them: calls inside = calls per second x seconds per call.

# ============================================================================
# Chapter 9. The HTTP door: where does the web end?
# ============================================================================
#
# A door turns bytes into a Call, and a Result into bytes. HTTP/1.1 looks like
# text that anybody could read, and that is the trouble with it: two readers
# that are both helpful, and help differently, see two different requests in
# the same bytes. Where a proxy sees one request and the server behind it
# sees two, the second one belongs to the attacker ("request smuggling"):
#
#       POST / HTTP/1.1
#       Host: a
#       Content-Length: 6            the proxy believes this line
#       Transfer-Encoding: chunked   the server this one
#
#       0
#                                    six bytes for the proxy; for the server
#       G                            the body ended before the G, which begins
#                                    the next request
#
# So this reader helps nobody: what could be read in two ways is refused with
# 400, and the connection is closed, because nobody knows where the next
# request would begin (promise S8).
#
#       bytes --> RequestReader --> Request --> handle --> Response --> bytes
#                 9.1, 9.2                      9.3, 9.4                9.5
#                 no socket, no clock           no socket               SHELL
#
# Promised: nothing.

# 9.1 The head of a request --------------------------------------------------
#
#       POST /shout/loud?x=1 HTTP/1.1 CR LF        method, target, version
#       Host: 127.0.0.1:8080 CR LF                 field lines
#       Content-Length: 2 CR LF
#       CR LF                                      an empty line ends the head
#       hi                                         the body
#
# What is refused, and the sentence of RFC 9112 that allows it:
#
#       a bare CR or LF, a zero byte, other control bytes      2.2, 5
#       white space before the colon                           5.1
#       a field line that begins with a space (obs-fold)       5.2
#       two Content-Length, or one that is not digits          6.3
#       Content-Length beside Transfer-Encoding                6.1
#       no Host in HTTP/1.1, or two of them, or a strange one  3.2
#       a version other than 1.0 and 1.1                       2.3

MAX_HEAD = 32 << 10         # bytes; Apache allows 8 kB for a line
MAX_FIELDS = 100            # Apache's limit too

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"             # RFC 9110, 5.6.2
REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/1\.([01])" % TOKEN)
FIELD_LINE = re.compile(rb"(%b):[ \t]*([\t\x20-\x7e\x80-\xff]*)" % TOKEN)
HOST = re.compile(r"[A-Za-z0-9._~-]*(:[0-9]{0,5})?|\[[0-9A-Fa-f:.]+\](:\d*)?")
BARE = re.compile(rb"(?<!\r)\n|\r[^\n]")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(;[\t\x20-\x7e\x80-\xff]*)?")


class ProtocolError(Exception):
    """The bytes are not HTTP that can be served; close after answering."""

    def __init__(self, status, sentence, headers={}, body=b""):
        super().__init__(sentence)
        self.status, self.headers = status, headers
        self.body = body or f"{sentence}\n".encode("utf-8", "replace")


class Request(typing.NamedTuple):
    """One HTTP request; only 9, 10 and 15 know of it."""
    method: str
    path: str                   # as sent, still %-encoded: '/shout/a%20b'
    query: str = ""             # as sent
    fields: tuple = ()          # (('host', 'a'), ...), names in lower case
    body: bytes = b""
    minor: int = 1              # of the version, HTTP/1.minor
    peer: str = ""              # the address of who asks
    gone: typing.Callable = bool    # tells whether he has left
    more: typing.Iterable = ()  # pieces of a body that is still coming
    called_off: typing.Callable = bool  # tells whether he has said so

    def get(self, name, default=""):
        """Give a field's value; of several, joined (RFC 9110, 5.3)."""
        found = [value for key, value in self.fields if key == name]
        return ", ".join(found) if found else default

    @property
    def keep_alive(self):
        """Tell whether the client may ask more (RFC 9112, 9.3).

        Of HTTP/1.0 no: there both sides would have to say keep-alive.
        """
        options = self.get("connection").lower().replace(" ", "").split(",")
        return self.minor == 1 and "close" not in options


def field_decode(line):
    """Take a field line apart; the name in lower case (RFC 9110, 5.1).

    >>> field_decode(b"Content-Type:  text/plain ")
    ('content-type', 'text/plain')
    """
    found = FIELD_LINE.fullmatch(line)
    if not found:
        raise ProtocolError(400, f"the field line {line[:60]!r} is not of "
                            "the form name: value")
    # Latin-1, because RFC 9110 (5.5) lets any byte of 0x80 and above through.
    return found[1].decode().lower(), found[2].rstrip(b" \t").decode("latin-1")


def split_target(request):
    """Take a target apart: origin-form, absolute-form or `*`.

    >>> split_target(Request("GET", "http://a/f?x", "", (("host", "a"),))).path
    '/f'

    Source: RFC 9112, section 3.2.
    """
    target, host = request.path, request.get("host")
    absolute = re.fullmatch("http://([^/?]*)(.*)", target, re.IGNORECASE)
    if absolute:
        if absolute[1].lower() != host.lower():
            raise ProtocolError(400, "the target names another host than the "
                                "Host field")
        target = absolute[2] if absolute[2][:1] == "/" else "/" + absolute[2]
    star = target == "*" and request.method == "OPTIONS"
    if not target.startswith("/") and not star or "#" in target:
        raise ProtocolError(400, f"the target {target[:60]!r} is no path")
    path, _, query = target.partition("?")
    return request._replace(path=path, query=query)


def head_decode(head):
    """Turn the head of a request, without its empty line, into a Request.

    >>> request = head_decode(b"GET /f?x=1 HTTP/1.1\\r\\nHost: a")
    >>> request.method, request.path, request.query, request.get("host")
    ('GET', '/f', 'x=1', 'a')
    >>> head_decode(b"GET / HTTP/1.1\\r\\nHost : a")
    Traceback (most recent call last):
    ...
    faas.ProtocolError: the field line b'Host : a' is not of the form \
name: value

    Errors: ProtocolError. Source: RFC 9112, sections 3 and 5.
    """
    first, *lines = head.split(b"\r\n")
    line = REQUEST_LINE.fullmatch(first)
    if not line:
        raise ProtocolError(400, f"the request line {first[:60]!r} is not of "
                            "the form: method target HTTP/1.1")
    if len(lines) > MAX_FIELDS:
        raise ProtocolError(431, f"there are more than {MAX_FIELDS} fields")
    fields = tuple(map(field_decode, lines))
    method, target = line[1].decode(), line[2].decode()
    request = Request(method, target, "", fields, b"", int(line[3]))
    hosts = [value for name, value in fields if name == "host"]
    if len(hosts) > 1 or (request.minor == 1 and not hosts):
        raise ProtocolError(400, f"there are {len(hosts)} Host fields, where "
                            "HTTP/1.1 needs one")
    if hosts and not HOST.fullmatch(hosts[0]):
        raise ProtocolError(400, f"the Host {hosts[0][:60]!r} is no host")
    return split_target(request)


def body_plan(request):
    """Say how the body's end is found: None for chunks, or a length.

    >>> body_plan(Request("GET", "/"))
    0
    >>> body_plan(Request("POST", "/", fields=(("content-length", "+5"),)))
    Traceback (most recent call last):
    ...
    faas.ProtocolError: the Content-Length '+5' is no length that can be

    Source: RFC 9112, section 6.3.
    """
    lengths = [v for name, v in request.fields if name == "content-length"]
    codings = [v for name, v in request.fields if name == "transfer-encoding"]
    if codings and (lengths or request.minor == 0 or len(codings) > 1):
        raise ProtocolError(400, "Transfer-Encoding stands beside another "
                            "framing, or in HTTP/1.0")
    if codings and codings[0].lower() != "chunked":
        raise ProtocolError(501, "the only transfer coding served is chunked")
    if len(lengths) > 1:
        raise ProtocolError(400, "there are two Content-Length fields")
    if lengths and not re.fullmatch("[0-9]{1,15}", lengths[0], re.ASCII):
        raise ProtocolError(400, f"the Content-Length {lengths[0][:40]!r} is "
                            "no length that can be")
    return None if codings else int(lengths[0]) if lengths else 0


@functools.lru_cache(maxsize=64)
def head_plan(head):
    """Give the Request of a head and its body_plan.

    A client repeats its heads byte for byte, so the last ones are kept:
    reading one costs more than all else that this chapter does for a call.

    >>> head_plan(b"GET / HTTP/1.0")[1]
    0
    """
    request = head_decode(head)
    return request, body_plan(request)


# 9.2 The reader -------------------------------------------------------------
#
# The reader is told what came and what time it is. It is a generator inside:
# it runs until it needs more bytes, yields, and goes on where it stopped when
# they are there. What would be a table of states is then a text that one
# reads from top to bottom.
#
#       what the client does         what the reader is doing      at most
#       nothing                      waits for a request           75 s
#       has sent "POST /f HT"        waits for the head's end      10 s
#       has sent half a body         waits for the rest            10 s, and
#                                                  1 s more for each kB sent
#       the same, to a server (5.9)  hands on what comes           75 s of
#                                                                  silence
#
# Time belongs to it because slowness is an attack: a client that sends one
# byte a minute holds a thread for hours ("slowloris", 2009).

SILENCE = 75.0              # s between requests; nginx's keepalive_timeout
HEAD_TIME = 10.0            # s for a head, from its first byte
BODY_GRACE = 10.0           # s before a body is held to its rate
BODY_RATE = 1024            # bytes/s; a modem of 1991 was faster


# Mostly a Request is given when all of it is here, because a function wants
# all of it, and a Request is then a plain value. For functions that read as
# they go (5.9) it is given early, and its body follows in pieces. The same
# bytes in the same three packets:
#
#       received                       whole                  early
#       POST /f ... Length: 6, "ab"    []                     [Request, b'ab']
#       "cd"                           []                     [b'cd']
#       "ef"                           [Request of abcdef]    [b'ef', b'']


class RequestReader:
    """Bytes in, Requests out; no socket and no clock.

    `limit_of(request)` gives the most bytes that this request's body may
    have, and may refuse it by a ProtocolError. Where `early(request)` is true
    and the body is not here yet, the Request comes at once, with `more` set;
    then come the pieces of its body, as bytes, and b"" after the last.

    >>> reader = RequestReader(limit_of=lambda request: 10, now=0.0)
    >>> reader.receive(b"POST /f HTTP/1.1\\r\\nHost: a\\r\\nContent-Le", 0.0)
    []
    >>> [r.body for r in reader.receive(b"ngth: 2\\r\\n\\r\\nhi", 0.1)]
    [b'hi']

    Errors: ProtocolError; the reader is of no use after that.
    """

    #    since       when the silence, or the head that is being read, began
    #    body_from   when the body did; None outside of one
    #    now, taken  when bytes came last, and how many of this body
    #    handing_on  a body is handed on as it comes: only silence ends it

    def __init__(self, limit_of, now, early=lambda request: False, peer="",
                 gone=bool):
        self.limit_of, self.held, self.ready = limit_of, bytearray(), []
        self.early, self.handing_on = early, False
        self.peer, self.gone = peer, gone
        self.since, self.now, self.body_from = now, now, None
        self.taken, self.expecting, self.failure = 0, False, None
        self.steps = self.read()
        next(self.steps)

    def receive(self, data, now):
        """Take bytes; give the Requests that are now complete."""
        if not self.held and self.body_from is None:
            self.since = now
        self.held += data
        self.now, self.taken = now, self.taken + len(data)
        self.check(now)
        try:
            next(self.steps)
        except ProtocolError as error:
            # Requests before the bad one were good, and are answered first.
            self.failure = error
            if not self.ready:
                raise
        done, self.ready = self.ready, []
        return done

    def patience(self, now):
        """Give the seconds until check() would have something to say."""
        return max(0.01, self.deadline() - now)

    def deadline(self):
        if self.handing_on:         # A server may like a line a minute.
            return self.now + SILENCE
        if self.body_from is not None:
            return self.body_from + BODY_GRACE + self.taken / BODY_RATE
        return self.since + (HEAD_TIME if self.held else SILENCE)

    def check(self, now):
        """Refuse a client that is too slow, or spoke nonsense before."""
        if self.failure:
            raise self.failure
        if now < self.deadline():
            return
        if self.handing_on:
            raise ProtocolError(408, "the body stood still for "
                                f"{SILENCE:.0f} s")
        if self.body_from is not None:
            raise ProtocolError(408, "the body came slower than "
                                f"{BODY_RATE} bytes a second")
        if self.held:
            raise ProtocolError(408, "the head took longer than "
                                f"{HEAD_TIME:.0f} s")

    def idle(self):
        """Tell whether no request has begun."""
        return not self.held and self.body_from is None

    def read(self):
        """Read request after request; yields where bytes are missing."""
        while True:
            # RFC 9112, 2.2: an empty line before a request is forgiven.
            while b"\r\n".startswith(self.held[:2]):
                if len(self.held) < 2:
                    yield
                else:
                    del self.held[:2]
            head = yield from self.until(b"\r\n\r\n", MAX_HEAD, 431, "head")
            request, length = head_plan(head)
            most = self.limit_of(request)
            if length is not None and length > most:
                raise ProtocolError(413, "the body is larger than the "
                                    f"{most} bytes that are taken here")
            self.expect(request)
            self.body_from, self.taken = self.now, len(self.held)
            if length is None or len(self.held) < length:
                yield from self.long_body(request, length, most)
            else:
                body = yield from self.exactly(length)
                self.ready.append(request._replace(
                    body=body, peer=self.peer, gone=self.gone))
            self.body_from, self.since = None, self.now
            self.expecting = False

    def long_body(self, request, length, most):
        """Read a body whose end is not here yet."""
        request = request._replace(peer=self.peer, gone=self.gone)
        early, body = self.early(request), bytearray()
        self.handing_on = early
        if early:
            self.ready.append(request._replace(more=True))

        def hand_on(piece):
            self.ready.append(piece)    # which is another list each time
        take = hand_on if early else body.extend
        yield from (self.chunks(most, take) if length is None else
                    self.portions(length, take))
        self.ready.append(b"" if early else request._replace(body=bytes(body)))
        self.handing_on = False

    def expect(self, request):
        """Note that the client waits for our 100 (RFC 9110, 10.1.1)."""
        wish = request.get("expect").lower()
        if wish not in ("", "100-continue"):
            raise ProtocolError(417, "the only expectation met is "
                                "100-continue")
        self.expecting = bool(wish) and request.minor == 1

    def until(self, mark, most, status, what):
        """Take the bytes before `mark`, and the mark too."""
        seen = 0        # What was searched once is not searched again.
        while (at := self.held.find(mark, max(0, seen - 3))) < 0 and (
                len(self.held) <= most):
            if BARE.search(self.held, max(0, seen - 1)):
                raise ProtocolError(400, "a line ends in a bare CR or LF")
            seen = len(self.held)
            yield
        if not 0 <= at <= most:
            raise ProtocolError(status, f"the {what} is larger than {most} "
                                "bytes")
        piece = bytes(self.held[:at])
        del self.held[:at + len(mark)]
        return piece

    def exactly(self, size):
        while len(self.held) < size:
            yield
        piece = bytes(self.held[:size])
        del self.held[:size]
        return piece

    def portions(self, size, take):
        """Hand on the next `size` bytes, in whatever pieces they come."""
        while size:
            piece = bytes(self.held[:size])
            del self.held[:size]
            size -= len(piece)
            if piece:
                take(piece)
            if size:
                yield

    def chunks(self, most, take):
        """Hand on a chunked body (RFC 9112, 7.1), and check its trailers."""
        total = 0
        while True:
            line = yield from self.until(b"\r\n", 256, 400, "chunk's line")
            found = CHUNK_LINE.fullmatch(line)
            if not found:
                raise ProtocolError(400, f"the chunk size {line[:40]!r} is "
                                    "no hexadecimal number")
            size = int(found[1], 16)
            total += size
            if total > most:
                raise ProtocolError(413, "the chunks add up to more than the "
                                    f"{most} bytes that are taken here")
            if size == 0:
                break
            yield from self.portions(size, take)
            if (yield from self.exactly(2)) != b"\r\n":
                raise ProtocolError(400, "a chunk is longer than it says")
        room = MAX_HEAD             # Trailers are checked, and not kept.
        while line := (yield from self.until(b"\r\n", room, 431, "trailer")):
            field_decode(line)
            room -= len(line) + 2


# 9.3 Responses --------------------------------------------------------------


# How does a client know where an answer ends? There are four ways (RFC 9112,
# 6.3), and which one is taken follows from what is known when the head is
# written:
#
#       the body is here                  Content-Length: its size
#       it is still coming, its size is   Content-Length: what the server said
#       known
#       it is still coming                Transfer-Encoding: chunked
#       the same, to HTTP/1.0             the end of the connection
#       204, 304, or the method is HEAD   no body, whatever the head says


class Response(typing.NamedTuple):
    """One HTTP response."""
    status: int = 200
    body: bytes = b""
    headers: dict = {}          # a value may be a tuple: one line for each
    more: typing.Any = None     # a Stream (8.3) of what follows the body


REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content",
    206: "Partial Content", 301: "Moved Permanently", 302: "Found",
    303: "See Other", 304: "Not Modified", 307: "Temporary Redirect",
    308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    406: "Not Acceptable", 408: "Request Timeout", 409: "Conflict",
    410: "Gone", 412: "Precondition Failed", 413: "Content Too Large",
    415: "Unsupported Media Type", 416: "Range Not Satisfiable",
    417: "Expectation Failed", 418: "I'm a Teapot",
    422: "Unprocessable Content", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout"}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@functools.lru_cache(maxsize=2)
def http_date(second):
    """Spell a second since 1970 as HTTP does (RFC 9110, 5.6.7).

    >>> http_date(784111777)
    'Sun, 06 Nov 1994 08:49:37 GMT'
    """
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))


def response_encode(response, keep_alive=True, head_only=False, date="",
                    minor=1):
    """Turn a Response into bytes, in one piece: one write, one packet.

    >>> response_encode(Response(200, b"hi"))
    b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi'

    Errors: ValueError, where a header would begin a new line.
    """
    lines = [f"HTTP/1.1 {response.status} "
             f"{REASONS.get(response.status, 'Unknown')}"]
    for name, value in response.headers.items():
        if isinstance(value, str):
            lines.append(f"{name}: {value}")
        else:
            lines += [f"{name}: {one}" for one in value]
    empty = response.status in (204, 304)           # RFC 9110, 15.4.5
    if response.more and "Content-Length" not in response.headers:
        if minor:                   # HTTP/1.0 knows no chunks: 9112, 6.1
            lines.append("Transfer-Encoding: chunked")
    elif not empty and "Content-Length" not in response.headers and (
            response.body or not head_only):        # RFC 9110, 8.6
        lines.append(f"Content-Length: {len(response.body)}")
    if date:
        lines.append(f"Date: {date}")
    if not keep_alive:
        lines.append("Connection: close")
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a response header has a line break in it")
    head = latin_1("\r\n".join(lines)) + b"\r\n\r\n"
    return head if head_only or empty else head + response.body


def latin_1(text):
    """Give the bytes of a head; what is no Latin-1 goes as UTF-8.

    >>> latin_1("Lab: \xe4"), latin_1("Lab: \u20ac")
    (b'Lab: \xe4', b'Lab: \xe2\x82\xac')
    """
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


def text_response(text, status=200, headers={}):
    """Make a Response of a text for people.

    >>> text_response("OK").headers
    {'Content-Type': 'text/plain; charset=utf-8'}
    """
    return Response(status, text.encode("utf-8", "replace"), {
        "Content-Type": "text/plain; charset=utf-8", **headers})


def json_response(value, status=200):
    """Make a Response of a value for programs; curl likes the line's end.

    >>> json_response([1]).body
    b'[1]\\n'
    """
    return Response(status, json.dumps(value).encode() + b"\n",
                    {"Content-Type": "application/json"})


def error_response(error, headers={}):
    """Turn a FaasError into a Response, by the one table of kinds.

    >>> error_response(FaasError("busy", "come later")).headers["Retry-After"]
    '1'
    """
    more = {"busy": {"Retry-After": "1"},
            "unauthenticated": {"WWW-Authenticate": "Bearer"}}
    body = f"{error}\n".encode("utf-8", "replace") + error.detail
    return Response(KINDS[error.kind].http, body, {
        "Content-Type": "text/plain; charset=utf-8", **headers,
        **more.get(error.kind, {})})


def server_timing(result):
    """Spell a Result's spans for the browser's network panel.

    >>> server_timing(Result(start="cold", spans=(("run", 0.0021),)))
    'cold, run;dur=2.100'

    Source: W3C Server Timing, section 2; dur is in milliseconds.
    """
    spans = [f"{name};dur={1000 * span:.3f}" for name, span in result.spans]
    return ", ".join(([result.start] if result.start else []) + spans)


# What tells where an answer comes from is not for the function to say.
TRAIL = frozenset(["x-execution-id", "server-timing", "x-function-version"])


def result_response(result):
    """Turn a Result into a Response.

    >>> result = Result(body=b"HI", id="01a1", start="warm", version=3)
    >>> result_response(result).headers
    {'X-Execution-Id': '01a1', 'Server-Timing': 'warm', \
'X-Function-Version': '3'}
    """
    trail = {"X-Execution-Id": result.id}
    if result.spans or result.start:
        trail["Server-Timing"] = server_timing(result)
    if result.version:
        trail["X-Function-Version"] = str(result.version)
    if result.kind != "ok":
        return error_response(
            FaasError(result.kind, result.sentence, result.body), trail)
    headers = {name: value for name, value in result.headers.items()
               if name.lower() not in TRAIL}
    return Response(result.status, result.body, {**headers, **trail},
                    result.more)


# 9.4 Routes, guards, and handle ---------------------------------------------
#
# A path is matched as it was sent, and each part is decoded once after that:
# who decodes first and splits then, finds slashes that were never there.
#
#       sent              matched              decoded once
#       /logs/a%2Fb       /logs/{name}         'a/b', and no name (2.2)
#       /logs/a%252Fb     /logs/{name}         'a%2Fb', and no name either
#       /shout/x/y?q=1    /{name}/{rest}       'shout' and 'x/y'


class Route(typing.NamedTuple):
    """One line of the API: the code obeys it, and the docs are checked."""
    method: str                 # or '*', every method
    path: str                   # '/logs/{name}'; a last {rest} takes slashes
    face: str                   # whose API this is
    guard: str                  # 'open', 'manage' or 'key': see check_guard
    what: str
    handler: typing.Callable    # (door, request, **parts) -> Response
    takes: typing.Any = None    # of the body: its JSON Schema, or its type
    gives: typing.Any = None    # of a good answer: {status: the same}


class Door(typing.NamedTuple):
    """What a listener serves, and to whom."""
    platform: Platform
    routes: tuple
    local: bool = True          # it listens on loopback only
    key: str = ""               # what opens 'manage' elsewhere
    schedules: object = None    # chapter 11's
    data_url: str = ""          # where functions can be called, for people
    refusals: dict = {}         # of a face: FaasError -> its own Response


def path_pattern(path):
    """Make a pattern of a route's path.

    >>> path_pattern("/logs/{name}").fullmatch("/logs/a%20b")["name"]
    'a%20b'
    """
    pattern = re.escape(path).replace(r"\{rest\}", "(?P<rest>.*)")
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", pattern))


SORTED = {}                 # id of a table: (the table, and it by words)


def routes_by_word(routes):
    """Sort routes by the first word of their paths, once for each table.

    Under each word lie (pattern, routes of that path) in order, those that
    begin with a {name} last; under "" lie only these.

    >>> logs = Route("GET", "/logs", "", "open", "", None)
    >>> {word: len(found) for word, found in routes_by_word((logs,)).items()}
    {'logs': 1, '': 0}
    """
    if id(routes) not in SORTED:
        paths = {route.path: path_pattern(route.path) for route in routes}
        words = [path.split("/")[1] for path in paths if path[1:2] != "{"]
        # The table is kept beside, so that its id is not given out again.
        SORTED[id(routes)] = routes, {
            word: [(pattern, [route for route in routes
                              if route.path == path])
                   for path, pattern in paths.items()
                   if path[1:2] == "{" or path.split("/")[1] == word]
            for word in [*words, ""]}
    return SORTED[id(routes)][1]


def decode_part(part):
    """Decode a part of a path, once.

    >>> decode_part("a%20b"), decode_part("%252e")
    ('a b', '%2e')

    Errors: FaasError bad_input, where the result is no text.
    """
    if "%" not in part:
        return part
    import urllib.parse
    if re.search("%(?![0-9A-Fa-f]{2})", part):
        raise FaasError("bad_input", f"{part[:60]!r} has a % that encodes "
                        "nothing")
    try:
        text = urllib.parse.unquote(part, errors="strict")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise FaasError("bad_input", f"{part[:60]!r} is no text in UTF-8")
    return text


def find_route(routes, request):
    """Give the Route of a request, the methods of its path, and its parts.

    The first path that matches decides: /logs/{name} is never taken for a
    function called logs. The Route is None where only the method is wrong.

    >>> logs = Route("GET", "/logs/{name}", "", "open", "", None)
    >>> route, there, parts = find_route((logs,), Request("PUT", "/logs/a"))
    >>> route, there == [logs], parts
    (None, True, {'name': 'a'})

    Errors: FaasError not_found.
    """
    wanted = ("*", "GET" if request.method == "HEAD" else request.method)
    by_word = routes_by_word(routes)
    word = request.path.partition("/")[2].partition("/")[0]
    for pattern, there in by_word.get(word, by_word[""]):
        if found := pattern.fullmatch(request.path):
            parts = {name: decode_part(part) for name, part in
                     found.groupdict().items()}
            right = [route for route in there if route.method in wanted]
            return right[0] if right else None, there, parts
    raise FaasError("not_found", "nothing is served at this path")


# Who may manage? On loopback, whoever has an account on this machine, and
# asks for it knowingly. A web page does not: a browser sends its POST to
# 127.0.0.1 as willingly as to anywhere, and a page whose name was made to
# resolve to 127.0.0.1 may even read the answers ("DNS rebinding"). The first
# shows by its Origin, the second by its Host (promise S2). On any other
# address nothing shows, so there it takes the key (S1).
#
# Who may call? Anybody who reaches the port: a function is there to be called,
# also by a page, and one that minds has the headers to look at.
#
#       guard      on loopback                    elsewhere
#       open       anybody                        anybody
#       manage     who has an account here, and   who has the key
#                  no page from elsewhere
#       key        who has the key, or logged in  the same
#                  with it and no such page
#
# One page passes this guard that perhaps should not: a function may answer
# with HTML, and that page has the platform's own Origin. Opened by somebody
# who may manage (on loopback anybody here, elsewhere who is logged in), its
# script may manage, too. So the functions of a platform are trusted with it.
# The key itself they never see; call_of takes it out of what they are given.

LOCAL_HOST = re.compile(r"(localhost|[a-z0-9.-]+\.localhost|127(\.\d+){3}|"
                        r"\[::1\])(:\d+)?", re.IGNORECASE)


def check_guard(door, request, guard="manage"):
    """Let pass whoever may manage the platform.

    What FaaS-Go guards, the guard 'key', takes the key on any address; its
    dashboard brings it as a cookie. A cookie comes along with whatever a page
    asks for, so it proves the person, and not the page.

    >>> door = Door(None, ())
    >>> check_guard(door, Request("GET", "/", "", (("host", "evil.example"),)))
    Traceback (most recent call last):
    ...
    faas.FaasError: the Host 'evil.example' is not this machine

    Errors: FaasError unauthenticated or denied.
    """
    scheme, _, key = request.get("authorization").partition(" ")
    cookie = cookie_of(request) if guard == "key" else ""
    bearer = scheme == "Bearer" and bool(door.key)
    if bearer and is_key(door, key.strip()):
        return
    if guard == "key" and (bearer or not (door.key and
                                          is_key(door, cookie))):
        raise FaasError("unauthenticated", "Authentication required")
    if bearer:
        raise FaasError("unauthenticated", "this is not the API key: it is "
                        "in the file api_key of the data folder")
    if not door.local and not cookie:
        raise FaasError("unauthenticated", "this needs the API key, as "
                        "Authorization: Bearer KEY")
    check_page(door, request)


def is_key(door, text):
    import hmac
    return hmac.compare_digest(text.encode("utf-8", "replace"),
                               door.key.encode())


LOGIN_COOKIE = re.compile(r"(?:^|(?<=;))\s*auth_token=([^;]*)(?:;|$)")


def cookie_of(request):
    """Give the key that a cookie brings (RFC 6265, 4.2), or ''.

    >>> cookie_of(Request("GET", "/", "", (("cookie", "a=1; auth_token=k"),)))
    'k'
    """
    found = LOGIN_COOKIE.search(request.get("cookie"))
    return found[1] if found else ""


def check_page(door, request):
    """Refuse what a browser sends in the name of a page from elsewhere."""
    host, origin = request.get("host"), request.get("origin")
    if door.local and not LOCAL_HOST.fullmatch(host):
        raise FaasError("denied", f"the Host {host[:60]!r} is not this "
                        "machine")
    # Elsewhere, a proxy may have taken the TLS off.
    schemes = ("http://",) if door.local else ("http://", "https://")
    if origin and origin.lower() not in [
            (scheme + host).lower() for scheme in schemes] or (
            request.get("sec-fetch-site") in ("cross-site", "same-site")):
        raise FaasError("denied", "a web page from elsewhere may not manage "
                        "this platform")


def wrong_method(request, there):
    """Say which methods a path has; tinyFaaS's clients expect a 400."""
    allow = ", ".join(sorted({route.method for route in there} | {"OPTIONS"}))
    if request.method == "OPTIONS":
        return Response(204, headers={"Allow": allow})
    status = 400 if there[0].face == "tinyFaaS" else 405
    return text_response(f"this path takes {allow}\n", status,
                         {"Allow": allow})


def handle(door, request):
    """Answer one Request, without a socket and without a clock.

    Here, and only here, a FaasError becomes a Response.

    >>> health = Route("GET", "/health", "", "open", "",
    ...                lambda door, request: text_response("OK"))
    >>> handle(Door(None, (health,)), Request("GET", "/health")).body
    b'OK'
    >>> handle(Door(None, (health,)), Request("PUT", "/health")).status
    405
    """
    refuse = error_response
    try:
        if request.path == "*":         # about the server as a whole
            return Response(204, headers={"Allow": "GET, POST, OPTIONS"})
        route, there, parts = find_route(door.routes, request)
        refuse = door.refusals.get(there[0].face, error_response)
        if route is None:
            return wrong_method(request, there)
        if route.guard != "open":
            check_guard(door, request, route.guard)
        if "name" in parts:             # or an id
            parts["name"] = door.platform.name_of(parts["name"])
        return route.handler(door, request, **parts)
    except FaasError as error:
        return refuse(error)


# From a Request to a Call. Header names get Go's capitals, which is how
# tinyFaaS's functions know them. What describes the connection and not the
# call stays here, and so do fields that only the platform may set.

NOT_FORWARDED = frozenset(
    "connection keep-alive te trailer transfer-encoding upgrade expect "
    "proxy-connection proxy-authorization".split())


def call_of(request, name, rest="", key="", depth=2):
    """Make the Call of a request; the platform's own `key` is not passed on.

    `depth` is how many slashes of the path come before its `rest`.

    >>> request = Request("GET", "/f/a", "b=1", (("lab", "x"),))
    >>> call = call_of(request, "f", "a")
    >>> call.path, call.query, call.headers
    ('/a', 'b=1', {'Lab': 'x'})
    """
    headers = {}
    named = request.get("connection").lower().replace(" ", "").split(",")
    for field, value in request.fields:
        if field in NOT_FORWARDED or field.startswith("x-faas-") or (
                field in named) or (
                key and field == "authorization" and key in value):
            continue
        if field == "cookie":           # in which the key may be, too
            value = LOGIN_COOKIE.sub("", value).strip("; ")
            if not value:
                continue
        field = go_capitals(field)
        headers[field] = (f"{headers[field]}, {value}" if field in headers
                          else value)
    raw = "/" + request.path.split("/", depth)[depth] if rest else "/"
    return Call(name, request.body, headers, request.method, "/" + rest, raw,
                request.query,
                timeout=parse_timeout(request.get("x-timeout")),
                more=request.more, gone=request.gone,
                called_off=request.called_off)


def parse_timeout(text):
    """Read the seconds of an X-Timeout: '2s', '500ms', '1m' or '2'.

    >>> parse_timeout("500ms"), parse_timeout("")
    (0.5, 0.0)
    """
    if not text:
        return 0.0
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)(ms|s|m|)", text, re.ASCII)
    seconds = found and float(found[1]) * {"ms": 0.001, "m": 60}.get(
        found[2], 1)
    if not seconds:
        raise FaasError("bad_input", f"the X-Timeout {text[:40]!r} is no "
                        "time: write 2s, 500ms or 1m")
    return seconds


def serve_call(door, request, name, rest=""):
    """Call a function: what most requests want."""
    call = call_of(request, name, rest, door.key)
    if request.get("x-tinyfaas-async"):
        door.platform.invoke_later(call._replace(
            body=call.body + b"".join(call.more), more=()))
        return Response(202)
    return result_response(door.platform.invoke(call))


def reads_early(door):
    """Make the rule that says whose bodies are handed on while they come.

    >>> reads_early(Door(None, CALL_ROUTES))(Request("GET", "/"))
    False
    """
    def early(request):
        try:
            route, _, parts = find_route(door.routes, request)
        except FaasError:
            return False
        if not route or route.guard != "open" or "name" not in parts:
            return False
        live = door.platform.live.get(door.platform.name_of(parts["name"]))
        return bool(live) and TONGUES[live.fn.tongue].runs == "server"
    return early


def serve_health(door, request):
    """Say OK, as long as there is a thread to say so."""
    return text_response("OK\n")


def serve_metrics(door, request):
    """Tell Prometheus how many calls ended how (its text format 0.0.4)."""
    lines, calls = [], sorted(list(door.platform.counters.calls.items()))
    for metric, which, form in (("faas_calls_total", 0, "d"),
                                ("faas_call_seconds_total", 1, ".6f")):
        lines.append(f"# TYPE {metric} counter")
        for labels, numbers in calls:
            marks = ",".join(f'{name}="{value}"' for name, value in
                             zip(("function", "status", "start"), labels))
            lines.append(f"{metric}{{{marks}}} {numbers[which]:{form}}")
    lines.append("# TYPE faas_workers gauge")
    for name, live in sorted(list(door.platform.live.items())):
        if live.pool:
            lines.append(f'faas_workers{{function="{name}"}} '
                         f"{live.pool.size}")
    return text_response("\n".join(lines) + "\n", headers={
        "Content-Type": "text/plain; version=0.0.4"})


# The data plane: calls and nothing else, so it may be shown to strangers. The
# routes of the door that serves everything are in chapter 10.

CALL_ROUTES = (
    Route("*", "/{name}", "tinyFaaS, PiFaaS", "open",
          "call a function", serve_call),
    Route("*", "/{name}/{rest}", "ours", "open",
          "call a function; it sees the rest of the path", serve_call),
)


# 9.5 SHELL: sockets and threads ---------------------------------------------
#
# One thread per connection: a client that reads slowly, or not at all, holds
# a thread and nobody else. What a thread costs is mostly its stack, 8 MB of
# addresses by default, of which a Pi Zero has room for some three hundred; 512
# kB are enough for this file, and a thousand idle connections then cost what
# a thousand sleeping threads cost.
#
#       accept -> hear -> Requests -> handle -> sendall -> hear -> ...
#                  |                              |
#                  75 s of silence: close         "Connection: close", or the
#                  bad bytes: answer, linger      platform stops: linger, close
#
# Python's lock lets one of our threads run at a time, so a second processor
# makes us no faster. It makes us slower: each call wakes several threads, and
# waking one on another processor costs an interrupt. So our threads stay on
# one. Measured (docs/performance.md): a third more calls a second with 8
# connections, half as many more with 64. The functions have all processors.
#
# socketserver.ThreadingTCPServer would serve as well, but its loop wakes
# twice a second to see whether it should stop. Shutting down the listening
# socket wakes accept() at once.

MAX_CONNECTIONS = 2000      # threads; who comes then is sent away
SEND_TIME = 60.0            # s in which a client must take 64 kB: BODY_RATE
LINGER = 10.0               # s for a refused client to stop sending
STACK = 512 << 10           # bytes of a connection's thread

MISTAKE = "the platform made a mistake; its error output has the traceback"


def share_processor():
    """Keep this thread, and those that it will start, on one processor.

    Which one, the pid decides, so that two platforms may differ.
    """
    ours = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {ours[os.getpid() % len(ours)]})


FULL = response_encode(text_response("too many connections\n", 503,
                                     {"Retry-After": "1"}), keep_alive=False)


def set_time(client, which, seconds):
    """Let the kernel end a read or write that takes longer (socket(7)).

    Python's own settimeout() would ask the kernel twice each time.
    """
    client.setsockopt(socket.SOL_SOCKET, which, struct.pack(
        "@ll", int(seconds), int(seconds % 1 * 1e6)))


def send(client, data):
    """Write an answer, piece by piece, so that each has its own time."""
    for at in range(0, len(data), 65536):
        client.sendall(data[at:at + 65536])


def send_rest(client, response, minor):
    """Write an answer as it comes; True if it came to its end.

    Where it breaks off, its head is long gone: all that can be done is to
    close the connection before the end that was announced.
    """
    spell = bytes
    if "Content-Length" not in response.headers and minor:
        spell = chunk_encode
    try:
        for piece in response.more:
            client.sendall(spell(piece))
        client.sendall(spell(b""))
        return True
    except FaasError:
        return False


def has_left(client):
    """Tell whether a client has closed its end, without reading from it.

    TCP does not tell whether he still listens, so who has said his last word
    counts as gone, as he does for nginx.

    >>> ours, theirs = socket.socketpair()
    >>> has_left(ours), theirs.close(), has_left(ours)
    (False, None, True)
    >>> ours.close()
    """
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


class Incoming:
    """The pieces of a body, for as long as they come.

    Whoever reads them may do so in another thread; there is one reader.
    Errors: FaasError, where the client is gone, or the rest is no body.
    """

    def __init__(self, server, client, reader, inbox):
        self.server, self.client, self.reader = server, client, reader
        self.inbox, self.size, self.ended = inbox, 0, False
        self.reading = threading.Lock()

    def __iter__(self):
        with self.reading:
            # Until now it was we who let the client wait.
            self.reader.now = time.monotonic()
            while not self.ended:
                while not self.inbox:
                    self.hear()
                piece = self.inbox.popleft()
                self.ended = not piece or list(self.inbox)[:1] == [b""]
                if piece and self.ended:
                    self.inbox.popleft()
                self.size += len(piece)
                if piece:
                    yield piece

    def hear(self):
        try:
            self.server.receive(self.client, self.reader, self.inbox)
        except ProtocolError as error:
            kind = {413: "too_large", 408: "timeout"}.get(error.status)
            raise FaasError(kind or "bad_input", str(error)) from None
        except OSError:
            raise FaasError("bad_input", "the client went away in the middle "
                            "of its body") from None

    def let_go(self):
        """Wait until nobody reads any more, so that the socket may close."""
        if not self.reading.acquire(timeout=LINGER):
            with contextlib.suppress(OSError):
                self.client.shutdown(socket.SHUT_RDWR)
            self.reading.acquire()


def linger(client, patience=LINGER):
    """Close so that the answer arrives, though the client is still sending.

    A socket closed with unread bytes sends a reset, which may overtake the
    answer (RFC 9112, 9.6).
    """
    end = time.monotonic() + patience
    client.shutdown(socket.SHUT_WR)
    while (left := end - time.monotonic()) > 0:
        client.settimeout(left)
        if not client.recv(65536):
            return


class HttpServer:
    """A listener that serves a Door, one thread per connection.

    The address is taken at once, so that a taken one is known before
    anything else was started.

    Errors: FaasError unavailable, if the address cannot be had.
    """

    def __init__(self, host, port):
        family_of = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self.listener = socket.create_server(
                (host, port), family=family_of, backlog=1024,
                dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6())
        except OSError as error:
            raise FaasError("unavailable", f"port {port} on {host} cannot be "
                            f"listened to: {error.strerror}") from None
        self.host, self.port = host, self.listener.getsockname()[1]
        self.connections, self.turn = {}, threading.Lock()
        self.stopping = False
        self.thread = threading.Thread(target=self.accept, name="accept",
                                       daemon=True)

    @property
    def url(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def start(self, door, limit_of):
        """Begin to serve; `limit_of` is the RequestReader's."""
        self.door, self.limit_of = door, limit_of
        self.early = reads_early(door)
        self.thread.start()

    def accept(self):
        while not self.stopping:
            try:
                client = self.listener.accept()[0]
            except OSError:
                if not self.stopping:
                    time.sleep(0.05)    # out of descriptors: some will close
                continue
            thread = threading.Thread(target=self.serve, args=(client,),
                                      daemon=True)
            try:
                if len(self.connections) >= MAX_CONNECTIONS:
                    raise RuntimeError
                self.connections[client] = True
                thread.start()
            except RuntimeError:        # also: no more threads
                self.connections.pop(client, None)
                with client, contextlib.suppress(OSError):
                    client.send(FULL, socket.MSG_DONTWAIT)

    def stop(self):
        """Take no new connection, and let go of those that ask nothing."""
        with self.turn:
            self.stopping = True
            silent = [client for client, idle in
                      list(self.connections.items()) if idle]
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for client in silent:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RD)
        if self.thread.ident:
            self.thread.join()

    def drain(self, deadline):
        """Wait until every answer under way has been taken, or `deadline`."""
        while self.connections and time.monotonic() < deadline:
            time.sleep(0.01)

    def serve(self, client):
        """The life of one connection."""
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            set_time(client, socket.SO_SNDTIMEO, SEND_TIME)
            set_time(client, socket.SO_RCVTIMEO, SILENCE)
            self.attend(client)
        except ProtocolError as error:
            response = Response(error.status, error.body, {
                "Content-Type": "text/plain; charset=utf-8", **error.headers})
            with contextlib.suppress(OSError):
                send(client, response_encode(
                    response, keep_alive=False,
                    date=http_date(int(time.time()))))
                linger(client)
        except OSError:
            pass                # The client is gone, or takes no answer.
        finally:
            with self.turn:
                self.connections.pop(client, None)
            client.close()

    def attend(self, client):
        """Answer a connection's requests, in the order in which they came.

        A client may send the second request before the first is answered
        (pipelining, RFC 9112, 9.3.2): the reader gives both, and the answers
        go out one after the other.
        """
        reader = RequestReader(self.limit_of, time.monotonic(), self.early,
                               client.getpeername()[0],
                               functools.partial(has_left, client))
        inbox = collections.deque()
        while True:
            while inbox:
                request = inbox.popleft()
                if request.more:
                    request = request._replace(more=Incoming(
                        self, client, reader, inbox))
                if not self.reply(client, request):
                    return linger(client)
            if not self.receive(client, reader, inbox):
                return

    def receive(self, client, reader, inbox):
        """Hear once, and put what came into the inbox; False at the end."""
        reader.check(time.monotonic())
        if reader.expecting:
            reader.expecting = False
            client.sendall(CONTINUE)
        data = self.hear(client, reader)
        if not data and not reader.idle():
            raise ConnectionResetError("it closed in the middle of a request")
        if data:
            inbox.extend(reader.receive(data, time.monotonic()))
        return bool(data)

    def reply(self, client, request):
        """Answer one request; True if the client may send another."""
        response = self.respond(request)
        keep = request.keep_alive and not self.stopping and (
            not request.more or request.more.ended)
        if request.more:            # Answered, it need not be told to go on.
            request.more.reader.expecting = False
        try:
            send(client, response_encode(
                response, keep, request.method == "HEAD",
                http_date(int(time.time())), request.minor))
            if response.more and not send_rest(client, response,
                                               request.minor):
                if not request.minor:   # Its end would look like the answer's.
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                      struct.pack("ii", 1, 0))
                raise ConnectionAbortedError("the answer broke off")
        finally:
            if response.more:       # Somebody may have left before its end.
                response.more.close()
            if request.more and not request.more.ended:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_WR)
                request.more.let_go()
        return keep

    def hear(self, client, reader):
        """Wait for bytes; b"" where there will be none."""
        idle = reader.idle()
        with self.turn:
            self.connections[client] = idle
            if idle and self.stopping:
                return b""
        if not idle:
            now = time.monotonic()
            set_time(client, socket.SO_RCVTIMEO, reader.patience(now))
        try:
            data = client.recv(65536)
        except BlockingIOError:         # the kernel's word for a timeout
            reader.check(time.monotonic())
            return b""
        finally:
            with self.turn:     # A body's reader may outlive its connection.
                if client in self.connections:
                    self.connections[client] = False
            if not idle:
                set_time(client, socket.SO_RCVTIMEO, SILENCE)
        return data

    def respond(self, request):
        """Answer one request; what no chapter foresaw ends here."""
        try:
            return handle(self.door, request)
        except Exception:       # A fault of ours must not look like silence.
            import traceback
            complain(traceback.format_exc())
            return text_response(MISTAKE + "\n", 500)


# Try it ---------------------------------------------------------------------
#   >>> reader = RequestReader(lambda request: 100, now=0)
#   >>> hello = b"POST /f HTTP/1.1\r\nHost: a\r\n" \
#   ...         b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
#   >>> [len(reader.receive(hello[i:i+1], 0)) for i in range(len(hello))][-3:]
#   [0, 0, 1]
#   >>> body_plan(Request("POST", "/", fields=(("content-length", "5"),
#   ...                                       ("content-length", "5"))))
#   Traceback (most recent call last):
#   ...
#   faas.ProtocolError: there are two Content-Length fields
#
# Roads not taken ------------------------------------------------------------
#   http.server: it does not know chunks, takes two Content-Lengths without a
#     word, and reads heads with the email parser, at several times the price.
#   asyncio: one thread for a thousand connections, and every function of this
#     file in two colours. Chapter 16 is the place for an event loop.
#   Being liberal in what is accepted (RFC 1122, 1.2.2): smuggling is what
#     thirty years of that have come to; RFC 9413 is the recantation.
#
# Real world -----------------------------------------------------------------
#   h11 is this chapter's model: the same separation, complete. nginx or Caddy
#   stands in front of most platforms, and is chosen for how strictly it
#   reads. Lambda's functions never see HTTP, only an event made from it.

# ============================================================================
# Chapter 10. Five faces: how can one platform speak five APIs?
# ============================================================================
#
# Five older platforms have clients, scripts and habits. A face lets them go
# on: it is a table of routes, and for each route a function of a few lines
# that turns the older platform's words into ours. A face decides nothing. If
# one of its functions grows an `if` about how functions run, it has become a
# second platform, and the `if` belongs below the waist. (Four things in 10.5
# are more than translation, because nobody else needs them: how two texts
# differ, how long "in 5 minutes" is, which name is free, and that an update is
# checked as a whole.)
#
#                  deploy               look                   call
#
#       PiFaaS     copy a file          GET /logs/NAME         POST /NAME
#       tinyFaaS   POST /upload         GET /list, /logs       /NAME
#       rknizzle   POST /functions      GET /ping              /functions/NAME
#       FaaS-Go    POST /api/functions  GET /api/functions/ID  /fn/ID/rest
#       SmolFaaS   copy a folder        GET /health            /invoke/NAME
#       ours       PUT /-/functions/..  GET /-/executions      /NAME/rest
#
# All of them see the same functions. Our own paths begin with /-/, which can
# be no function's name, so that they never take one away.
#
# Where an older platform answers 200 for what failed, its face does not: a
# client that looks at the status is told the truth, and one that does not
# look reads the same text as before.
#
# Promised: nothing.

import base64

MAX_UPLOAD = 96 << 20       # bytes of a request that carries a bundle: the
                            # largest bundle, grown by a third in base64


def query_of(request):
    """Read a request's query; of a name that comes twice, the last.

    >>> query_of(Request("GET", "/", "name=a%20b&limit=5"))
    {'name': 'a b', 'limit': '5'}
    """
    import urllib.parse
    return dict(urllib.parse.parse_qsl(request.query))


def json_object(request):
    """Read a request's body as a JSON object, whatever it claims to be.

    curl -d sends everything as a form, and older clients use just that.

    Errors: FaasError bad_input.
    """
    try:
        value = json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise FaasError("bad_input", "the body is no JSON object")
    return value


def member(value, name, kind, default):
    """Take a member of a JSON object, of the type that it must have.

    >>> member({"threads": 4}, "threads", int, 1)
    4

    Errors: FaasError bad_input.
    """
    found = value.get(name, default)
    if found is None:
        found = default
    if not isinstance(found, kind) or isinstance(found, bool):
        wanted = getattr(kind, "__name__", "number")
        raise FaasError("bad_input", f"the member {name!r} must be of type "
                        + wanted)
    return found


def decode_bundle(text, mend=bytes):
    """Turn the base64 of a zip or tar into files; white space is allowed.

    `mend` may repair the bytes before they are read.
    """
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise FaasError("bad_input", "the bundle is not in base64") from None
    return read_bundle(mend(data))


def checked_threads(threads, most=64):
    """Give a number of workers that makes sense; tinyFaaS's 0 means 1."""
    if not 0 <= threads <= most:
        raise FaasError("bad_input", f"threads must be between 0 and {most}")
    return threads or 1


# 10.1 PiFaaS ----------------------------------------------------------------
#
# Its functions are the files in functions/, so calling is what chapter 9 does
# for everybody. What is its own: logs by path, and schedules.
#
#       $ curl -X POST http://localhost:8080/hello.py
#       $ curl -X POST http://localhost:8080/schedule/hello.py \
#              -d '*/5 * * * *'
#       Cron job set
#       $ curl http://localhost:8080/schedule
#       {"hello.py": "*/5 * * * *"}
#       $ curl -X DELETE http://localhost:8080/schedule/hello.py
#       Removed schedule
#       $ curl http://localhost:8080/logs/hello.py


def pifaas_logs(door, request, name):
    """Answer with a function's whole log, as it lies on disk."""
    return Response(200, door.platform.logs.read(name), {
        "Content-Type": "text/plain; charset=utf-8"})


def pifaas_schedules(door, request):
    """Answer with all schedules, as PiFaaS keeps them in its file."""
    return json_response(door.schedules.all())


def pifaas_schedule(door, request, name):
    """Set a schedule; the body is nothing but the expression."""
    try:
        text = request.body.decode()
    except UnicodeDecodeError:
        raise FaasError("bad_input", "Invalid cron expression: it is no "
                        "text in UTF-8") from None
    door.schedules.put(name, text.strip())
    return text_response("Cron job set")


def pifaas_unschedule(door, request, name):
    """Remove a schedule; PiFaaS says so even if there was none."""
    door.schedules.remove(name)
    return text_response("Removed schedule")


# 10.2 tinyFaaS --------------------------------------------------------------
#
# Its scripts send JSON and print what comes back. An upload is answered with
# the addresses at which the function can now be called, one a line.
#
#       $ (cd echo && zip -r - .) | base64 -w0 > echo.b64
#       $ curl http://localhost:8080/upload -d \
#         "{\"name\": \"echo\", \"env\": \"python3\", \"threads\": 1,
#           \"zip\": \"$(cat echo.b64)\"}"
#       http://127.0.0.1:8000/echo
#       $ curl http://localhost:8000/echo -d hello
#       hello
#
# What tinyFaaS calls `env` is our tongue, and its `envs` are our env. Its four
# kinds of function are four of ours, by the same names. It knows no versions:
# an upload under a name that is there replaces the function, as here, and what
# was there before is a rollback away, which only our own paths can say.


def tinyfaas_upload(door, request):
    """Deploy a zip that comes inside the JSON."""
    value = json_object(request)
    files = decode_bundle(member(value, "zip", str, ""))
    return tinyfaas_deploy(door, value, files)


def tinyfaas_upload_url(door, request):
    """Deploy a zip that lies elsewhere, or a folder in it."""
    value = json_object(request)
    data = fetch(member(value, "url", str, ""))
    files = subfolder(read_bundle(data),
                      member(value, "subfolder_path", str, ""))
    return tinyfaas_deploy(door, value, files)


def tinyfaas_deploy(door, value, files):
    """Deploy what tinyFaaS's JSON describes; its addresses are the answer."""
    entries = member(value, "envs", list, [])
    pairs = (entry.partition("=") for entry in entries
             if isinstance(entry, str) and "=" in entry)
    fn = door.platform.deploy(
        member(value, "name", str, ""), files, member(value, "env", str, ""),
        checked_threads(member(value, "threads", int, 1)),
        checked_env({name: text for name, _, text in pairs}))
    return text_response(f"{door.data_url}/{fn.name}\n")


def tinyfaas_delete(door, request):
    """Delete a function, and its schedule, which tinyFaaS has not."""
    name = door.platform.name_of(member(json_object(request), "name", str,
                                        ""))
    door.platform.delete(name)
    door.schedules.forget(name)
    return Response()


def tinyfaas_list(door, request):
    """Answer with names, one a line; its scripts count the lines."""
    return text_response("".join(f"{name}\n" for name in
                                 door.platform.uploaded()))


def tinyfaas_wipe(door, request):
    """Delete what was uploaded; what lies in functions/ stays."""
    for name in door.platform.uploaded():
        with contextlib.suppress(FaasError):    # Somebody was faster.
            door.platform.delete(name)
            door.schedules.forget(name)
    return Response()


def tinyfaas_logs(door, request):
    """Answer one function's log, or all: /logs and /logs?name=."""
    wanted = query_of(request).get("name")
    names = ([door.platform.name_of(wanted)] if wanted else
             door.platform.uploaded())
    parts = []
    for name in names:
        try:
            parts.append(tinyfaas_lines(name, door.platform.logs.read(name)))
        except FaasError:
            door.platform.find(name)    # not_found, if there is none
            parts.append("")
    return text_response("".join(parts) if wanted else
                         "".join(part + "\n" for part in parts))


def tinyfaas_lines(name, log):
    """Spell a log as tinyFaaS does: who, when, what, on every line.

    >>> tinyfaas_lines("f", b"\\n--- Run at 2026-11-20T08:50:39.973999 ---\\n"
    ...                b"hi\\n")
    'function=f handler=f 2026-11-20T08:50:39.973999Z hi\\n'
    """
    when, lines = "", []
    for line in log.decode("utf-8", "replace").splitlines():
        header = re.fullmatch(r"--- Run at (\d{4}-\d\d-\d\dT\S+) ---", line)
        if header and utc_time(header[1]):
            when = utc_time(header[1])
        elif line:
            lines.append(f"function={name} handler={name} {when} {line}\n")
    return "".join(lines)


def utc_time(local):
    """Turn the local time of a log header into RFC 3339 in UTC.

    A function may print what only looks like a header; that gives ''.

    >>> utc_time("2026-11-20T08:50:39.973999")[-1], utc_time("2026-99-99T")
    ('Z', '')
    """
    try:
        when = datetime.datetime.fromisoformat(local)
    except ValueError:
        return ""
    zone = datetime.timezone.utc
    return when.astimezone(zone).isoformat().replace("+00:00", "Z")


def subfolder(files, path):
    """Give the part of a bundle below `path`.

    >>> subfolder({"a/b/fn.sh": Item(b""), "c": Item(b"")}, "a/b/")
    {'fn.sh': Item(data=b'', executable=False)}
    """
    prefix = clean_path(path.strip("/"))
    prefix += "/" if prefix else ""
    return {name[len(prefix):]: item for name, item in files.items()
            if name.startswith(prefix)}


FETCH_TIME = 60.0           # s for all of it, however slowly it drips


def fetch(url):
    """Get a bundle from the web: http or https, bounded in size and time.

    Errors: FaasError bad_input or too_large.
    """
    status, _, data = web_request("GET", url, seconds=FETCH_TIME)
    if status >= 400:
        raise FaasError("bad_input", f"{url[:200]} cannot be had: it answers "
                        f"{status}")
    return data


# 10.3 rknizzle/faas ----------------------------------------------------------
#
# Its client packs the current folder as a tar. Every answer is a JSON object,
# and a function's answer is a string in it:
#
#       $ curl http://localhost:5555/functions -d \
#         "{\"name\": \"sum\", \"file\": \"$(tar c -C sum . | base64 -w0)\"}"
#       {"invoke": "localhost:5555/functions/sum"}
#       $ curl http://localhost:5555/functions/sum -d '{"a": 20, "b": 3}'
#       {"response": "{\"sum\":23}"}
#
# Two habits of that client. Go does not mind how a key is capitalised, so it
# sends "Name" and "File". And it takes the bytes of its tar before it has
# closed it, so they lack the padding of the last file and the two blocks of
# zeros that say "this was all" (6.1).


def whole_tar(data):
    """Give a tar the end that rknizzle's client leaves out.

    Only one that ends with the last byte of a file is that tar. Any other
    was cut short on its way, and is refused by whoever reads it.

    >>> whole = pack_tar({"a": Item(b"hi")})
    >>> len(whole_tar(whole[:514])), len(whole_tar(whole[:513]))
    (2048, 513)
    """
    at = 0
    while any(block := data[at:at + 512]):
        digits = block[124:136].strip(b" \0") or b"0"
        if len(block) < 512 or not re.fullmatch(rb"[0-7]{1,11}", digits):
            return data
        end = at + 512 + int(digits, 8)
        at = -(-end // 512) * 512
        if len(data) in (end, at):
            return data + bytes(at - len(data) + 1024)
    return data


def rknizzle_deploy(door, request):
    """Deploy a tar; its client prints `message` only, so that says which step.
    """
    try:
        value = {name.lower(): found for name, found in
                 json_object(request).items()}
        name, packed = (member(value, key, str, "") for key in
                        ("name", "file"))
        if not packed:
            raise FaasError("bad_input", "the member 'file' is missing: a "
                            "tar in base64")
    except FaasError as error:
        return rknizzle_refusal(error, "Failed to get function data from "
                                "request body")
    try:
        fn = door.platform.deploy(name, decode_bundle(packed, whole_tar))
    except FaasError as error:
        return rknizzle_refusal(error, "Failed to deploy function")
    return json_response({"invoke": f"{request.get('host')}/functions/"
                          + fn.name})


def rknizzle_call(door, request, name):
    """Call a function, and put its answer as a string into a JSON object.

    A string can be no bytes, so what is no UTF-8 comes damaged: this face is
    for functions that answer text.
    """
    result = whole(door.platform.invoke(call_of(request, name, key=door.key)))
    if result.kind != "ok":
        raise FaasError(result.kind, result.sentence, result.body)
    return json_response({"response": result.body.decode("utf-8", "replace")})


def rknizzle_ping(door, request):
    """Say that somebody is here, to who waits for it to start."""
    return json_response({"message": "pong"})


def rknizzle_refusal(error, message=""):
    """Say no in its words: what for, and why."""
    info = {"info": str(error)} if message else {}
    plain = error_response(error)           # for Retry-After, and the like
    answer = json_response({"message": message or str(error), **info},
                           plain.status)
    return answer._replace(headers={**plain.headers, **answer.headers})


# 10.4 SmolFaaS ---------------------------------------------------------------
#
# Its functions are servers, and its router, a Caddy, knows two paths. The
# function sees / whatever it was called as, its query, and who asked:
#
#       $ curl 'http://fn.localhost:8080/invoke/clock?zone=utc'


def smolfaas_call(door, request, name):
    """Pass a request on as a router does, and say for whom (RFC 7239's old
    names, which every framework reads)."""
    call = call_of(request, name, key=door.key)
    forwarded = {"X-Forwarded-For": request.peer, "X-Forwarded-Proto": "http",
                 "X-Forwarded-Host": request.get("host")}
    return result_response(door.platform.invoke(call._replace(
        headers={**call.headers, **forwarded})))


def smolfaas_health(door, request):
    """Say that all is well; to who came for SmolFaaS's router, in its words.
    """
    if request.get("host").lower().partition(":")[0] == "fn.localhost":
        return text_response("SmolFaaS Router OK")
    return serve_health(door, request)


# 10.5 FaaS-Go ----------------------------------------------------------------
#
# A whole application with a dashboard once spoke this API: functions have ids,
# and names that several may share; each text is a version; each call is an
# execution that can be looked up with what it was given and what it logged.
#
#       $ curl -H "Authorization: Bearer $(cat data/api_key)" \
#              http://localhost:8080/api/functions -d '{"name": "hits",
#                "code": "function handler(ctx, event) ... end"}'
#       {"id": "01a1f8b0490b8536d02f", "name": "hits", "active_version": ...}
#       $ curl -i http://localhost:8080/fn/01a1f8b0490b8536d02f
#       X-Function-Id: 01a1f8b0490b8536d02f
#       X-Execution-Id: 01a1f8b1f2a08536d030
#
# A name that is taken, or cannot be ours, becomes a label: the second "hits"
# is called hits-2 by the other faces. And since we store no text that does
# not load, a mistake is told at once, and not at the first call.
#
# The functions here begin with lunar_, the name of its later versions. They
# outnumber those of the other faces, because its dashboard could change
# everything; each row below is one or two of them.
#
#       function             Function, and its Settings
#       version              a row of the shelf, with the text of its file
#       env_vars             env
#       cron_schedule        a schedule while it is active, else a setting
#       execution            an Execution; its event and logs are a Detail
#       status success       kind ok, and a status below 400
#       status error         every other
#       retention_days       keep_days
#       save_response        keep_answers
#
# Its lists come in pages, its times are whole seconds since 1970, and what
# went wrong is {"error": "a sentence"}.

LUNAR_DAYS = (7, 15, 30, 365)


def lunar_refusal(error):
    """Say no as FaaS-Go does.

    >>> lunar_refusal(FaasError("not_found", "Function not found")).body
    b'{"error": "Function not found"}\\n'
    """
    plain = error_response(error)           # for Retry-After, and the like
    answer = json_response({"error": str(error)}, plain.status)
    return answer._replace(headers={**plain.headers, **answer.headers})


def lunar_function(door, fn, env=()):
    """Spell a Function as FaaS-Go does; `env` where its owner asks."""
    platform, settings = door.platform, fn.settings
    versions = platform.shelf.versions(fn.name)
    running = door.schedules.all().get(fn.name, "")
    created = platform.shelf.created().get(fn.name, 0)
    return {"id": fn.id or fn.name, "name": settings.label or fn.name,
            "description": settings.description, "env_vars": dict(env),
            "disabled": settings.disabled,
            "retention_days": int(settings.keep_days) or None,
            "cron_schedule": running or settings.paused or None,
            "cron_status": "active" if running else "paused",
            "save_response": settings.keep_answers,
            "created_at": int(created),
            "updated_at": int(max([created] + [
                version.created for version in versions]))}


def lunar_version(door, fn, number=None):
    """Spell a version, the active one if none is named; with its text."""
    number = fn.version if number is None else number
    found = [version for version in door.platform.shelf.versions(fn.name)
             if version.number == number]
    if not found:
        raise FaasError("not_found", f"Version not found: {number}")
    text = door.platform.version(fn.name, number)[1]
    return {"id": f"ver_{fn.id}_v{number}", "function_id": fn.id,
            "version": number, "code": text,
            "created_at": int(found[0].created), "created_by": None,
            "is_active": found[0].active}


def lunar_find(door, name):
    """Give the Function that an id or a name means.

    Errors: FaasError not_found.
    """
    fn = door.platform.find(name).fn
    if not fn.id:
        raise FaasError("not_found", f"Function not found: {name} is a file, "
                        "and this API knows what is on the shelf")
    return fn


def lunar_page(request, name, rows, total):
    """Make a page of rows; rows(limit, offset) gives them.

    What makes no sense as a limit or an offset is the default, as in FaaS-Go.

    >>> asked = Request("GET", "/", "limit=2&offset=x")
    >>> lunar_page(asked, "ns", lambda limit, at: [1, 2, 3][at:at + limit], 3)
    {'ns': [1, 2], 'pagination': {'total': 3, 'limit': 2, 'offset': 0}}
    """
    query = query_of(request)
    limit, offset = (int(query[word]) if re.fullmatch(
        "[0-9]{1,9}", query.get(word, ""), re.ASCII) else default
        for word, default in (("limit", 20), ("offset", 0)))
    limit = limit if 0 < limit <= 100 else 20
    return {name: rows(limit, offset), "pagination": {
        "total": total, "limit": limit, "offset": offset}}


def lunar_list(door, request):
    """Answer with the functions, the newest first, and without their values.

    A list is what lies open on a screen; who wants the variables asks for
    one function.
    """
    platform, created = door.platform, door.platform.shelf.created()
    there = {fn.name for fn in platform.listing()}
    fns = sorted((fn for fn in platform.shelf.functions() if fn.name in there),
                 key=lambda fn: -created.get(fn.name, 0))
    return json_response(lunar_page(request, "functions", lambda limit, at: [
        lunar_function(door, fn) for fn in fns[at:at + limit]], len(fns)))


def lunar_text(value, name, least, most):
    """Take a text of a certain length from a JSON object.

    >>> lunar_text({"name": " "}, "name", 1, 100)
    Traceback (most recent call last):
    ...
    faas.FaasError: name: name cannot be empty

    Errors: FaasError bad_input, in FaaS-Go's form, `field: what is wrong`.
    """
    text = member(value, name, str, "")
    if len(text.strip()) < least:
        raise FaasError("bad_input", f"{name}: {name} cannot be empty")
    if len(text.encode("utf-8", "replace")) > most:
        raise FaasError("bad_input", f"{name}: {name} cannot be longer than "
                        f"{most} bytes")
    return text


def lunar_body(request):
    """Read a JSON object, and refuse another body in FaaS-Go's words."""
    try:
        return json_object(request)
    except FaasError:
        raise FaasError("bad_input", "Invalid request body") from None


def lunar_name(platform, label):
    """Make a name of a label: one that can be a path, and is free."""
    name = re.sub("[^A-Za-z0-9._-]+", "-", label).strip("-._")[:56] or "fn"
    in_use = RESERVED | set(platform.ids) | set(
        os.listdir(platform.functions)) | {
        fn.name for fn in platform.shelf.functions()}
    more = (f"{name}-{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], more)
                if one not in in_use)


def lunar_files(tongue, code):
    """Make a bundle of one text.

    >>> lunar_files("lua", "return 1")
    {'main.lua': Item(data=b'return 1', executable=False)}

    Errors: FaasError bad_input, for a tongue of more than one file.
    """
    if not TONGUES.get(tongue, TONGUES["script"]).text:
        raise FaasError("bad_input", f"tongue: {tongue[:40]!r} is none whose "
                        "functions are one text")
    return {TONGUES[tongue].text: Item(code.encode("utf-8", "replace"))}


def lunar_create(door, request):
    """Make a function of a text; ours: `tongue` may be another than lua."""
    value, platform = lunar_body(request), door.platform
    label = lunar_text(value, "name", 1, 100)
    settings = Settings(label, lunar_text(value, "description", 0, 500))
    tongue = member(value, "tongue", str, "lua")
    files = lunar_files(tongue, lunar_text(value, "code", 1, 1 << 20))
    while True:
        name = lunar_name(platform, label)
        try:
            fn = platform.deploy(name, files, tongue, settings=settings,
                                 fresh=True)
            break
        except FaasError as error:      # Two may choose one name.
            if error.kind != "conflict" or lunar_name(platform, label) == name:
                raise
    return json_response({**lunar_function(door, fn),
                          "active_version": lunar_version(door, fn)})


def lunar_read(door, request, name):
    """Answer with one function: its owner asks, so its variables are in it."""
    fn = lunar_find(door, name)
    return json_response({**lunar_function(door, fn, fn.env),
                          "active_version": lunar_version(door, fn)})


def lunar_changes(value):
    """Give the Settings that an update asks for, checked.

    >>> lunar_changes({"disabled": True, "retention_days": 7})
    {'disabled': True, 'keep_days': 7}

    Errors: FaasError bad_input.
    """
    changes = {}
    for name, field, most in (("name", "label", 100),
                              ("description", "description", 500)):
        if value.get(name) is not None:
            changes[field] = lunar_text(value, name, field == "label", most)
    for name, field in (("disabled", "disabled"),
                        ("save_response", "keep_answers")):
        if value.get(name) is not None:
            if not isinstance(value[name], bool):
                raise FaasError("bad_input", f"{name}: {name} must be true "
                                "or false")
            changes[field] = value[name]
    if value.get("retention_days") is not None:
        if value["retention_days"] not in LUNAR_DAYS:
            raise FaasError("bad_input", "retention_days: retention_days "
                            "must be one of: [7 15 30 365]")
        changes["keep_days"] = value["retention_days"]
    return changes


LUNAR_FIELDS = ("name description code disabled retention_days cron_schedule "
                "cron_status save_response").split()


# An update may change several things at once:
#
#       $ curl -X PUT -H "Authorization: Bearer $KEY" \
#              http://localhost:8080/api/functions/hits -d '{
#                "code": "...", "cron_schedule": "0 3 * * *",
#                "cron_status": "active", "retention_days": 7}'
#
# Its answer has no body; that the text was a new one shows in the versions.


def lunar_update(door, request, name):
    """Change what an update names, all of it or nothing.

    Everything is checked before anything is changed, and the text, which may
    fail to load, comes first.
    """
    value, fn = lunar_body(request), lunar_find(door, name)
    if all(value.get(field) is None for field in LUNAR_FIELDS):
        raise FaasError("bad_input", "request: at least one field must be "
                        "provided for update")
    changes = {**lunar_changes(value), **lunar_schedule(door, fn, value)}
    if value.get("code") is not None:
        code = lunar_text(value, "code", 1, 1 << 20)
        files = {**door.platform.shelf.bundle(fn),
                 **lunar_files(fn.tongue, code)}
        door.platform.deploy(fn.name, files, fn.tongue)
    schedule = changes.pop("schedule", None)
    if schedule:
        door.schedules.put(fn.name, schedule)
    elif schedule is not None:
        door.schedules.forget(fn.name)
    if changes:
        door.platform.configure(fn.name, **changes)
    return Response()


def lunar_schedule(door, fn, value):
    """Give what an update changes about a schedule: it runs, or is paused.

    A schedule that runs is a row of chapter 11, where cron sees it; one that
    is paused is a setting, where nobody does. To clear it, set it to "".

        cron_status     the schedule
        'active'        runs
        'paused'        is kept, and does not run
        not said        goes on as it was; a first one is paused
    """
    text, status = value.get("cron_schedule"), value.get("cron_status")
    if text is None and status is None:
        return {}
    if status not in (None, "active", "paused"):
        raise FaasError("bad_input", "cron_status: cron_status must be one "
                        "of: [active paused]")
    running = door.schedules.all().get(fn.name, "")
    if text is None:
        text = running or fn.settings.paused
    else:
        text = member(value, "cron_schedule", str, "").strip()
    try:
        if text:
            door.schedules.check(text)
    except FaasError as error:
        raise FaasError("bad_input", f"cron_schedule: i{str(error)[1:]}"
                        ) from None
    active = status == "active" or status is None and bool(running)
    return {"schedule": text if active else "", "paused": "" if active
            else text}


def lunar_delete(door, request, name):
    """Delete a function: versions, values, executions, log and schedule.

    FaaS-Go leaves the last three, and its scheduler goes on calling.
    """
    fn = lunar_find(door, name)
    door.platform.delete(fn.name)
    door.schedules.forget(fn.name)
    return Response(204)


def lunar_env(door, request, name):
    """Replace all variables of a function; those not named are gone."""
    value, fn = lunar_body(request), lunar_find(door, name)
    if value.get("env_vars") is None:
        raise FaasError("bad_input", "env_vars: the member is missing")
    env = checked_env(member(value, "env_vars", dict, {}))
    if any(not text.strip() for text in env.values()):
        raise FaasError("bad_input", "env_vars: a value cannot be empty")
    return json_response(lunar_version(door, door.platform.configure(
        fn.name, env=env)))


def lunar_next_run(door, request, name):
    """Say when a schedule fires next, to programs and to people."""
    fn = lunar_find(door, name)
    running = door.schedules.all().get(fn.name, "")
    if not running and not fn.settings.paused:
        return json_response({"has_schedule": False})
    known = {"has_schedule": True, "cron_schedule": running or
             fn.settings.paused, "cron_status": "active" if running else
             "paused", "is_paused": not running}
    if running:
        now = time.time()
        due = door.schedules.next_run(running, now)
        known.update(next_run=due and int(due),
                     next_run_human=human_time(due - now) if due else "never")
    return json_response(known)


def human_time(seconds):
    """Say in how long something will be.

    >>> human_time(30), human_time(90), human_time(7300), human_time(-1)
    ('in less than a minute', 'in 1 minute', 'in 2 hours', 'overdue')
    """
    if seconds < 0:
        return "overdue"
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"in {count} {unit}{'s' if count > 1 else ''}"
    return "in less than a minute"


def lunar_versions(door, request, name):
    fn = lunar_find(door, name)
    known = door.platform.shelf.versions(fn.name)
    return json_response(lunar_page(request, "versions", lambda limit, at: [
        lunar_version(door, fn, version.number)
        for version in known[at:at + limit]], len(known)))


def lunar_number(fn, text, what="version number"):
    """Read the number of a version, or the id that we give it.

    >>> fn = Function("f", "lua", "/f", id="06f1")
    >>> lunar_number(fn, "3"), lunar_number(fn, "ver_06f1_v3")
    (3, 3)
    """
    text = text.removeprefix(f"ver_{fn.id}_v")
    if not re.fullmatch("[0-9]{1,9}", text, re.ASCII):
        raise FaasError("bad_input", f"Invalid {what}")
    return int(text)


def lunar_version_read(door, request, name, version):
    fn = lunar_find(door, name)
    return json_response(lunar_version(door, fn, lunar_number(fn, version)))


def lunar_activate(door, request, name, version):
    """Let a version serve: what everybody else calls a rollback."""
    fn = lunar_find(door, name)
    number = lunar_number(fn, version)
    lunar_version(door, fn, number)         # not_found, where there is none
    door.platform.rollback(fn.name, number)
    return Response()


def lunar_version_delete(door, request, name, version):
    fn = lunar_find(door, name)
    number = lunar_number(fn, version)
    lunar_version(door, fn, number)         # not_found, where there is none
    door.platform.forget_version(fn.name, number)
    return Response(204)


MAX_DIFF = 5000             # lines; the time grows with their square


def lunar_diff(door, request, name, old, new):
    """Answer with what differs between the texts of two versions."""
    fn = lunar_find(door, name)
    numbers = (lunar_number(fn, old, "version number v1"),
               lunar_number(fn, new, "version number v2"))
    texts = [lunar_version(door, fn, number)["code"].removesuffix(
        "\n").split("\n") for number in numbers]
    if max(map(len, texts)) > MAX_DIFF:
        raise FaasError("too_large", f"a text of more than {MAX_DIFF} lines "
                        "is not compared here")
    return json_response({"old_version": numbers[0],
                          "new_version": numbers[1],
                          "diff": diff_lines(*texts)})


def diff_lines(old, new):
    """Say line by line how to get from one text to another.

    >>> [(row["line_type"], row["content"])
    ...  for row in diff_lines(["a", "b"], ["a", "c"])]
    [('unchanged', 'a'), ('removed', 'b'), ('added', 'c')]
    """
    import difflib
    rows = []
    for what, a, b, c, d in difflib.SequenceMatcher(
            None, old, new).get_opcodes():
        if what == "equal":
            rows += [{"line_type": "unchanged", "old_line": a + n + 1,
                      "new_line": c + n + 1, "content": old[a + n]}
                     for n in range(b - a)]
            continue
        rows += [{"line_type": "removed", "old_line": n + 1,
                  "content": old[n]} for n in range(a, b)]
        rows += [{"line_type": "added", "new_line": n + 1,
                  "content": new[n]} for n in range(c, d)]
    return rows


def lunar_execution(door, execution, detail=None):
    """Spell an Execution as FaaS-Go does; its Detail where it is asked for."""
    fn = door.platform.shelf.known(execution.function)
    ident = fn.id if fn else execution.function
    good = execution.status == "ok" and execution.code < 400
    known = {"id": execution.id, "function_id": ident,
             "function_version_id": f"ver_{ident}_v{execution.version}",
             "status": "success" if good else "error",
             "duration_ms": round(1000 * execution.duration),
             "error_message": execution.error or None,
             "trigger": execution.trigger,
             "created_at": int(execution.started)}
    if detail:
        known.update(event_json=detail.event or None,
                     response_json=detail.answer or None)
    return known


def lunar_executions(door, request, name):
    fn, journal = lunar_find(door, name), door.platform.journal
    return json_response(lunar_page(request, "executions", lambda limit, at: [
        lunar_execution(door, execution) for execution in
        journal.recent(fn.name, limit, at)], journal.count(fn.name)))


def lunar_execution_read(door, request, ident):
    return json_response(lunar_execution(door,
                                         *door.platform.journal.find(ident)))


LUNAR_LEVELS = {"info": 0, "debug": 1, "warn": 2, "error": 3}


def lunar_log_line(line, when):
    """Spell a line of a log; one that was only printed is for information.

    >>> lunar_log_line("[warn] hot", 5)
    {'level': 2, 'message': 'hot', 'created_at': 5}
    """
    found = re.fullmatch(r"\[(info|debug|warn|error)\] (.*)", line)
    level, text = found.groups() if found else ("info", line)
    return {"level": LUNAR_LEVELS[level], "message": text, "created_at": when}


def lunar_logs(door, request, ident):
    """Answer with what one execution logged and printed, line by line."""
    execution, detail = door.platform.journal.find(ident)
    lines = detail.log.split("\n") if detail.log else []
    page = lunar_page(request, "logs", lambda limit, at: [
        lunar_log_line(line, int(execution.started))
        for line in lines[at:at + limit]], len(lines))
    return json_response({**lunar_execution(door, execution, detail), **page})


def lunar_login(door, request):
    """Give who knows the key a cookie that does, for a day."""
    try:
        key = member(lunar_body(request), "apiKey", str, "")
    except FaasError:
        return json_response({"success": False,
                              "error": "Invalid request body"}, 400)
    if not door.key or not is_key(door, key):
        return json_response({"success": False, "error": "Invalid API key"},
                             401)
    return lunar_cookie({"success": True}, f"{key}; Max-Age=86400")


def lunar_logout(door, request):
    return lunar_cookie({"success": True}, "; Max-Age=0")


def lunar_cookie(value, cookie):
    """Set a cookie that no script reads and no other site sends (6265bis).

    >>> lunar_cookie({}, "k").headers["Set-Cookie"]
    'auth_token=k; Path=/; HttpOnly; SameSite=Strict'
    """
    answer = json_response(value)
    return answer._replace(headers={
        **answer.headers, "Set-Cookie": f"auth_token={cookie}; Path=/; "
        "HttpOnly; SameSite=Strict"})


# A call by id. What failed inside a function is told to its owner, in the
# execution, with the lines of its text and a tip; a stranger learns that it
# failed, and gets the id under which the owner will find why:
#
#       the function           the caller                  error_message
#       returns 404            404, its own body           null
#       raises at line 3       500 {"error": "Function     Error at line 3: ...
#                              execution failed"}
#       takes too long         504 and a sentence          the sentence
#       is switched off        403                         the sentence
#
# A page from anywhere may call a function, and read what it answers: FaaS-Go
# says so with these headers (the Fetch standard, 3.2). It says the same about
# its /api; there S2 stands against it.

LUNAR_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods":
        "GET, POST, PUT, DELETE, PATCH, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Authorization",
    "Access-Control-Expose-Headers": "X-Function-Id, X-Function-Version-Id, "
        "X-Execution-Id, X-Execution-Duration-Ms"}


def lunar_call(door, request, name, rest=""):
    """Call a function by its id; what failed inside it is its owner's."""
    if request.method == "OPTIONS":
        return Response(204, headers=LUNAR_CORS)
    call = call_of(request, name, rest, door.key, depth=3)
    result = door.platform.invoke(call)
    if result.kind == "crashed":
        answer = json_response({"error": "Function execution failed"}, 500)
    elif result.kind != "ok":
        answer = lunar_refusal(FaasError(result.kind, result.sentence))
    else:
        answer = result_response(result)
    live = door.platform.live.get(name)
    if not live or result.kind in ("denied", "not_found"):
        return answer._replace(headers={**answer.headers, **LUNAR_CORS})
    ident = live.fn.id or name
    return answer._replace(headers={
        **LUNAR_CORS, **answer.headers, "X-Function-Id": ident,
        "X-Function-Version-Id": f"ver_{ident}_v{result.version}",
        "X-Execution-Id": result.id,
        "X-Execution-Duration-Ms": str(round(1000 * sum(
            seconds for _, seconds in result.spans)))})


def lunar_nothing(door, request, rest=""):
    raise FaasError("not_found", f"the API has no path /api/{rest[:60]}")


# 10.6 Our own ---------------------------------------------------------------
#
# What the older APIs cannot say, or only one of them can: a function of any
# tongue with threads, variables and a timeout in one request; versions and
# rollback; executions of all functions; and a call in the name of the command
# line or of cron, which is recorded as such. The command line of chapter 17 is
# a client of these routes, and has no other way in.
#
#       $ curl -X POST http://localhost:8080/-/functions/echo/rollback \
#              -d '{"version": 1}'
#       {"name": "echo", "tongue": "python3", "version": 1, ...}
#       $ curl 'http://localhost:8080/-/functions/echo/executions?limit=1'
#       [{"id": "01a1f8b0490b8536d02f", "function": "echo", "version": 1,
#         "trigger": "http", "started": 1795170065.03, "duration": 0.0003,
#         "start": "warm", "status": "ok", "bytes_in": 5, ...}]


def describe(fn):
    """Give what may be told of a Function; of its variables, the names.

    >>> describe(Function("f", "binary", "/f", env={"KEY": "4711"}))["env"]
    ['KEY']
    """
    return {"name": fn.name, "tongue": fn.tongue, "version": fn.version,
            "digest": fn.digest, "threads": fn.threads,
            "timeout": fn.limits.timeout, "env": sorted(fn.env),
            "source": fn.source, "note": fn.note}


def own_nothing(door, request, rest):
    """Keep what begins with /-/ from being taken for a function's name."""
    raise FaasError("not_found", f"the API has no path /-/{rest[:60]}")


def own_index(door, request):
    """Greet a person with a browser, or curl."""
    lines = [f"faas.py {__version__}", ""]
    lines += [f"{request.get('host')}/{fn.name:<24} {fn.tongue}"
              for fn in door.platform.listing()]
    return text_response("\n".join(lines) + "\n\nThe API is in "
                         "docs/http-api.md.\n")


def own_list(door, request):
    """Answer with every function that can be called, whoever owns it."""
    return json_response([describe(fn) for fn in door.platform.listing()])


def own_deploy(door, request, name):
    """Deploy a bundle with all that can be said about a function."""
    value = json_object(request)
    env = checked_env(member(value, "env", dict, {}))
    timeout = member(value, "timeout", (int, float), 0)
    if not 0 <= timeout <= 86400:
        raise FaasError("bad_input", "timeout must be between 0 and 86400 s")
    fn = door.platform.deploy(
        name, decode_bundle(member(value, "bundle", str, "")),
        member(value, "tongue", str, ""),
        checked_threads(member(value, "threads", int, 1)), env, timeout)
    return json_response(describe(fn))


def own_delete(door, request, name):
    """Delete a function with all that it had and did."""
    door.platform.delete(name)
    door.schedules.forget(name)
    return Response(204)


def own_versions(door, request, name):
    """Answer with what a rollback can choose from."""
    door.platform.find(name)
    return json_response([version._asdict() for version in
                          door.platform.shelf.versions(name)])


def own_rollback(door, request, name):
    """Let another version serve, without a failed call."""
    number = member(json_object(request), "version", int, 0) % (1 << 31)
    return json_response(describe(door.platform.rollback(name, number)))


def own_run(door, request, name):
    """Call a function in the name of the command line, or of cron."""
    if query_of(request).get("trigger") == "cron":
        return result_response(door.schedules.fire(name))
    # Not the request's headers: the key that opened this door is among them.
    call = Call(name, request.body, trigger="cli",
                timeout=parse_timeout(request.get("x-timeout")))
    return result_response(door.platform.invoke(call))


def own_executions(door, request, name=None):
    """Answer with the last calls, of one function or of all."""
    if name:
        door.platform.find(name)
    limit = query_of(request).get("limit", "50")
    if not re.fullmatch("[0-9]{1,4}", limit, re.ASCII):
        raise FaasError("bad_input", "limit must be a number up to 9999")
    return json_response([one._asdict() for one in
                          door.platform.journal.recent(name, int(limit))])


def own_openapi(door, request):
    """Answer with the description of this door's own routes."""
    return json_response(openapi(door.routes))


# 10.7 All routes, and what they say about themselves -------------------------
#
# The table that the code obeys is also the API's description. What a route
# takes and gives is written in JSON Schema, as small dicts that are put
# together here; /openapi.json is made of them, and a tester that knows nothing
# of this file can read there what to send, and see whether the answer is as
# announced. One row, and what becomes of it:
#
#       Route("DELETE", "/schedule/{name}", "PiFaaS", "manage",
#             "remove a schedule", pifaas_unschedule, gives={200: TYPED_TEXT})
#
#       "/schedule/{name}": {"delete": {
#           "summary": "remove a schedule", "tags": ["PiFaaS"],
#           "parameters": [{"name": "name", "in": "path", ...}],
#           "security": [{"key": []}, {}],
#           "responses": {"200": {... "text/plain" ...}, "404": ..., ...}}}
#
# The method, the path and the guard say most of it: which parts a path has,
# who is refused, and that what is not there is 404. Only the bodies have to be
# written down, and a body that is described is a body that is checked: the
# tester sends what a schema allows and expects a yes, and what it forbids and
# expects a no. A handler that trusts a type without looking is found this way
# before a client does it.
#
# Words for schemas: `record` is an object with such members, `exactly` one
# with no others, `maybe` lets null pass, `listed` is an array.

TEXT, FLAG = {"type": "string"}, {"type": "boolean"}
COUNT = {"type": "integer"}
NUMBER = {"type": "number"}
OPEN = {"type": "object", "additionalProperties": True}
TYPED_TEXT = "text/plain"
SIZE = {**COUNT, "minimum": 0}


def maybe(schema):
    """Let a schema also be null.

    >>> maybe(TEXT)
    {'type': ['string', 'null']}
    """
    return {**schema, "type": [schema["type"], "null"]}


def listed(schema):
    return {"type": "array", "items": schema}


def record(required="", **members):
    """Describe a JSON object that is sent to us; what else it has, is let be.

    >>> record("name", name=TEXT)["required"]
    ['name']
    """
    return {"type": "object", "properties": members,
            **({"required": required.split()} if required else {})}


def exactly(optional="", **members):
    """Describe a JSON object that we send: it has these members, no others.

    >>> exactly("note", name=TEXT, note=TEXT)["required"]
    ['name']
    """
    return {**record(" ".join(name for name in members
                              if name not in optional.split()), **members),
            "additionalProperties": False}


def page_of(name, schema, **more):
    """Describe a page of FaaS-Go's API."""
    return exactly(pagination=exactly(total=SIZE, limit=SIZE, offset=SIZE),
                  **{name: listed(schema)}, **more)


THREADS = maybe({**SIZE, "maximum": 64})
FN = exactly(name=TEXT, tongue=TEXT, version=SIZE, digest=TEXT, threads=SIZE,
            timeout=NUMBER, env=listed(TEXT), source=TEXT, note=TEXT)
EXECUTION = exactly(id=TEXT, function=TEXT, version=SIZE, trigger=TEXT,
                   started=NUMBER, duration=NUMBER, start=TEXT, status=TEXT,
                   bytes_in=SIZE, bytes_out=SIZE, error=TEXT, code=SIZE)
ENV = {"type": "object", "maxProperties": 100, "propertyNames": {
           "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,99}$"},
       "additionalProperties": {**TEXT, "maxLength": 10000, "pattern":
                                r"^[^\x00]*$"}}
FULL_ENV = {**ENV, "additionalProperties": {
    **TEXT, "maxLength": 10000, "pattern": r"^[^\x00]*[!-~][^\x00]*$"}}

LUNAR_VERSION = exactly(id=TEXT, function_id=TEXT, version=SIZE, code=TEXT,
                       created_at=SIZE, created_by=maybe(TEXT),
                       is_active=FLAG)
LUNAR_FN = {"id": TEXT, "name": TEXT, "description": TEXT, "env_vars": ENV,
            "disabled": FLAG, "retention_days": maybe(SIZE),
            "cron_schedule": maybe(TEXT), "save_response": FLAG,
            "cron_status": {"enum": ["active", "paused"]},
            "created_at": SIZE, "updated_at": SIZE}
LUNAR_WHOLE_FN = exactly(**LUNAR_FN, active_version=LUNAR_VERSION)
LUNAR_RUN = {"id": TEXT, "function_id": TEXT, "function_version_id": TEXT,
             "status": {"enum": ["pending", "success", "error"]},
             "duration_ms": SIZE, "error_message": maybe(TEXT),
             "trigger": TEXT, "created_at": SIZE}
LUNAR_KEPT = {"event_json": maybe(TEXT), "response_json": maybe(TEXT)}
LUNAR_LINE = exactly(level={"enum": [0, 1, 2, 3]}, message=TEXT,
                    created_at=SIZE)
LUNAR_CHANGE = {**record(
    name=maybe({**TEXT, "minLength": 1, "maxLength": 100}), code=maybe(TEXT),
    description=maybe({**TEXT, "maxLength": 500}), disabled=maybe(FLAG),
    save_response=maybe(FLAG), retention_days={"enum": [*LUNAR_DAYS, None]},
    cron_schedule=maybe(TEXT), cron_status={
        "enum": ["active", "paused", None]}), "minProperties": 1}


def tongues_of_one_text():
    """List the tongues whose functions may be a single file.

    >>> tongues_of_one_text()
    ['binary', 'python3', 'go', 'lua', 'python']
    """
    return [name for name, tongue in TONGUES.items()
            if tongue.text in tongue.marks]


LUNAR_NEW = record(
    "name code", name={**TEXT, "minLength": 1, "maxLength": 100},
    description=maybe({**TEXT, "maxLength": 500}),
    tongue={"enum": [*tongues_of_one_text(), None]},
    code={**TEXT, "minLength": 1})
LUNAR_DIFF = exactly(old_version=SIZE, new_version=SIZE, diff=listed(exactly(
    "old_line new_line", old_line=SIZE, new_line=SIZE, content=TEXT,
    line_type={"enum": ["unchanged", "added", "removed"]})))
LUNAR_NEXT = exactly(
    "cron_schedule cron_status is_paused next_run next_run_human",
    has_schedule=FLAG, cron_schedule=TEXT, cron_status=TEXT, is_paused=FLAG,
    next_run=maybe(SIZE), next_run_human=TEXT)
DONE = exactly("error", success=FLAG, error=TEXT)
DEPLOYED = {200: TYPED_TEXT}
# What a path or a query may bring. FaaS-Go forgives any limit and offset.

NAMED = {**TEXT, "pattern": f"^{NAME.pattern}$"}
NUMBERED = {**TEXT, "pattern": "^([0-9]{1,9}|ver_[0-9a-f]{20}_v[0-9]{1,9})$"}
PARTS = {"name": NAMED, "version": NUMBERED, "old": NUMBERED, "new": NUMBERED,
         "ident": {**TEXT, "minLength": 1}, "rest": {
             **TEXT, "pattern": r"^[^\x00]+$"}}
QUERY = {"name": {**TEXT, "pattern": f"^({NAME.pattern})?$"},
         "limit": {**SIZE, "maximum": 9999}, "offset": TEXT,
         "trigger": TEXT}

LIST = {"type": ["array", "null"]}
UPLOAD = record("name zip", name=NAMED, env=maybe(TEXT), threads=THREADS,
                zip=TEXT, envs=LIST)
FETCH = record("name url", name=NAMED, env=maybe(TEXT), threads=THREADS,
               url=TEXT, subfolder_path=maybe(TEXT), envs=LIST)
ANY = {"description": "whatever the function takes"}

# A table for each face, so that the faces can be laid side by side; a client
# of an older platform finds its whole API in one of them.

PIFAAS_ROUTES = (
    Route("GET", "/logs/{name}", "PiFaaS", "manage", "a function's log",
          pifaas_logs, gives={200: TYPED_TEXT}),
    Route("GET", "/schedule", "PiFaaS", "manage", "all schedules, as JSON",
          pifaas_schedules, gives={200: OPEN}),
    Route("POST", "/schedule/{name}", "PiFaaS", "manage",
          "set a schedule; the body is a cron expression", pifaas_schedule,
          TYPED_TEXT, {200: TYPED_TEXT}),
    Route("DELETE", "/schedule/{name}", "PiFaaS", "manage",
          "remove a schedule", pifaas_unschedule, gives={200: TYPED_TEXT}),
)

TINYFAAS_ROUTES = (
    Route("POST", "/upload", "tinyFaaS", "manage",
          "deploy a zip in base64; answers the addresses", tinyfaas_upload,
          UPLOAD, DEPLOYED),
    Route("POST", "/uploadURL", "tinyFaaS", "manage",
          "deploy a zip from the web", tinyfaas_upload_url, FETCH, DEPLOYED),
    Route("POST", "/delete", "tinyFaaS", "manage", "delete a function",
          tinyfaas_delete, record("name", name=NAMED), {200: None}),
    Route("GET", "/list", "tinyFaaS", "manage",
          "the names of the uploaded functions", tinyfaas_list,
          gives={200: TYPED_TEXT}),
    Route("POST", "/wipe", "tinyFaaS", "manage",
          "delete all uploaded functions", tinyfaas_wipe, gives={200: None}),
    Route("GET", "/logs", "tinyFaaS", "manage",
          "the logs of one function (?name=) or of all", tinyfaas_logs,
          gives={200: TYPED_TEXT}),
)

RKNIZZLE_ROUTES = (
    Route("GET", "/ping", "rknizzle", "open", "pong", rknizzle_ping,
          gives={200: exactly(message=TEXT)}),
    Route("POST", "/functions", "rknizzle", "manage",
          "deploy a tar in base64", rknizzle_deploy,
          record("name file", name=NAMED, file=TEXT),
          {200: exactly(invoke=TEXT)}),
    Route("POST", "/functions/", "rknizzle", "manage",
          "the same, as its README writes it", rknizzle_deploy,
          record("name file", name=NAMED, file=TEXT),
          {200: exactly(invoke=TEXT)}),
    Route("POST", "/functions/{name}", "rknizzle", "open",
          "call a function; its answer is a string in JSON", rknizzle_call,
          ANY, {200: exactly(response=TEXT)}),
)

LUNAR_ROUTES = (
    Route("*", "/fn/{name}", "FaaS-Go", "open", "call a function",
          lunar_call),
    Route("*", "/fn/{name}/{rest}", "FaaS-Go", "open",
          "call a function; it sees the rest of the path", lunar_call),
    Route("POST", "/api/auth/login", "FaaS-Go", "open",
          "trade the key for a cookie", lunar_login,
          record("apiKey", apiKey=TEXT),
          {200: DONE, 400: DONE, 401: DONE}),
    Route("POST", "/api/auth/logout", "FaaS-Go", "open",
          "take the cookie back", lunar_logout, gives={200: DONE}),
    Route("GET", "/api/functions", "FaaS-Go", "key",
          "all functions on the shelf (?limit=, ?offset=)", lunar_list,
          gives={200: page_of("functions", exactly(**LUNAR_FN))}),
    Route("POST", "/api/functions", "FaaS-Go", "key",
          "make a function of a text", lunar_create, LUNAR_NEW,
          {200: LUNAR_WHOLE_FN}),
    Route("GET", "/api/functions/{name}", "FaaS-Go", "key",
          "a function, with its variables and its text", lunar_read,
          gives={200: LUNAR_WHOLE_FN}),
    Route("PUT", "/api/functions/{name}", "FaaS-Go", "key",
          "change its settings; a text makes a version", lunar_update,
          LUNAR_CHANGE, {200: None}),
    Route("DELETE", "/api/functions/{name}", "FaaS-Go", "key",
          "delete it, with all that it had", lunar_delete, gives={204: None}),
    Route("PUT", "/api/functions/{name}/env", "FaaS-Go", "key",
          "replace its variables", lunar_env,
          record("env_vars", env_vars=FULL_ENV), {200: LUNAR_VERSION}),
    Route("GET", "/api/functions/{name}/next-run", "FaaS-Go", "key",
          "when its schedule fires next", lunar_next_run,
          gives={200: LUNAR_NEXT}),
    Route("GET", "/api/functions/{name}/versions", "FaaS-Go", "key",
          "its versions, the newest first (?limit=, ?offset=)",
          lunar_versions,
          gives={200: page_of("versions", LUNAR_VERSION)}),
    Route("GET", "/api/functions/{name}/versions/{version}", "FaaS-Go", "key",
          "one version", lunar_version_read, gives={200: LUNAR_VERSION}),
    Route("DELETE", "/api/functions/{name}/versions/{version}", "FaaS-Go",
          "key", "delete a version that does not serve",
          lunar_version_delete, gives={204: None}),
    Route("POST", "/api/functions/{name}/versions/{version}/activate",
          "FaaS-Go", "key", "let a version serve, by number or id",
          lunar_activate, gives={200: None}),
    Route("GET", "/api/functions/{name}/diff/{old}/{new}", "FaaS-Go", "key",
          "what differs between two versions, line by line", lunar_diff,
          gives={200: LUNAR_DIFF}),
    Route("GET", "/api/functions/{name}/executions", "FaaS-Go", "key",
          "its executions, the newest first (?limit=, ?offset=)",
          lunar_executions,
          gives={200: page_of("executions", exactly(**LUNAR_RUN))}),
    Route("GET", "/api/executions/{ident}", "FaaS-Go", "key",
          "one execution", lunar_execution_read,
          gives={200: exactly(" ".join(LUNAR_KEPT), **LUNAR_RUN,
                              **LUNAR_KEPT)}),
    Route("GET", "/api/executions/{ident}/logs", "FaaS-Go", "key",
          "what was logged in it (?limit=, ?offset=)", lunar_logs,
          gives={200: page_of("logs", LUNAR_LINE, **LUNAR_RUN,
                              **LUNAR_KEPT)}),
    Route("*", "/api/{rest}", "FaaS-Go", "key", "nothing else: 404",
          lunar_nothing, gives={}),
)

SMOLFAAS_ROUTES = (
    Route("GET", "/health", "SmolFaaS", "open", "OK, while it serves",
          smolfaas_health, gives={200: TYPED_TEXT}),
    Route("*", "/invoke/{name}", "SmolFaaS", "open",
          "call a function; it sees the path /", smolfaas_call),
)

OWN_ROUTES = (
    Route("GET", "/", "ours", "manage", "a list for people", own_index,
          gives={200: TYPED_TEXT}),
    Route("GET", "/metrics", "ours", "manage", "counters for Prometheus",
          serve_metrics, gives={200: TYPED_TEXT}),
    Route("GET", "/openapi.json", "ours", "open", "this table, as OpenAPI 3.1",
          own_openapi, gives={200: OPEN}),
    Route("GET", "/-/functions", "ours", "manage",
          "every function that can be called", own_list,
          gives={200: listed(FN)}),
    Route("PUT", "/-/functions/{name}", "ours", "manage",
          "deploy a bundle; answers the version", own_deploy,
          record("bundle", bundle=TEXT, tongue=maybe(TEXT),
                 threads=THREADS, env=maybe(ENV), timeout=maybe({
                     **NUMBER, "minimum": 0, "maximum": 86400})), {200: FN}),
    Route("DELETE", "/-/functions/{name}", "ours", "manage",
          "delete a function with its versions", own_delete,
          gives={204: None}),
    Route("GET", "/-/functions/{name}/versions", "ours", "manage",
          "a function's versions, the newest first", own_versions,
          gives={200: listed(exactly(number=SIZE, tongue=TEXT, digest=TEXT,
                                    created=NUMBER, active=FLAG))}),
    Route("POST", "/-/functions/{name}/rollback", "ours", "manage",
          "let another version serve", own_rollback,
          record("version", version=COUNT), {200: FN}),
    Route("POST", "/-/functions/{name}/run", "ours", "manage",
          "call it, as the command line or cron does (?trigger=)", own_run),
    Route("GET", "/-/functions/{name}/executions", "ours", "manage",
          "a function's last calls (?limit=)", own_executions,
          gives={200: listed(EXECUTION)}),
    Route("GET", "/-/executions", "ours", "manage",
          "the last calls of all functions (?limit=)", own_executions,
          gives={200: listed(EXECUTION)}),
    Route("*", "/-/{rest}", "ours", "open", "nothing else: 404", own_nothing,
          gives={}),
)

ROUTES = (PIFAAS_ROUTES + TINYFAAS_ROUTES + RKNIZZLE_ROUTES + LUNAR_ROUTES
          + SMOLFAAS_ROUTES + OWN_ROUTES + CALL_ROUTES)

REFUSALS = {"FaaS-Go": lunar_refusal, "rknizzle": rknizzle_refusal}


def media(schema):
    """Describe a body in OpenAPI's words: JSON, or another type, or none.

    >>> media("text/plain"), media(None)
    ({'text/plain': {'schema': {'type': 'string'}}}, {})
    """
    if isinstance(schema, str):
        return {schema: {"schema": TEXT}}
    return {"application/json": {"schema": schema}} if schema else {}


# How each face says no: with a sentence, or with the JSON that its clients
# know. What is no HTTP is refused before anybody knows whose it is (9.2), and
# with a sentence always.

REFUSED = {"FaaS-Go": exactly(error=TEXT),
           "rknizzle": exactly("info", message=TEXT, info=TEXT)}


def refusals_of(route):
    """Give {status: description} of the ways in which a route may say no.

    >>> sorted(refusals_of(SMOLFAAS_ROUTES[0])), len(SMOLFAAS_ROUTES)
    ([400], 2)
    """
    calls = route.handler in (rknizzle_call, own_run)
    deploys = calls or route.method != "GET" and route.guard != "open"
    kinds = ["bad_input"]
    kinds += ["unauthenticated", "denied"] * (route.guard != "open")
    kinds += ["not_found"] * (deploys or bool({"{", "?"} & set(
        route.path + route.what)))
    kinds += ["too_large"] * (route.method != "GET"
                              or route.handler is lunar_diff)
    kinds += ["conflict", "unavailable"] * deploys
    kinds += ["denied", "busy", "crashed", "timeout"] * calls
    return {KINDS[kind].http: KINDS[kind].when for kind in kinds}


def operation_of(route, method):
    """Describe one method of one route.

    >>> find = next(route for route in ROUTES if route.path == "/schedule")
    >>> list(operation_of(find, "get")["responses"])
    ['200', '400', '401', '403']
    """
    parts = re.findall(r"\{(\w+)\}", route.path)
    asked = re.findall(r"\?(\w+)=", route.what)
    no = {TYPED_TEXT: {"schema": TEXT},
          **media(REFUSED.get(route.face))}
    answers = {str(status): {"description": when, "content": no} for
               status, when in refusals_of(route).items()}
    if route.gives is None:
        answers = {**(answers if route.guard != "open" else {}),
                   "default": {"description": "what the function answers"}}
    answers |= {str(status): {"description": "as asked", "content":
                              {**(no if status >= 400 else {}),
                               **media(schema)}}
                for status, schema in (route.gives or {}).items()}
    free = route.face == "FaaS-Go"
    operation = {
        "summary": route.what, "tags": [route.face],
        "operationId": re.sub(r"\W+", "_", method + re.sub(
            "/-/", "/own/", re.sub("(.)/$", r"\1/slash", route.path))
            ).strip("_"),
        "parameters": [{"name": part, "in": "path", "required": True,
                        "schema": PARTS[part]} for part in parts] + [
                       {"name": word, "in": "query",
                        "schema": TEXT if free else QUERY[word]}
                       for word in asked],
        "responses": dict(sorted(answers.items()))}
    if route.takes:
        operation["requestBody"] = {"required": route.takes is not ANY,
                                    "content": media(route.takes)}
    if route.guard != "open":
        operation["security"] = [{"key": []}] + (
            [{"cookie": []}] if route.guard == "key" else [{}])
    return operation


def openapi(routes):
    """Describe an API from its table of routes.

    >>> document = openapi(ROUTES)
    >>> document["openapi"], "/fn/{name}" in document["paths"]
    ('3.1.0', True)

    Source: the OpenAPI Specification 3.1.0, section 4.8.
    """
    paths = {}
    for route in routes:
        methods = (["get", "post", "put", "delete", "patch"]
                   if route.method == "*" else [route.method.lower()])
        paths.setdefault(route.path, {}).update(
            {method: operation_of(route, method) for method in methods})
    return {"openapi": "3.1.0", "paths": paths,
            "info": {"title": "faas.py", "version": __version__},
            "components": {"securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie",
                           "name": "auth_token"}}}}


UPLOADS = re.compile(r"/upload|/functions/?|/-/functions/[^/]+")


def upload_limit(door, limits):
    """Make the rule that says how large a request's body may be.

    Who may not upload is refused here, before 96 MB were taken from him.

    >>> limit_of = upload_limit(Door(None, ROUTES), Limits())
    >>> here = (("host", "localhost"),)
    >>> limit_of(Request("POST", "/upload", "", here)) == MAX_UPLOAD
    True
    """
    def limit_of(request):
        if not UPLOADS.fullmatch(request.path):
            return limits.body
        try:
            check_guard(door, request)
        except FaasError as error:
            refuse = door.refusals.get(
                "rknizzle" if request.path.startswith("/functions") else "",
                error_response)
            refusal = refuse(error)
            raise ProtocolError(refusal.status, str(error), refusal.headers,
                                refusal.body) from None
        return MAX_UPLOAD
    return limit_of


# Try it ---------------------------------------------------------------------
#   >>> [route.path for route in ROUTES if route.face == "PiFaaS"]
#   ['/logs/{name}', '/schedule', '/schedule/{name}', '/schedule/{name}']
#   >>> def words(face): return sorted({
#   ...     route.path.split("/")[1] for route in ROUTES
#   ...     if route.face == face})
#   >>> words("FaaS-Go"), words("rknizzle")
#   (['api', 'fn'], ['functions', 'ping'])
#   >>> route, _, parts = find_route(ROUTES, Request("GET", "/logs/a.py"))
#   >>> route.handler.__name__, parts
#   ('pifaas_logs', {'name': 'a.py'})
#   >>> checked_env({"LD PRELOAD": "x"})
#   Traceback (most recent call last):
#   ...
#   faas.FaasError: 'LD PRELOAD' is no name of an environment variable
#
# Roads not taken ------------------------------------------------------------
#   A process per face, as the older platforms were: five registries of
#     functions that would have to agree.
#   A plugin interface: the tables are the interface. A sixth face is a sixth
#     table, and a reader sees all of them on one page.
#   Imitating bugs: a status of 200 for a crash is a promise to nobody.
#   A port per face, as each of the five had: the paths do not collide, so one
#     port serves all of them, and a client needs to know one address. The two
#     ports that clients have built in, 8000 and 5555, are there.
#   An OpenAPI file written by hand: it is right on the day it was written.
#
# Real world -----------------------------------------------------------------
#   MinIO speaks S3's API, and CockroachDB PostgreSQL's protocol, for the same
#   reason: clients are harder to replace than servers. Knative's answer to
#   many APIs was to define one more, and to let gateways translate.

# ============================================================================
# Chapter 11. Time: who calls when nobody calls?
# ============================================================================
#
# Fault 14 of the toy: it never does anything on its own. Unix has had the
# part for this since 1975, and it is running on the reader's machine now, so
# the platform does not build another one. It reads cron's expressions, in
# order to refuse the wrong ones and to say when the next run will be; and it
# writes lines into the user's crontab, each of which calls this very file.
# So a scheduled run passes through the waist like any other, and is logged
# and recorded. Where there is no cron, a thread reads the clock instead.
#
#       .-------------- minute        0-59
#       | .------------ hour          0-23
#       | | .---------- day of month  1-31
#       | | | .-------- month         1-12 or jan-dec
#       | | | | .------ weekday       0-7 or sun-sat; 0 and 7 are Sunday
#       | | | | |
#       0 3 * * mon-fri      at 3:00 on working days
#
# Promised: nothing.

import shlex

# 11.1 Reading an expression -------------------------------------------------
#
#       list  = range { "," range }
#       range = "*" | number | number "-" number      then, not after one
#               [ "/" step ]                          number alone, a step
#
# A step counts from the range's beginning: */25 is 0, 25, 50, and then 0
# again, for a field knows nothing of the field beside it.

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
WEEKDAYS = "sun mon tue wed thu fri sat".split()

CRON_FIELDS = (("minute", 0, 59, []), ("hour", 0, 23, []),
               ("day of month", 1, 31, []), ("month", 1, 12, MONTHS),
               ("weekday", 0, 7, WEEKDAYS))

CRON_MACROS = {"@hourly": "0 * * * *", "@daily": "0 0 * * *",
               "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
               "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *",
               "@annually": "0 0 1 1 *"}


class Cron(typing.NamedTuple):
    """A cron expression, understood."""
    minutes: frozenset
    hours: frozenset
    days: frozenset
    months: frozenset
    weekdays: frozenset         # 0 to 6, Sunday is 0
    either: bool                # a day matches by its date or its weekday
    wild: bool                  # minute or hour begins with *: see 11.2


def cron_text(text):
    """Write an expression as five fields; not every cron knows the others.

    >>> cron_text(" @Daily "), cron_text("*/5  * * * *")
    ('0 0 * * *', '*/5 * * * *')
    """
    return " ".join(CRON_MACROS.get(text.strip().lower(), text).split())


def cron_number(text, name, low, high, words):
    """Read a number, or a month or weekday by name.

    >>> cron_number("dec", "month", 1, 12, MONTHS)
    12
    """
    if text.lower() in words:
        return words.index(text.lower()) + low
    if not re.fullmatch("[0-9]{1,4}", text, re.ASCII) or not (
            low <= int(text) <= high):
        raise FaasError("bad_input", f"Invalid cron expression: the {name} "
                        f"{text[:20]!r} is not within {low}-{high}")
    return int(text)


def cron_field(field, name, low, high, words):
    """Give the numbers of one field.

    >>> sorted(cron_field("jan,6-8", "month", 1, 12, MONTHS))
    [1, 6, 7, 8]
    """
    numbers = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = cron_number(first, name, low, high, words)
            end = cron_number(last, name, low, high, words) if dash else begin
        if begin > end:
            raise FaasError("bad_input", f"Invalid cron expression: the "
                            f"{name} range {span[:20]!r} goes backwards; "
                            "write it as two")
        if slash and (not re.fullmatch("[1-9][0-9]{0,3}", step) or
                      not dash and span != "*"):
            raise FaasError("bad_input", f"Invalid cron expression: the "
                            f"{name} step in {part[:20]!r} needs a range "
                            "before and a number after it")
        numbers.update(range(begin, end + 1, int(step or 1)))
    return numbers


def cron_parse(text):
    """Understand a cron expression.

    >>> sorted(cron_parse("*/25 9-17/4 * * mon").minutes)
    [0, 25, 50]
    >>> cron_parse("61 * * * *")
    Traceback (most recent call last):
    ...
    faas.FaasError: Invalid cron expression: the minute '61' is not within \
0-59

    Errors: FaasError bad_input. Source: crontab(5) of Vixie cron.
    """
    if "\n" in text or "\r" in text:
        raise FaasError("bad_input", "Invalid cron expression: it has more "
                        "than one line")
    fields = cron_text(text).split()
    if len(fields) != 5:
        raise FaasError("bad_input", "Invalid cron expression: it has "
                        f"{len(fields)} fields instead of minute, hour, day "
                        "of month, month and weekday")
    minutes, hours, days, months, weekdays = (
        frozenset(cron_field(field, *rule))
        for field, rule in zip(fields, CRON_FIELDS))
    star = [field.startswith("*") for field in fields]
    # Vixie cron: where both days are restricted, either of them will do.
    return Cron(minutes, hours, days, months,
                frozenset(day % 7 for day in weekdays),
                not star[2] and not star[4], star[0] or star[1])


# 11.2 The next time ---------------------------------------------------------
#
# An expression speaks of the clock on the wall, and twice a year that clock
# is moved. What Vixie cron does about it (cron(8)), and so do we:
#
#                                 2:30 each day      every 15 minutes
#       2:00 becomes 3:00         at 3:00            goes on at 3:00
#       3:00 becomes 2:00         once               all the time
#
# Wall time and instants are turned into each other by datetime, where `fold`
# says which of two equal readings of the clock is meant (PEP 495).


def day_matches(cron, date):
    """Tell whether a cron expression can fire on a date.

    >>> friday_13 = cron_parse("0 0 13 * fri")      # the 13th, or a Friday
    >>> [day for day in range(1, 32) if day_matches(
    ...     friday_13, datetime.date(2026, 11, min(day, 30)))][:5]
    [6, 13, 20, 27]
    """
    by_date = date.day in cron.days
    by_weekday = date.isoweekday() % 7 in cron.weekdays
    if date.month not in cron.months:
        return False
    return by_date or by_weekday if cron.either else by_date and by_weekday


def wall_of(instant, zone):
    """Give what a clock in `zone` shows at an instant.

    >>> str(wall_of(0, datetime.timezone.utc))
    '1970-01-01 00:00:00'
    """
    return datetime.datetime.fromtimestamp(instant, zone).replace(
        tzinfo=None, fold=0)


def instants_of(wall, zone, wild):
    """Give the instants at which a job for this wall time fires.

    >>> import zoneinfo
    >>> berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    >>> gap = datetime.datetime(2026, 3, 29, 2, 30)       # 2:00 is 3:00
    >>> [str(wall_of(t, berlin)) for t in instants_of(gap, berlin, False)]
    ['2026-03-29 03:00:00']
    >>> twice = datetime.datetime(2026, 10, 25, 2, 30)    # 3:00 is 2:00
    >>> [len(instants_of(twice, berlin, wild)) for wild in (False, True)]
    [1, 2]
    """
    first, second = (wall.replace(tzinfo=zone, fold=fold).timestamp()
                     for fold in (0, 1))
    if wall_of(first, zone) == wall:
        return [first] if first == second or not wild else [first, second]
    if wild:
        return []
    # In a gap, fold 1 reckons with the offset after it, and so comes out
    # before it: from there, minute by minute, to where the clock has jumped.
    while wall_of(second, zone) < wall:
        second += 60
    return [second]


def cron_next(cron, after, zone=None):
    """Give the first instant after `after` at which a job fires, or None.

    Instants are seconds since 1970; `zone` is a tzinfo, or None for this
    machine's own zone.

    >>> utc = datetime.timezone.utc
    >>> leap = cron_next(cron_parse("0 12 29 2 *"), 1e9, utc)
    >>> str(wall_of(leap, utc))
    '2004-02-29 12:00:00'
    """
    # No clock was ever moved by more than 3 hours (except over the date line),
    # so nothing that the clock showed 3 hours ago can come again.
    wall = wall_of(after, zone) - datetime.timedelta(hours=3)
    hour = wall.replace(minute=0, second=0, microsecond=0)
    found, last = None, hour + datetime.timedelta(days=8 * 366 + 2)
    while hour < last:                  # 29 February may be 8 years away
        if not day_matches(cron, hour):
            hour = hour.replace(hour=0) + datetime.timedelta(days=1)
            continue
        if hour.hour in cron.hours:
            fires = [instant for minute in cron.minutes for instant in
                     instants_of(hour.replace(minute=minute), zone, cron.wild)
                     if instant > after]
            found = min([*fires, *([found] if found else [])], default=None)
        if found and hour > wall_of(found, zone) + datetime.timedelta(hours=3):
            return found
        hour += datetime.timedelta(hours=1)
    return found


# 11.3 Writing a crontab -----------------------------------------------------
#
# The crontab is the user's. We own the lines between two markers, and not one
# byte more (promise S5). The markers name the data folder, so two platforms
# on one machine keep out of each other's lines:
#
#       # BEGIN faas.py /home/pi/data
#       */5 * * * * /usr/bin/python3 /home/pi/faas.py invoke hello.py ...
#       # END faas.py /home/pi/data
#
# Two traps of crontab(5): a % in a command is a line break, and a command
# may have 999 characters. Vixie cron takes \% for a %; busybox does not, so
# a % is refused where it would be ours to write.

MAX_CRON_LINE = 990         # Vixie cron's own bound is 999, for the command


def cron_line(expression, argv):
    """Make the crontab line that runs `argv`.

    >>> cron_line("@daily", ["/usr/bin/python3", "/srv/my faas.py"])
    "@daily /usr/bin/python3 '/srv/my faas.py' >/dev/null 2>&1"

    Errors: FaasError bad_input, for what no crontab line can hold.
    """
    line = f"{expression} {shlex.join(argv)} >/dev/null 2>&1"
    if "%" in line or not line.isprintable() or len(line) > MAX_CRON_LINE:
        raise FaasError("bad_input", "cron cannot take this line, for it is "
                        f"longer than {MAX_CRON_LINE} characters or has a % "
                        f"in it: {line[:200]}")
    return line


def crontab_with(crontab, owner, lines):
    """Give a crontab with `owner`'s block replaced by `lines`, as bytes.

    >>> crontab_with(b"MAILTO=me\\n", "/d", ["@daily true"]).decode()
    'MAILTO=me\\n# BEGIN faas.py /d\\n@daily true\\n# END faas.py /d\\n'
    >>> crontab_with(_.encode(), "/d", [])
    b'MAILTO=me\\n'

    Errors: FaasError conflict, where somebody has broken the block.
    """
    begin, end = (f"# {word} faas.py {owner}\n".encode()
                  for word in ("BEGIN", "END"))
    block = b"".join([begin, *(line.encode() + b"\n" for line in lines), end]
                     ) if lines else b""
    rows = crontab.splitlines(keepends=True)
    if begin not in rows and end not in rows:
        if block and rows and not crontab.endswith(b"\n"):
            block = b"\n" + block
        return crontab + block
    if rows.count(begin) != 1 or rows.count(end) != 1 or (
            rows.index(begin) > rows.index(end)):
        raise FaasError("conflict", "the crontab has our markers in disorder:"
                        f" repair the lines {begin.decode().strip()!r} and "
                        f"{end.decode().strip()!r} by hand")
    before, after = rows[:rows.index(begin)], rows[rows.index(end) + 1:]
    return b"".join(before) + block + b"".join(after)


# SHELL.


def have_crontab():
    """Tell whether this machine has the command crontab."""
    import shutil
    return shutil.which("crontab") is not None


def crontab_run(*arguments, text=b""):
    try:
        return subprocess.run(["crontab", *arguments], input=text,
                              capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FaasError("unavailable", "the command crontab does not work: "
                        f"{error}") from None


def crontab_rewrite(owner, lines):
    """Put our lines into the user's crontab; nothing, if they are there."""
    old = crontab_run("-l")
    if old.returncode and b"no crontab" not in old.stderr:
        raise FaasError("unavailable", "crontab -l says: "
                        + old.stderr.decode("utf-8", "replace").strip())
    new = crontab_with(old.stdout, owner, lines)
    if new == old.stdout:
        return
    done = crontab_run("-", text=new)
    if done.returncode:
        raise FaasError("bad_input", "crontab refuses our lines: "
                        + done.stderr.decode("utf-8", "replace").strip())


# 11.4 SHELL: schedules ------------------------------------------------------
#
#       cron ----> python3 faas.py invoke hello.py --trigger cron
#                     |
#                     |  a platform runs on this data folder?
#                     |
#                     +-- yes: POST /-/functions/hello.py/run?trigger=cron
#                     +-- no:  be the platform for the length of this call
#
# Either way the run passes the waist: it has its limits, its line in the log
# and its row among the executions, with the trigger "cron".
#
# A schedule is a row; crontab lines are made from the rows, never read back.
# A run that is still going when the next is due makes the next one skip:
# otherwise a job that once takes longer than its period soon runs a hundred
# times. There is no other rule. A lock on a file tells, because the run before
# may be another process's: the kernel lets go of it when that process ends,
# however it ends. Skipped is no failure of the function, so the row says
# "skipped"; whoever asked for the run is told "conflict".

SCHEDULE_TABLE = """
CREATE TABLE IF NOT EXISTS schedules (
    function TEXT PRIMARY KEY, expression TEXT NOT NULL);
"""


class Schedules:
    """Who is called when; at most one schedule a function.

    `argv_of(name)` gives the command for the crontab; without it the clock
    thread of start_clock() is the one that calls.
    """

    def __init__(self, platform, argv_of=None):
        self.platform, self.argv_of = platform, argv_of
        self.turn, self.stopped = threading.RLock(), threading.Event()
        self.thread = None
        self.database = open_database(
            os.path.join(platform.data, "faas.db"), SCHEDULE_TABLE)
        self.locks = os.path.join(platform.data, "locks")
        os.makedirs(self.locks, exist_ok=True)

    def all(self):
        """Give every schedule, as a dict of function and expression."""
        with self.turn:
            return dict(self.database.execute(
                "SELECT * FROM schedules ORDER BY function"))

    def put(self, name, expression):
        """Set a function's schedule.

        Errors: FaasError bad_input, not_found; those of the crontab.
        """
        self.check(expression)
        expression = cron_text(expression)
        try:
            self.platform.find(name)
        except FaasError as error:
            if error.kind != "not_found":
                raise
            raise FaasError("not_found", "Function not found for scheduling"
                            ) from None
        self.change("INSERT OR REPLACE INTO schedules VALUES (?, ?)",
                    (name, expression))

    def remove(self, name):
        """Remove a function's schedule. Errors: FaasError not_found."""
        if not self.change("DELETE FROM schedules WHERE function=?", (name,)):
            raise FaasError("not_found", f"{name[:64]} has no schedule")

    def check(self, expression):
        """Refuse what never fires. Errors: FaasError bad_input."""
        if cron_next(cron_parse(expression), time.time()) is None:
            raise FaasError("bad_input", "Invalid cron expression: this date "
                            "never comes")

    def next_run(self, expression, now):
        """Give the instant at which an expression fires next, or None."""
        return cron_next(cron_parse(expression), now)

    def forget(self, name):
        """Remove a function's schedule, if it has one."""
        with contextlib.suppress(FaasError):
            self.remove(name)

    def change(self, statement, values):
        """Change the rows and the crontab, both or none.

        The crontab first: it may refuse, or take its time, and the database
        must not be locked for others while it does.
        """
        with self.turn:
            with self.database as database:
                changed = database.execute(statement, values).rowcount
                wanted = self.all()
                database.rollback()
            self.write_crontab(wanted)
            with self.database as database:
                database.execute(statement, values)
        return changed

    def write_crontab(self, wanted=None):
        """Make the crontab say what the rows say, or what they will."""
        if self.argv_of:
            crontab_rewrite(self.platform.data, [
                cron_line(expression, self.argv_of(name)) for
                name, expression in (self.all() if wanted is None else
                                     wanted).items()])

    def fire(self, name):
        """Run a function because it is time; give the Result."""
        call = Call(name, headers={"X-Trigger": "cron"}, trigger="cron")
        try:
            name = self.platform.find(name).fn.name
        except FaasError:
            return whole(self.platform.invoke(call))    # It remembers why.
        with open(os.path.join(self.locks, name), "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return self.skip(name)
            return whole(self.platform.invoke(call))

    def skip(self, name):
        now = time.time()
        sentence = "skipped, because the run before it is still going"
        self.platform.journal.record(Execution(
            new_id(now), name, 0, "cron", now, 0.0, "", "skipped", 0, 0,
            sentence))
        return Result("conflict", sentence=sentence)

    # The clock, where there is no cron. It wakes once a minute, and asks for
    # what has become due since it last looked; after a sleep of the machine
    # that is at most one run of each, for the past is past.

    def due(self, last, now):
        """List the functions that fire after `last` and up to `now`."""
        return [name for name, expression in self.all().items()
                if (cron_next(cron_parse(expression), last) or now + 1) <= now]

    def start_clock(self):
        self.thread = threading.Thread(target=self.clock, name="clock",
                                       daemon=True)
        self.thread.start()

    def clock(self):
        last = time.time()
        while not self.stopped.wait(60.02 - time.time() % 60):
            now = time.time()
            try:
                for name in self.due(max(last, now - 90), now):
                    threading.Thread(target=self.fire, args=(name,)).start()
            except (FaasError, sqlite3.Error, RuntimeError) as error:
                complain(f"schedules missed a minute: {error}")
            last = now

    def close(self):
        self.stopped.set()
        if self.thread:
            self.thread.join()
        self.database.close()


# Try it ---------------------------------------------------------------------
#   >>> utc = datetime.timezone.utc
#   >>> def next_of(text): return str(wall_of(cron_next(cron_parse(text), 0,
#   ...                                                 utc), utc))
#   >>> next_of("0 0 31 * *"), next_of("0 0 13 * fri")   # not the 13th?
#   ('1970-01-31 00:00:00', '1970-01-02 00:00:00')
#   >>> cron_next(cron_parse("0 0 30 feb *"), 0) is None
#   True
#
# Roads not taken ------------------------------------------------------------
#   A thread that keeps all schedules, everywhere: it dies with the platform;
#     cron runs the job all the same, in a process of its own.
#   systemd timers: better in many ways, absent on many machines, and two
#     files per schedule.
#   Catching up after a night's sleep: anacron's subject. A backup wants it, a
#     good-morning mail does not, and five fields cannot say which.
#
# Real world -----------------------------------------------------------------
#   EventBridge Scheduler adds a year field and time zones, and may call twice
#   ("at least once"). Kubernetes' CronJob lets one choose about overlap:
#   Allow, Forbid or Replace; here it is Forbid.

# ============================================================================
# Chapter 14. The CoAP door: what fits into 32 bytes?
# ============================================================================
#
# A sensor on a coin cell sleeps for an hour, wakes, says "21.5" and sleeps
# again. Its radio carries frames of 127 bytes, and every frame that is sent or
# listened for is life that is gone. TCP would cost it three packets before the
# first byte and several more to say goodbye, and HTTP's head alone fills the
# frame. So in 2014 the Constrained Application Protocol (RFC 7252) put what
# HTTP means into UDP datagrams: a method, a path, a status, a body. One call,
# all of it, in 32 bytes:
#
#     42 02 7d 34 4a 71  b5 73 68 6f 75 74  ff  68 65 6c 6c 6f        18 bytes
#     |     |     |      |                  |   "hello"
#     POST  mid   token  /shout             what follows is the body
#
#     62 44 7d 34 4a 71  c0 20  ff  48 45 4c 4c 4f                    14 bytes
#     |     |     |      |  |       "HELLO"
#     2.04  mid   token  |  do not cache it
#                        plain text
#
# UDP may lose a datagram, bring it twice, or bring it after the next one, and
# it says nothing true about who sent it. What TCP did about all that is now
# done here, and the chapter goes through it in layers. Each one is a machine
# without a socket or a clock: it is told what came and what time it is.
#
#       receive(datagram) -> 14.1 messages   what the bytes say
#                            14.2 options    what the question is
#                            14.3 memory     was this asked before?
#                            14.4 blocks     bodies larger than a datagram
#                            14.5 observers  who wants to hear of the next one
#                            14.6 budgets    whom does an answer really reach?
#       take() <------------ 14.7 the endpoint: all of them together
#
#   Vocabulary   mid       a message's number, chosen by its sender  0x7d34
#                token     what ties an answer to its question       4a 71
#                peer      an address, as the socket gives it  ("::1", 9, 0, 0)
#                exchange  one question until its answer is forgotten
#
# A question is here what the RFC calls a request, and not one of the title
# page, which a function asks the platform.
#
# Promised: nothing.

import heapq

# 14.1 Messages --------------------------------------------------------------
#
# All messages, in both directions, have one form (RFC 7252, section 3):
#
#     0               1               2               3
#     0 1 2 3 4 5 6 7 0 1 2 3 4 5 6 7 0 1 2 3 4 5 6 7 0 1 2 3 4 5 6 7
#    +---+---+-------+-----+---------+-------------------------------+
#    | 1 | T |  TKL  |class| detail  |              mid              |
#    +---+---+-------+-----+---------+-------------------------------+
#    |   token, TKL bytes (0 to 8)   |   options                     |
#    +---------------+---------------+-------------------------------+
#    |1 1 1 1 1 1 1 1|   payload, to the datagram's end              |
#    +---------------+-----------------------------------------------+
#
#    T   0 CON   confirmable: say it again until it is acknowledged
#        1 NON   not confirmable: said once
#        2 ACK   a CON with this mid has come; may carry the answer
#        3 RST   a message with this mid has come, and means nothing here
#
# Class and detail are the code: 0.02 is POST, 2.04 "changed", 4.04 is what one
# thinks. 0.00 is the empty message: 4 bytes, and nothing may follow them.
#
# Options are sorted by number, and each one gives the distance to the number
# before it, which is small. So distance and length share a byte; what does
# not fit there follows it:
#
#     0 1 2 3 4 5 6 7          nibble    means               bytes that follow
#    +-------+-------+         0 to 12   itself              none
#    | delta |length |         13        13 to 268           1: the value - 13
#    +-------+-------+         14        269 to 65,804       2: the value - 269
#                              15        in both: a payload begins; in one of
#                                        them: no message
#
# Worked by hand, RFC 7252's own first example (figure 16), GET /temperature:
#
#    40                          version 1, CON, a token of 0 bytes
#    01                          0.01, GET
#    7d 34                       mid
#    bb 74 65 6d ... 72 65       option 0 + 11, Uri-Path, of 11 bytes

COAP_CON, COAP_NON, COAP_ACK, COAP_RST = range(4)


class CoapMessage(typing.NamedTuple):
    """One datagram; `options` are pairs of a number and bytes."""
    kind: int                   # COAP_CON, ...
    code: int                   # 0x45 is 2.05
    mid: int
    token: bytes = b""
    options: tuple = ()
    payload: bytes = b""


class CoapError(Exception):
    """The bytes are no message: `kind` and `mid` tell whom to say so.

    A CON is answered by a RST with its mid; anything else, and a datagram too
    short or of another version (kind None), by silence (RFC 7252, 4.2, 4.3).
    """
    kind, mid = None, 0


def coap_code(text):
    """Turn a code as people write it into the byte that is sent.

    >>> hex(coap_code("2.05")), coap_code_text(0x45)
    ('0x45', '2.05')
    """
    group, _, detail = text.partition(".")
    return int(group) << 5 | int(detail)


def coap_code_text(code):
    """Turn the byte of a code into what people write."""
    return f"{code >> 5}.{code & 31:02}"


def coap_decode(data):
    """Turn a datagram into a CoapMessage.

    >>> message = coap_decode(bytes.fromhex(
    ...     "40 01 7d 34 bb 74 65 6d 70 65 72 61 74 75 72 65"))
    >>> message.kind, message.code, hex(message.mid), message.options
    (0, 1, '0x7d34', ((11, b'temperature'),))
    >>> coap_decode(bytes.fromhex("60 45 7d 34 ff 32 32 2e 33 20 43")).payload
    b'22.3 C'

    Errors: CoapError. Source: RFC 7252, section 3.
    """
    if len(data) < 4 or data[0] >> 6 != 1:
        raise CoapError("a datagram of version 1 has 4 bytes or more")
    kind, code, mid = data[0] >> 4 & 3, data[1], data[2] << 8 | data[3]
    at = 4 + (data[0] & 15)
    try:
        if at > min(12, len(data)):
            raise CoapError("the token is longer than 8 bytes, or cut")
        if code == 0 and len(data) > 4:
            raise CoapError("something follows an empty message")
        if code >> 5 in (1, 6, 7):
            raise CoapError("the code is of a reserved class")
        options, payload = coap_decode_rest(data, at)
    except CoapError as error:
        error.kind, error.mid = kind, mid
        raise
    return CoapMessage(kind, code, mid, data[4:at], options, payload)


COAP_MOST_OPTIONS = 256     # of one message: 65 kB could be 65,000 empty ones,
                            # and a tenth of a second


def coap_decode_rest(data, at):
    """Read options and payload from `at` on.

    >>> coap_decode_rest(bytes.fromhex("c1 32  e1 fe e5 7a  ff 78"), 0)
    (((12, b'2'), (65534, b'z')), b'x')
    """
    options, number, size = [], 0, len(data)
    while at < size and data[at] != 0xff:
        if len(options) == COAP_MOST_OPTIONS:
            raise CoapError(f"there are more than {COAP_MOST_OPTIONS} options")
        delta, length = data[at] >> 4, data[at] & 15
        at += 1
        if delta > 12:
            delta, at = coap_extended(data, at, delta)
        if length > 12:
            length, at = coap_extended(data, at, length)
        number += delta
        if at + length > size or number > 0xffff:
            raise CoapError("an option is cut, or its number has 17 bits")
        options.append((number, data[at:at + length]))
        at += length
    if at == size - 1:
        raise CoapError("no payload follows the byte that announces one")
    return tuple(options), data[at + 1:]


def coap_extended(data, at, nibble):
    """Read what a nibble of 13 to 15 stands for; give it and its end.

    >>> coap_extended(b"\\xff", 0, 13), coap_extended(b"\\0\\0", 0, 14)
    ((268, 1), (269, 2))

    Where the bytes are cut, that end lies behind the datagram's.
    """
    if nibble == 15:
        raise CoapError("a nibble is 15, and begins no payload")
    end = at + nibble - 12
    return int.from_bytes(data[at:end], "big") + (13, 269)[nibble - 13], end


def coap_encode(message):
    """Turn a CoapMessage into a datagram; its options may be in any order.

    >>> coap_encode(CoapMessage(COAP_ACK, coap_code("2.04"), 0x7d34, b"Jq", (
    ...     (14, b""), (12, b"")), b"HELLO")).hex(" ")
    '62 44 7d 34 4a 71 c0 20 ff 48 45 4c 4c 4f'
    """
    kind, code, mid, token, options, payload = message
    parts = [bytes((0x40 | kind << 4 | len(token), code, mid >> 8, mid & 255)),
             token]
    before = 0
    # Repeated options are a list, so those of one number keep their order.
    for number, value in sorted(options, key=lambda option: option[0]):
        high, delta = coap_nibble(number - before)
        low, length = coap_nibble(len(value))
        parts += bytes((high << 4 | low,)), delta, length, value
        before = number
    if payload:
        parts += b"\xff", payload
    return b"".join(parts)


def coap_nibble(value):
    """Give the nibble that stands for a delta or length, and what follows.

    >>> coap_nibble(12), coap_nibble(13), coap_nibble(269)
    ((12, b''), (13, b'\\x00'), (14, b'\\x00\\x00'))
    """
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes((value - 13,))
    return 14, (value - 269).to_bytes(2, "big")


# 14.2 Options ---------------------------------------------------------------
#
# The lowest bits of an option's number say what to do where it is unknown
# (RFC 7252, 5.4.1, 5.4.6):
#
#      15 ... 5 4 3 2 1 0
#    +---------+-----+-+-+
#    |         |NoKey|U|C|     C  1: critical, refuse the question with 4.02;
#    +---------+-----+-+-+           of a NON, drop it
#                                 0: elective, read on as if it were not there
#                              U  1: a proxy must not pass it on unread
#              NoKey and U, bits 4 to 1, are 1110: questions that differ in
#              nothing but this option are the same question
#
# So a server may know few options and still be right. This table is what we
# know. An option that is longer or shorter than it may be, or stands there
# twice and may not, counts as unknown (5.4.3, 5.4.5).
#
# Two critical ones are missing on purpose. If-Match (1) and If-None-Match (5)
# ask about the state of a resource before they change it; what a function
# answered last is no state that a condition could be about. A client that
# sends them hears 4.02, instead of a promise that nobody keeps.


class CoapOption(typing.NamedTuple):
    """What may stand in an option."""
    name: str
    format: str                 # a key of COAP_FORMATS
    least: int                  # bytes
    most: int
    repeatable: bool = False


COAP_OPTIONS = {
    3: CoapOption("Uri-Host", "string", 1, 255),
    4: CoapOption("ETag", "opaque", 1, 8, True),
    6: CoapOption("Observe", "uint", 0, 3),                 # RFC 7641
    7: CoapOption("Uri-Port", "uint", 0, 2),
    8: CoapOption("Location-Path", "string", 0, 255, True),
    11: CoapOption("Uri-Path", "string", 0, 255, True),
    12: CoapOption("Content-Format", "uint", 0, 2),
    14: CoapOption("Max-Age", "uint", 0, 4),
    15: CoapOption("Uri-Query", "string", 0, 255, True),
    17: CoapOption("Accept", "uint", 0, 2),
    20: CoapOption("Location-Query", "string", 0, 255, True),
    23: CoapOption("Block2", "block", 0, 3),                # RFC 7959
    27: CoapOption("Block1", "block", 0, 3),
    28: CoapOption("Size2", "uint", 0, 4),
    35: CoapOption("Proxy-Uri", "string", 1, 1034),
    39: CoapOption("Proxy-Scheme", "string", 1, 255),
    60: CoapOption("Size1", "uint", 0, 4),
    292: CoapOption("Request-Tag", "opaque", 0, 8, True),   # RFC 9175
}

(COAP_ETAG, COAP_OBSERVE, COAP_PATH, COAP_CONTENT_FORMAT, COAP_MAX_AGE,
 COAP_QUERY, COAP_ACCEPT, COAP_BLOCK2, COAP_BLOCK1, COAP_SIZE2, COAP_PROXY_URI,
 COAP_PROXY_SCHEME, COAP_SIZE1) = (
    4, 6, 11, 12, 14, 15, 17, 23, 27, 28, 35, 39, 60)


class CoapRefusal(Exception):
    """A question that is answered with an error; the sentence goes along."""

    def __init__(self, code, sentence, options=()):
        super().__init__(sentence)
        self.code, self.options = code, options


def coap_uint(number):
    """Spell a number in as few bytes as it needs, 0 in none (RFC 7252, 3.2).

    >>> coap_uint(0), coap_uint(60), coap_uint(256)
    (b'', b'<', b'\\x01\\x00')
    """
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


# A body larger than a datagram goes in blocks (14.4), and a block's option is
# a uint that says which one it is (RFC 7959, 2.2):
#
#     0 to 20 bits   1   3
#    +-------------+---+-----+
#    |     NUM     | M | SZX |    M    1: more blocks follow
#    +-------------+---+-----+    SZX  0 to 6: blocks of 16 to 1,024 bytes; 7:
#                                      refused with 4.00
#
# fa is 1111 1 010: block 15 of 64 bytes, and more follow; it stands for the
# bytes 960 to 1,023. An option of no bytes is block 0 of 16 bytes.


class CoapBlock(typing.NamedTuple):
    """The value of Block1 or Block2.

    >>> block = coap_block_decode(bytes.fromhex("fa"))
    >>> block, block.start, block.size
    (CoapBlock(num=15, more=True, szx=2), 960, 64)
    >>> block.encode().hex()
    'fa'
    """
    num: int
    more: bool
    szx: int

    @property
    def size(self):
        return 16 << self.szx

    @property
    def start(self):
        """Give the place of its first byte in the body."""
        return self.num << self.szx + 4

    def encode(self):
        """Give the value of the option, as short as it can be."""
        return coap_uint(self.num << 4 | self.more << 3 | self.szx)


def coap_block_decode(value):
    """Read the value of a Block option.

    Errors: CoapRefusal 4.00, where it has no size, or more than 3 bytes.
    """
    number = int.from_bytes(value, "big")
    if number & 7 == 7 or len(value) > 3:
        raise CoapRefusal("4.00", "a block has a size exponent of 0 to 6, and "
                          "a number of at most 20 bits")
    return CoapBlock(number >> 4, bool(number & 8), number & 7)


COAP_FORMATS = {
    "string": bytes.decode, "uint": lambda value: int.from_bytes(value, "big"),
    "opaque": bytes, "block": coap_block_decode}


def coap_read_options(options):
    """Give {number: value} of the options that are known.

    Of one that may be repeated the value is a list.

    >>> coap_read_options(((11, b"a"), (11, b"b"), (12, b"2"), (2050, b"?")))
    {11: ['a', 'b'], 12: 50}
    >>> coap_read_options(((9, b""),))
    Traceback (most recent call last):
    ...
    faas.CoapRefusal: option 9 is critical, and unknown here or malformed

    Errors: CoapRefusal.
    """
    values = {}
    for number, value in options:
        rule = COAP_OPTIONS.get(number)
        try:
            if (rule is None or not rule.least <= len(value) <= rule.most
                    or number in values and not rule.repeatable):
                raise ValueError
            value = COAP_FORMATS[rule.format](value)
        except ValueError:              # UnicodeDecodeError is one, too
            if number & 1:
                raise CoapRefusal("4.02", f"option {number} is critical, and "
                                  "unknown here or malformed") from None
            continue
        if rule.repeatable:
            values.setdefault(number, []).append(value)
        else:
            values[number] = value
    return values


def coap_question(message):
    """Give what two messages about the same body have in common.

    Blocks of one body come with tokens of their own, so that they cannot be
    tied together by these. What ties them is that they ask the same question
    (RFC 7959, 2.4, 2.5): code and options, without the Block options and those
    that the number marks as no key. Observe is about the future (RFC 7641, 2),
    and an ETag about a past answer; neither belongs to the question. It is
    kept as a hash, for options can have 60 kB; Python's has a secret of the
    process in it (PEP 456).

    >>> first = CoapMessage(0, 1, 7, b"a", ((11, b"f"), (23, b"\\x06")))
    >>> later = CoapMessage(0, 1, 8, b"b", ((11, b"f"), (23, b"\\x16")))
    >>> coap_question(first) == coap_question(later)
    True
    """
    return hash((message.code, *(
        option for option in message.options
        if option[0] & 0x1e != 0x1c
        and option[0] not in (COAP_ETAG, COAP_OBSERVE, COAP_BLOCK1,
                              COAP_BLOCK2))))


# 14.3 Memory ----------------------------------------------------------------
#
# A CON is repeated until something comes back. So a naive server, which runs
# the function for each datagram, runs it twice where only the answer was lost
# (tinyFaaS does), and the POST that turns a valve turns it twice.
#
#      client                     server
#        | -- CON 7d34 POST -------> |  runs the function
#        |        x  <- ACK 7d34 --- |  lost
#        |  2 to 3 s of silence      |
#        | -- CON 7d34 POST -------> |  the same mid from the same peer: the
#        | <------------ ACK 7d34 -- |  same bytes again, and no second run
#
# What was answered is therefore remembered for as long as a repetition may
# still be under way, 247 s with RFC 7252's numbers (4.8.2); of a NON, which is
# repeated by the network only, 145 s, and a duplicate is then met with silence
# (4.5).
#
# A mid has 16 bits, and a client with 4,000 calls a second is through with all
# of them in 16 s. It ought to wait for 247 s before it takes one again (4.4),
# which allows 265 a second; this one does not. But a repetition is the same
# datagram, byte for byte (4.2), so other bytes under an old mid are a new
# question.

COAP_EXCHANGE_LIFETIME = 247.0      # s
COAP_NON_LIFETIME = 145.0           # s
COAP_MEMORY = 8192                  # exchanges; with answers of 1 kB, 15 MB
COAP_MEMORY_OF_PEER = 1024          # of these: one peer does not push out all,
                                    # and at 265 a second each stays 4 s, which
                                    # is past the first repetition


class CoapExchange:
    """One question until its answer is forgotten; a handle to answer it."""

    #    message    what was asked; None once it is answered
    #    said       what a duplicate is told: an empty ACK, or the answer
    #    asked      the size of the question, in bytes
    #    reserved   bytes of the peer's budget (14.6) put aside for the answer
    #    observe    0: wants to hear of what comes next (14.5)
    #    block1     what the answer's Block1 will be; block2, what was asked
    #    sized      whether the answer shall say how large all of it is

    __slots__ = ("peer", "mid", "kind", "message", "since", "hash", "said",
                 "asked", "reserved", "observe", "block1", "block2", "sized")

    def __init__(self, message, data, peer, now):
        self.peer, self.message = peer, message
        self.kind, self.mid = message.kind, message.mid
        self.since, self.hash, self.asked = now, hash(data), len(data)
        self.said = self.observe = self.block1 = self.block2 = None
        self.reserved, self.sized = 0, False

    def alive(self, now):
        """Tell whether a duplicate of it may still come."""
        return now - self.since < (COAP_EXCHANGE_LIFETIME if self.kind ==
                                   COAP_CON else COAP_NON_LIFETIME)


class CoapMemory:
    """The exchanges of the last minutes, bounded in number.

    >>> memory, ping = CoapMemory(), coap_decode(b"@\\1\\0\\7")
    >>> memory.add(CoapExchange(ping, b"@\\1\\0\\7", "peer", now=0.0))
    >>> memory.find("peer", 7, b"@\\1\\0\\7", now=246.0) is not None
    True
    >>> memory.find("peer", 7, b"@\\1\\0\\7", now=248.0) is None
    True
    """

    def __init__(self):
        self.exchanges = collections.OrderedDict()  # the oldest first
        self.mids = {}          # of each peer, the oldest first

    def find(self, peer, mid, data, now):
        """Give the exchange that this datagram is a duplicate of, or None."""
        known = self.exchanges.get((peer, mid))
        if known is None:
            return None
        if known.alive(now) and known.hash == hash(data):
            return known
        self.forget(peer, mid)
        return None

    def add(self, exchange):
        """Remember one; the oldest goes, of this peer or of all."""
        peer, mid = exchange.peer, exchange.mid
        mids = self.mids.setdefault(peer, [])
        mids.append(mid)
        self.exchanges[peer, mid] = exchange
        if len(mids) > COAP_MEMORY_OF_PEER:
            self.forget(peer, mids[0])
        elif len(self.exchanges) > COAP_MEMORY:
            self.forget(*next(iter(self.exchanges)))

    def forget(self, peer, mid):
        del self.exchanges[peer, mid]
        mids = self.mids[peer]
        mids.remove(mid)        # it is mostly the first
        if not mids:
            del self.mids[peer]

    def sweep(self, now):
        """Forget what is too old to be asked again; tell if any is left."""
        while self.exchanges:
            key, oldest = next(iter(self.exchanges.items()))
            if now - oldest.since < COAP_EXCHANGE_LIFETIME:
                return True
            self.forget(*key)
        return False


# A client waits 2 s before it asks again. A function that takes longer would
# have every question asked twice, and so after one second the peer is told
# that the question has arrived: an empty ACK. The answer, when it is there, is
# then a message of its own, with a mid of ours, and it is our turn to repeat
# (RFC 7252, 5.2.2 and 4.2):
#
#        | -- CON 7d38 token 53 --> |
#        | <-- ACK 7d38 ----------- |  after 1 s
#        |  x  <- CON ad7b token 53 |  the answer; lost
#        | <----- CON ad7b token 53 |  2 to 3 s later, then twice that, ...
#        | -- ACK ad7b -----------> |

COAP_PATIENCE = 1.0         # s until the empty ACK; half a client's patience
COAP_ACK_TIMEOUT = 2.0      # s until the first repetition, times 1 to 1.5, so
COAP_ACK_RANDOM = 0.5       # that those who lost together repeat apart
COAP_MAX_RETRANSMIT = 4     # repetitions, each after twice the time: 62 to 93
                            # s in all, and then the peer is gone (4.8.2)
COAP_UNDER_WAY = 2048       # CONs that wait for their ACK, with 1 kB each 2
                            # MB; past it, an answer goes as a NON, which
                            # 5.2.2 allows, and once


class CoapConfirmable:
    """One CON of ours that waits for its ACK."""

    __slots__ = ("peer", "mid", "data", "observer", "tries", "wait", "due")

    def __init__(self, peer, mid, data, observer, wait, due):
        self.peer, self.mid, self.data, self.observer = (
            peer, mid, data, observer)
        self.tries, self.wait, self.due = 0, wait, due


class CoapSender:
    """What has to be said again until it is acknowledged.

    >>> sender = CoapSender(random=lambda: 0.0)
    >>> con = sender.add("peer", 7, b"...", now=0.0)
    >>> [len(sender.overdue(now)) for now in (1.9, 2.0, 5.9, 6.0)]
    [0, 1, 0, 1]
    >>> sender.settle("peer", 7) is con, sender.settle("peer", 7)
    (True, None)

    `random()` gives a number from 0 to 1.
    """

    def __init__(self, random):
        self.random, self.waiting, self.serial = random, {}, itertools.count()
        self.queue = []         # a heap: (due, serial, CoapConfirmable)

    def add(self, peer, mid, data, now, observer=None):
        """Note a CON that was sent now; `observer` is who gets it."""
        wait = COAP_ACK_TIMEOUT * (1 + COAP_ACK_RANDOM * self.random())
        con = CoapConfirmable(peer, mid, data, observer, wait, now + wait)
        self.waiting[peer, mid] = con
        self.plan(con)
        return con

    def plan(self, con):
        heapq.heappush(self.queue, (con.due, next(self.serial), con))
        # What was settled stays in the heap until its time, with its bytes:
        # 10 MB at 4,000 a second. So it is thrown out where it is the most.
        if len(self.queue) > 64 + 2 * len(self.waiting):
            self.queue = [(con.due, next(self.serial), con)
                          for con in self.waiting.values()]
            heapq.heapify(self.queue)

    def settle(self, peer, mid):
        """Repeat this one no more; give it, or None."""
        return self.waiting.pop((peer, mid), None)

    def rename(self, con, mid, data):
        """Say something newer at the next repetition (RFC 7641, 4.5.2)."""
        self.settle(con.peer, con.mid)
        con.mid, con.data = mid, data
        self.waiting[con.peer, mid] = con

    def next_time(self):
        """Say when the next repetition is due, or None."""
        while self.queue and not self.current(*self.queue[0]):
            heapq.heappop(self.queue)
        return self.queue[0][0] if self.queue else None

    def current(self, due, _, con):
        """Tell whether what stands in the heap is still so."""
        return self.waiting.get((con.peer, con.mid)) is con and con.due == due

    def overdue(self, now):
        """Give those that are due: to say again, or with `tries` 5 give up."""
        found = []
        while (due := self.next_time()) is not None and due <= now:
            con = heapq.heappop(self.queue)[2]
            con.tries, con.wait = con.tries + 1, con.wait * 2
            con.due = now + con.wait
            found.append(con)
            if con.tries > COAP_MAX_RETRANSMIT:
                self.settle(con.peer, con.mid)
            else:
                self.plan(con)
        return found


# 14.4 Blocks ----------------------------------------------------------------
#
# A datagram of more than 1,280 bytes is cut into fragments on many an IPv6
# network (RFC 8200, 5), the loss of one is the loss of all, and a coin cell
# has no memory to put them together. RFC 7959 cuts bodies into blocks
# instead, each in a question and an answer of its own. A server that does not
# know of them runs its function on each block, and the client takes what was
# made of the first one for the whole: data is lost, and nobody is told
# (tinyFaaS, with every client). With them, the client drives:
#
#      up: Block1                          down: Block2
#      POST 1:0/1/1024 1,024 bytes ->      GET                          ->
#            <- 2.31 1:0/1/1024             <- 2.05 2:0/1/1024, ETag 9f
#      POST 1:1/0/1024 476 bytes ->        GET 2:1/0/1024               ->
#            <- 2.04 1:1/0/1024             <- 2.05 2:1/0/1024, ETag 9f
#
#      (1:0/1/1024 is Block1 with NUM 0, M 1, and the size that SZX means)
#
# In one call, the blocks down may follow the blocks up: the answer to the last
# one up is 2.04 1:1/0/1024 2:0/1/1024. In all cases the function runs once,
# behind the last block up and before the first one down.
#
# The memory for unfinished bodies is bounded, and so are their number and the
# time they may stand still: who begins a thousand bodies and ends none would
# own the server.

COAP_DATAGRAM = 1152            # bytes; RFC 7252, 4.6, from IPv6's 1,280
COAP_SZX = 6                    # our blocks: 1,024 bytes
COAP_ROOM = 48                  # head 4, token 8, 0xff 1, and the options that
                                # we add: Observe 4, ETag 9, Block2 5, Block1
                                # 5, Size2 6, with some to spare

COAP_UPLOADS = 1024             # bodies that are on their way up
COAP_UPLOADED = 16 << 20        # bytes of them: two as large as Limits.body
COAP_STALL = 4.0                # s of silence, after which one gives way if
                                # there are too many: a block and a repetition
COAP_SHARE = COAP_UPLOADED // COAP_UPLOADS      # 16 kB: a body that was only
                                # begun takes a place, which counts as much


def coap_too_large(most):
    """Refuse a body of more than `most` bytes (RFC 7959, 2.9.3)."""
    return CoapRefusal("4.13", f"the body may have {most} bytes",
                       ((COAP_SIZE1, coap_uint(most)),))


class CoapUpload:
    """The part of a body that is here, and when its last block came."""

    __slots__ = ("body", "since")

    def __init__(self, now):
        self.body, self.since = bytearray(), now


class CoapUploads:
    """Bodies that come in blocks, by peer and question.

    >>> uploads = CoapUploads()
    >>> uploads.take("key", CoapBlock(0, True, 0), b"16 bytes a block", 99, 0)
    >>> uploads.take("key", CoapBlock(1, False, 0), b", but the last", 99, 1)
    b'16 bytes a block, but the last'
    >>> uploads.take("key", CoapBlock(2, False, 0), b"what?", 99, 1)
    Traceback (most recent call last):
    ...
    faas.CoapRefusal: block 2 does not follow what is here; begin again \
with block 0

    The one whose last block is the oldest comes first in `bodies`.
    """

    def __init__(self):
        self.bodies, self.bytes = collections.OrderedDict(), 0

    def take(self, key, block, payload, most, now):
        """Take a block; give the body if it was the last, else None.

        Errors: CoapRefusal 4.00, 4.08, 4.13 or 5.03.
        """
        size = len(payload)
        if size > block.size or block.more and size < block.size:
            raise CoapRefusal("4.00", f"a block has {size} bytes, where its "
                              f"size is {block.size}")
        if block.num == 0:              # what was here was given up
            self.drop(key)
        upload = self.bodies.get(key) if block.num else CoapUpload(now)
        if upload is None or block.start != len(upload.body):
            raise CoapRefusal("4.08", f"block {block.num} does not follow "
                              "what is here; begin again with block 0")
        if block.start + size > most:
            self.drop(key)
            raise coap_too_large(most)
        if not block.more:
            self.drop(key)
            return bytes(upload.body) + payload
        upload.body += payload
        upload.since, self.bytes = now, self.bytes + size
        self.bodies[key] = upload
        self.bodies.move_to_end(key)
        self.make_room(key, now)
        return None

    def drop(self, key):
        upload = self.bodies.pop(key, None)
        self.bytes -= len(upload.body) if upload else 0

    def make_room(self, key, now):
        """Drop what stands still, or one peer's; else refuse `key`."""
        while len(self.bodies) > COAP_UPLOADS or self.bytes > COAP_UPLOADED:
            oldest = next(iter(self.bodies))
            if now - self.bodies[oldest].since < COAP_STALL:
                oldest = self.oldest_of_the_greedy(key[0])
            if oldest is None:
                self.drop(key)
                raise CoapRefusal("5.03", "too many bodies are on their way "
                                  "up", ((COAP_MAX_AGE, coap_uint(10)),))
            self.drop(oldest)

    def oldest_of_the_greedy(self, peer):
        """Give the oldest body of whoever has most, if that is far more.

        Else one peer that begins bodies and ends none keeps all others out.
        """
        room = collections.Counter()
        for (owner, *_), upload in self.bodies.items():
            room[owner] += COAP_SHARE + len(upload.body)
        greedy, most = room.most_common(1)[0]
        if most < 2 * room[peer]:
            return None
        return next(key for key in self.bodies if key[0] == greedy)

    def sweep(self, now):
        """Drop what will not be finished any more; tell if any is left."""
        while self.bodies:
            oldest = next(iter(self.bodies))
            if now - self.bodies[oldest].since < COAP_EXCHANGE_LIFETIME:
                return True
            self.drop(oldest)
        return False


# Downwards, what was answered is kept until its last block is fetched: the
# function has run, and running it again would give another body, of which the
# client would glue blocks to those of the first. Each block carries an ETag,
# so that a client sees if that happened nevertheless (RFC 7959, 2.4). Ours is
# a hash of the body: the same bytes have the same ETag, for as long as the
# platform runs.
#
# What if block 5 is asked for and nothing is kept, because it took too long,
# or because others needed the room?
#
#       GET               run the function again, and answer block 5 of that:
#                         a GET may be repeated, and the ETag tells
#       all others        4.08: the question's body did not come with it, and
#                         what changes something is not run twice

COAP_KEPT = 1024                # bodies that are on their way down
COAP_KEPT_BYTES = 16 << 20      # of them: two of the largest, Limits.output


class CoapRepresentation:
    """What a function has answered, to be given in blocks.

    >>> whole = CoapRepresentation(0x45, b"x" * 2000, ((12, b""),))
    >>> payload, options = whole.block(CoapBlock(1, False, 6))
    >>> len(payload), coap_block_decode(dict(options)[23])
    (976, CoapBlock(num=1, more=False, szx=6))
    >>> CoapRepresentation(0x45, b"hi", ()).block(None)
    (b'hi', [])

    Blocks have the size that is asked for, or less: with so many options that
    1,024 bytes would not fit beside them, the next smaller power of 2.
    """

    __slots__ = ("code", "payload", "options", "szx", "sentence", "holders")

    def __init__(self, code, payload, options):
        self.code, self.payload, self.options = code, payload, options
        room = COAP_DATAGRAM - COAP_ROOM - sum(
            [len(value) + 5 for _, value in options])
        self.szx = min(COAP_SZX, (max(0, room) >> 4).bit_length() - 1)
        if self.szx < 0:
            self.code, self.options, self.szx = coap_code("5.00"), (), COAP_SZX
            self.payload = b"the options of the answer fill a datagram"
        self.sentence = self.code >> 5 != 2 and not any(
            number == COAP_CONTENT_FORMAT for number, _ in self.options)
        if self.sentence:
            # It is for people, for want of a format (RFC 7252, 5.5.2), and
            # need not come in blocks; what is cut may not be half a character.
            cut = self.payload[:16 << self.szx]
            if len(cut) < len(self.payload):
                self.payload = cut.decode(errors="ignore").encode()
        self.holders = 0

    def size(self, asked):
        """Give the size that blocks have, where this block is asked for."""
        return 16 << min(asked.szx if asked else COAP_SZX, self.szx)

    def block(self, asked):
        """Give the payload and options of a block; of the first, for None.

        Errors: CoapRefusal 4.00 for one that is past the end.
        """
        if self.sentence:
            return self.payload, []
        start, size = asked.start if asked else 0, self.size(asked)
        if start and start >= len(self.payload):
            raise CoapRefusal("4.00", f"the body ends before byte {start}")
        if not asked and len(self.payload) <= size:
            return self.payload, []
        more = start + size < len(self.payload)
        block = CoapBlock(start // size, more, size.bit_length() - 5)
        options = [(COAP_BLOCK2, block.encode())]
        if len(self.payload) > size and not any(
                number == COAP_ETAG for number, _ in self.options):
            tag = hash(self.payload) & (1 << 64) - 1
            options.append((COAP_ETAG, tag.to_bytes(8, "big")))
        return self.payload[start:start + size], options


class CoapKept:
    """Representations that are being fetched; the least used go first.

    >>> kept = CoapKept()
    >>> kept.put("key", CoapRepresentation(0x45, b"body", ()), now=0.0)
    >>> kept.get("key", now=246.0).payload
    b'body'
    >>> kept.get("key", now=494.0) is None
    True

    Many observers may be fetching one and the same: it is counted once.
    """

    def __init__(self):
        self.entries, self.bytes = collections.OrderedDict(), 0

    def put(self, key, entire, now):
        """Keep a representation, and make room for it."""
        self.drop(key)
        self.entries[key] = now, entire
        self.bytes += 0 if entire.holders else len(entire.payload)
        entire.holders += 1
        while len(self.entries) > COAP_KEPT or self.bytes > COAP_KEPT_BYTES:
            self.drop(next(iter(self.entries)))

    def get(self, key, now):
        """Give one, or None; each use keeps it for longer."""
        since, entire = self.entries.get(key, (0, None))
        if entire is None or now - since >= COAP_EXCHANGE_LIFETIME:
            return None
        self.entries[key] = now, entire
        self.entries.move_to_end(key)
        return entire

    def drop(self, key):
        _, entire = self.entries.pop(key, (0, None))
        if entire:
            entire.holders -= 1
            self.bytes -= 0 if entire.holders else len(entire.payload)

    def sweep(self, now):
        """Drop what nobody fetches any more; tell if any is left."""
        while self.entries:
            key, (since, _) = next(iter(self.entries.items()))
            if now - since < COAP_EXCHANGE_LIFETIME:
                return True
            self.drop(key)
        return False


# 14.5 Observers -------------------------------------------------------------
#
# Who wants to know when a value changes would ask again and again, and keep
# both radios awake for "as before". A GET with the option Observe 0 asks once
# and is answered for as long as it likes (RFC 7641):
#
#      client                          server
#        | -- GET /t, Observe 0, token 4a ---> |   one more observer of t
#        | <-- 2.05 "18", Observe 9, token 4a  |
#        |                                     |   t gives "19"
#        | <-- CON 2.05 "19", Observe 12, 4a - |
#        | -- ACK ---------------------------> |   still there
#        |                                     |   t gives "20"
#        | <-- CON 2.05 "20", Observe 15, 4a - |
#        | -- RST ---------------------------> |   forgotten it: the end
#
# The number in the answer's Observe only says which of two is newer. It has
# 24 bits, and may be compared for 128 s (RFC 7641, 3.4); milliseconds do for
# that, they go on where they were when the server starts again, and two
# answers in one millisecond are told apart by adding 1.
#
# What counts is the newest value, not each of them. So one notification is
# under way to an observer at any time, and behind it waits only the newest; a
# repetition says what is new instead of repeating what is old (4.5.2). Who
# acknowledges none of them is gone.
#
# Of a large value only the first block is sent, and the observer fetches the
# others as in 14.4. Were a newer value told meanwhile, the blocks it fetches
# would be those of the newer one, and it could use neither. So the newer one
# waits until the last block is fetched, or the observer has lost interest.

COAP_OBSERVERS = 1024           # each costs a datagram per result; past it a
COAP_OBSERVERS_OF_PEER = 32     # GET is answered as one without the option,
                                # which RFC 7641 (4.1) provides for
COAP_HOLD = 4.0                 # s without a fetched block, until a newer
                                # value may be told: a block and a repetition


class CoapObserver:
    """One peer that wants to hear of one name."""

    #    question   for the blocks behind the first one, which it fetches
    #    block      Block2 as it asked for it, or None
    #    mid        of what it was told last: a RST with it ends this
    #    con        the notification that it has not acknowledged yet
    #    next       the newest representation, if that is a later one
    #    hold       until when it may be fetching blocks; None if it is not
    #    format     of the first answer, and so of all (RFC 7641, 4.2)

    __slots__ = ("name", "peer", "token", "question", "block", "format", "mid",
                 "con", "next", "hold")

    def __init__(self, name, peer, token, question, block, form=None):
        self.name, self.peer, self.token = name, peer, token
        self.question, self.block, self.format = question, block, form
        self.mid = self.con = self.next = self.hold = None

    def ready(self, now):
        """Tell whether there is something to tell, and it may be told."""
        return self.next and not (self.hold and self.hold > now)


class CoapObservers:
    """Who wants to hear of what, bounded in number.

    >>> observers = CoapObservers()
    >>> observers.add(CoapObserver("t", "peer", b"J", (1,), None))
    True
    >>> [observer.peer for observer in observers.of("t")]
    ['peer']
    >>> observers.remove("peer", b"J").name, observers.of("t")
    ('t', [])
    """

    #    all        (peer, token) -> CoapObserver
    #    names      name -> the part of `all` that observes it
    #    peers      peer -> how many of `all` it is
    #    mids       (peer, mid) -> who was told by this message
    #    fetching   (peer, question) -> who fetches the blocks of it

    def __init__(self):
        self.all, self.names, self.peers, self.mids = {}, {}, {}, {}
        self.fetching, self.latest = {}, 0
        self.holds = collections.deque()        # (when to look, observer)

    def of(self, name):
        """Give all observers of a name; others may come and go meanwhile."""
        return list(self.names.get(name, {}).values())

    def add(self, observer):
        """Add one; False if there are too many."""
        peer, key = observer.peer, (observer.peer, observer.token)
        if (len(self.all) >= COAP_OBSERVERS
                or self.peers.get(peer, 0) >= COAP_OBSERVERS_OF_PEER):
            return False
        self.all[key] = observer
        self.names.setdefault(observer.name, {})[key] = observer
        self.peers[peer] = self.peers.get(peer, 0) + 1
        return True

    def remove(self, peer, token):
        """Remove and give one, or None."""
        observer = self.all.pop((peer, token), None)
        if observer:
            group = self.names[observer.name]
            del group[peer, token]
            if not group:
                del self.names[observer.name]
            self.peers[peer] -= 1
            if not self.peers[peer]:
                del self.peers[peer]
            self.mids.pop((peer, observer.mid), None)
            self.fetching.pop((peer, observer.question), None)
            observer.next = None
        return observer

    def hold(self, observer, now):
        """Tell an observer nothing newer while it fetches blocks."""
        if observer.hold is None:
            self.holds.append((now + COAP_HOLD, observer))
        observer.hold = now + COAP_HOLD
        self.fetching[observer.peer, observer.question] = observer

    def fetched(self, key, last, now):
        """Note that a block was fetched; give its observer if it is ready."""
        observer = self.fetching.get(key)
        if not observer:
            return None
        self.hold(observer, now)
        if last:
            observer.hold = now
            del self.fetching[key]
        return observer if observer.ready(now) else None

    def released(self, now):
        """Give those that may hear of something newer now."""
        found = []
        while self.holds and self.holds[0][0] <= now:
            observer = self.holds.popleft()[1]
            if observer.hold > now:
                self.holds.append((now + COAP_HOLD, observer))
                continue
            observer.hold = None
            if observer.ready(now):
                found.append(observer)
        return found

    def told(self, observer, mid):
        """Remember what an observer was told last."""
        self.mids.pop((observer.peer, observer.mid), None)
        observer.mid = mid
        self.mids[observer.peer, mid] = observer

    def stamp(self, now):
        """Give the next value of the option Observe.

        >>> observers = CoapObservers()
        >>> [int.from_bytes(observers.stamp(now)) for now in (7.5, 7.5, 9)]
        [7500, 7501, 9000]
        """
        self.latest = max(self.latest + 1, int(now * 1000))
        return coap_uint(self.latest & 0xffffff)


# 14.6 Budgets ---------------------------------------------------------------
#
# The sender's address in a datagram is whatever its sender wrote there. Let it
# be a victim's: then a question of 20 bytes brings the victim an answer of
# 1,100. That is factor 55, and with the 28 bytes of IP and UDP around both
# still 23 (RFC 7252, 11.3). What a server on a public address would cost
# its neighbours, at 4,000 answers a second:
#
#       the attacker sends     4,000 x    48 bytes    0.2 MB/s
#       the victim receives    4,000 x 1,128 bytes    4.5 MB/s, from one server
#       and where the function is slow, so that the answer is a CON that
#       nobody acknowledges (14.3), five times as much
#
# Servers that do this are found by scanning all of IPv4, which takes less
# than an hour, and are then used together. So an address has a budget: a
# bucket that fills at a constant rate, and out of which each byte of an answer
# is paid. An answer that is no larger than its question is free: an attacker
# gains nothing by it. When the bucket is empty the answer is 5.03 without a
# payload, which is free in that sense, and the function is not run.
#
# The worst that one server does to a victim is then COAP_RATE: half a megabit
# a second, as much as a video call. A client that is no victim and fetches a
# large body is slowed down to that rate: blocks that find no room are not
# sent, and it asks again as if the network had lost them. On loopback no
# address is forged, and there is no budget.
#
# The room for an answer is put aside before the function runs, for it is no
# use to have the result of a call and not be allowed to say it.

COAP_RATE = 64 << 10            # bytes/s: a function's answer of 1 kB can be
                                # asked for 60 times a second, by one address
COAP_BURST = 128 << 10          # bytes; 100 calls at once
COAP_BUDGETS = 4096             # addresses. To have a budget forgotten, and so
                                # full again, an attacker must send this many
                                # datagrams: 131 kB, as much as a burst brings


class Budget:
    """A bucket that fills with `rate` a second, up to `burst`.

    >>> budget = Budget(rate=10, burst=20)
    >>> [budget.spend(15, now) for now in (0.0, 0.9, 1.1)]
    [True, False, True]

    To spend a negative number gives back.
    """

    __slots__ = ("rate", "burst", "level", "then")

    def __init__(self, rate, burst):
        self.rate, self.burst, self.level, self.then = rate, burst, burst, 0.0

    def spend(self, amount, now):
        """Take `amount` out if it is there; tell if it was."""
        self.level = min(self.burst,
                         self.level + (now - self.then) * self.rate)
        self.then = now
        if amount > self.level:
            return False
        self.level -= amount
        return True


def coap_source(peer):
    """Give what one budget is for: an IPv4 address, or an IPv6 network.

    A household has 2**64 addresses of IPv6, so that a budget for each would
    be no bound at all.

    >>> coap_source(("192.0.2.7", 40000)), coap_source(("::ffff:192.0.2.7", 1))
    ('192.0.2.7', '192.0.2.7')
    >>> coap_source(("2001:db8::7%eth0", 1)) == coap_source(("2001:db8::8", 2))
    True
    """
    address = str(peer[0]).partition("%")[0]
    if "." in address:
        return address.rpartition(":")[2]
    try:
        return socket.inet_pton(socket.AF_INET6, address)[:8]
    except OSError:
        return address          # no address of the internet


class CoapBudgets:
    """A budget for each address, of those seen last.

    >>> budgets = CoapBudgets()
    >>> peer = ("192.0.2.7", 40000)
    >>> [budgets.spend(peer, 100_000, now) for now in (0.0, 0.1, 2.0)]
    [True, False, True]
    """

    def __init__(self):
        self.budgets = collections.OrderedDict()

    def spend(self, peer, amount, now):
        """Take `amount` out of the budget of a peer's address, or do not."""
        source = coap_source(peer)
        budget = self.budgets.get(source)
        if budget is None:
            budget = self.budgets[source] = Budget(COAP_RATE, COAP_BURST)
            if len(self.budgets) > COAP_BUDGETS:
                self.budgets.popitem(last=False)
        self.budgets.move_to_end(source)
        return budget.spend(amount, now)


# 14.7 The endpoint ----------------------------------------------------------
#
# All machines together. What comes in falls through these questions, and the
# first one that fits decides:
#
#       too short, or of another version    silence
#       a format error                      RST to a CON, silence to others
#       an ACK or a RST                     settles a CON of ours, or nothing
#       a CON without a method (a ping,     RST
#       an answer to what nobody asked)
#       a NON without a method              silence
#       asked before                        14.3: the same bytes again
#       an unknown method                   4.05
#       a critical option that is unknown   4.02; of a NON, silence
#       a proxy is asked for                5.05
#       a later block of an answer          14.4, without the caller
#       a body that is too large            4.13
#       a block that is not the last        14.4: 2.31, or 4.08
#       no budget                           5.03, without a payload
#       a last block that does not follow   4.08
#       else                                a CoapRequest, for the caller

# FETCH is a GET with a body (RFC 8132, 2). PATCH, its neighbour, changes a
# part of a resource; a function has no parts.
COAP_METHODS = {1: "GET", 2: "POST", 3: "PUT", 4: "DELETE", 5: "FETCH"}
COAP_SWEEP = 30.0               # s between two looks for what is out of date


class CoapRequest(typing.NamedTuple):
    """One whole question, for the caller."""
    exchange: CoapExchange      # the handle, for reply()
    peer: tuple
    method: str                 # one of COAP_METHODS
    path: tuple = ()            # ('shout', 'loud')
    query: tuple = ()           # ('a=1', 'b=2')
    body: bytes = b""
    options: dict = {}          # as coap_read_options() gives them
    observe: int | None = None  # 0 to register, 1 to deregister


class CoapEndpoint:
    """Datagrams in, CoapRequests out; replies in, datagrams out.

    >>> endpoint = CoapEndpoint(lambda request: 99, random=lambda: 0.5)
    >>> asked = bytes.fromhex("42027d344a71 b573686f7574 ff 68656c6c6f")
    >>> [request] = endpoint.receive(asked, ("192.0.2.7", 40000), now=0.0)
    >>> request.method, request.path, request.body
    ('POST', ('shout',), b'hello')
    >>> endpoint.reply(request.exchange, "2.04", b"HELLO",
    ...                ((12, b""), (14, b"")), now=0.1)
    >>> [(peer, data)] = endpoint.take()
    >>> data.hex(" ")
    '62 44 7d 34 4a 71 c0 20 ff 48 45 4c 4c 4f'
    >>> endpoint.receive(asked, ("192.0.2.7", 40000), now=2.5)
    []
    >>> endpoint.take() == [(peer, data)]           # the same bytes again
    True

    `limit_of(request)` gives the most bytes that its body may have, and may
    refuse it by a CoapRefusal; `random()` gives a number from 0 to 1;
    `trusted(peer)` tells whether an address is no forgery, and so needs no
    budget. The caller owes each CoapRequest one reply().
    """

    def __init__(self, limit_of, random, trusted=lambda peer: False):
        self.limit_of, self.trusted = limit_of, trusted
        self.memory, self.sender = CoapMemory(), CoapSender(random)
        self.uploads, self.kept = CoapUploads(), CoapKept()
        self.observers, self.budgets = CoapObservers(), CoapBudgets()
        self.outbox, self.patience = [], collections.deque()
        self.mid, self.sweep_at = int(random() * 0xffff), None

    # What comes in

    def receive(self, data, peer, now):
        """Take a datagram; give the CoapRequests that are now complete."""
        try:
            message = coap_decode(data)
        except CoapError as error:
            if error.kind == COAP_CON:
                self.reset(error.mid, peer, now)
            return []
        if message.kind > COAP_NON:
            self.settle(message, peer, now)
        elif 0 < message.code < 32:
            return self.question(message, data, peer, now)
        elif message.kind == COAP_CON:
            self.reset(message.mid, peer, now)
        return []

    def reset(self, mid, peer, now):
        """Say that a CON means nothing here."""
        data = coap_encode(CoapMessage(COAP_RST, 0, mid))
        self.send(peer, data, now, len(data))

    def settle(self, message, peer, now):
        """Take an ACK or a RST: of a CON of ours, or of nothing."""
        if message.code:
            return              # an answer, and we never ask
        con = self.sender.settle(peer, message.mid)
        observer = con and con.observer
        if message.kind == COAP_RST:
            observer = observer or self.observers.mids.get((peer, message.mid))
            if observer:
                self.forget_observer(peer, observer.token)
        elif observer:
            observer.con = None
            if observer.ready(now):
                self.tell(observer, now)

    def question(self, message, data, peer, now):
        """Take a message with a method: a new question, or a duplicate."""
        known = self.memory.find(peer, message.mid, data, now)
        if known:
            if known.said:
                self.send(peer, known.said, now, known.asked)
            return []
        exchange = CoapExchange(message, data, peer, now)
        self.memory.add(exchange)
        self.sweep_at = self.sweep_at or now + COAP_SWEEP
        try:
            return self.admit(exchange, message, now)
        except CoapRefusal as no:
            if no.code == "4.02" and message.kind == COAP_NON:
                exchange.message = None         # RFC 7252, 5.4.1
            else:
                self.refuse(exchange, no, now)
            return []

    def admit(self, exchange, message, now):
        """Give the CoapRequest if there is one to be given.

        Errors: CoapRefusal.
        """
        if message.code not in COAP_METHODS:
            raise CoapRefusal("4.05", "the methods here are "
                              + ", ".join(COAP_METHODS.values()))
        values = coap_read_options(message.options)
        if COAP_PROXY_URI in values or COAP_PROXY_SCHEME in values:
            raise CoapRefusal("5.05", "this is no proxy")
        exchange.block2 = values.get(COAP_BLOCK2)
        exchange.sized = COAP_SIZE2 in values
        request = self.read(exchange, message, values)
        if exchange.block2 and exchange.block2.num:
            if self.follow(exchange, (exchange.peer, coap_question(message)),
                           now):
                return []
            if request.method != "GET":
                raise CoapRefusal("4.08", "the answer is not here any more, "
                                  "and its question did not come again")
        elif request.observe == 1:
            self.forget_observer(exchange.peer, message.token)
        else:
            exchange.observe = request.observe
        return self.complete(exchange, request, values, now)

    def follow(self, exchange, key, now):
        """Answer a later block of what is kept, if it is."""
        entire, block = self.kept.get(key, now), exchange.block2
        if entire:
            self.answer(exchange, entire, now)
            last = block.start + entire.size(block) >= len(entire.payload)
            observer = self.observers.fetched(key, last, now)
            if observer and not observer.con:
                self.tell(observer, now)
        return entire

    def read(self, exchange, message, values):
        """Turn options into a CoapRequest; a body only where one counts.

        The body of a GET or DELETE means nothing (RFC 7252, 5.5).
        """
        method, observe = COAP_METHODS[message.code], None
        if method in ("GET", "FETCH") and values.get(COAP_OBSERVE) in (0, 1):
            observe = values[COAP_OBSERVE]      # FETCH: RFC 8132, 2.4
        return CoapRequest(
            exchange, exchange.peer, method, tuple(values.get(COAP_PATH, ())),
            tuple(values.get(COAP_QUERY, ())),
            b"" if method in ("GET", "DELETE") else message.payload, values,
            observe)

    def complete(self, exchange, request, values, now):
        """Give the request with all its body, or [] if blocks are missing."""
        block = values.get(COAP_BLOCK1)
        size = max(len(request.body), values.get(COAP_SIZE1, 0))
        most = self.limit_of(request) if block or size else 0
        if size > most:
            raise coap_too_large(most)
        if not block or not block.more:
            self.reserve(exchange, now)
        if block:
            message = exchange.message
            key = exchange.peer, coap_question(message)
            body = self.uploads.take(key, block, request.body, most, now)
            exchange.block1 = block
            if body is None:
                self.answer(exchange, CoapRepresentation(
                    coap_code("2.31"), b"", ()), now)
                return []
            request = request._replace(body=body)
        if exchange.kind == COAP_CON:
            self.patience.append((now + COAP_PATIENCE, exchange))
        return [request]

    def reserve(self, exchange, now):
        """Put aside what the answer may cost, before the function runs."""
        if not self.trusted(exchange.peer):
            if not self.budgets.spend(exchange.peer, COAP_DATAGRAM, now):
                full = COAP_BURST // COAP_RATE      # s until it is so again
                raise CoapRefusal("5.03", "", (
                    (COAP_MAX_AGE, coap_uint(full)),))
            exchange.reserved = COAP_DATAGRAM

    # What goes out

    def reply(self, exchange, code, payload=b"", options=(), *, now,
              observe=None):
        """Answer a CoapRequest; `code` as people write it.

        Where the request wants to observe, and `observe` is a name, its
        sender is an observer of that name from now on.
        """
        if exchange.message is None:
            return              # It is answered already.
        entire = CoapRepresentation(coap_code(code), bytes(payload), options)
        observer = None
        if exchange.observe == 0:
            observer = self.register(exchange, entire, observe)
        if len(entire.payload) > entire.size(exchange.block2):
            question = coap_question(exchange.message)
            self.kept.put((exchange.peer, question), entire, now)
            if observer:
                self.observers.hold(observer, now)
        self.answer(exchange, entire, now, observer)

    def register(self, exchange, entire, name):
        """Give the new observer, or None if there shall be none."""
        peer, message = exchange.peer, exchange.message
        self.forget_observer(peer, message.token)       # RFC 7641, 4.1
        if name is None or entire.code >> 5 != 2:
            return None
        observer = CoapObserver(name, peer, message.token,
                                coap_question(message), exchange.block2,
                                dict(entire.options).get(COAP_CONTENT_FORMAT))
        return observer if self.observers.add(observer) else None

    def refuse(self, exchange, no, now):
        """Answer with an error of the protocol's own."""
        self.answer(exchange, CoapRepresentation(
            coap_code(no.code), str(no).encode(), no.options), now)

    def answer(self, exchange, entire, now, observer=None):
        """Say the block of `whole` that the exchange asks for."""
        try:
            payload, options = entire.block(exchange.block2)
        except CoapRefusal as no:
            return self.refuse(exchange, no, now)
        options += entire.options
        if observer:
            options.append((COAP_OBSERVE, self.observers.stamp(now)))
        if exchange.block1:
            options.append((COAP_BLOCK1, exchange.block1.encode()))
        if exchange.sized and payload:
            options.append((COAP_SIZE2, coap_uint(len(entire.payload))))
        peer, mid, token = exchange.peer, exchange.mid, exchange.message.token
        exchange.message, kind = None, COAP_ACK
        # A NON gets no ACK, and an ACK that was sent already was empty: then
        # the answer is a message of our own.
        if exchange.kind == COAP_NON or exchange.said:
            kind, mid = self.kind_of_ours(exchange.kind), self.new_mid(peer)
        data = coap_encode(CoapMessage(kind, entire.code, mid, token, options,
                                       payload))
        if kind == COAP_ACK:
            exchange.said = data
        else:
            self.remember(kind, mid, data, peer, now, observer)
        self.send(peer, data, now, exchange.asked, exchange.reserved)

    def kind_of_ours(self, kind=COAP_CON):
        """Say whether a message of ours may be a CON."""
        full = len(self.sender.waiting) >= COAP_UNDER_WAY
        return COAP_NON if full else kind

    def new_mid(self, peer):
        """Give a mid for a message of ours to this peer."""
        self.mid = self.mid + 1 & 0xffff
        while (peer, self.mid) in self.sender.waiting:
            self.mid = self.mid + 1 & 0xffff
        return self.mid

    def remember(self, kind, mid, data, peer, now, observer):
        """Note what an ACK or a RST with this mid will mean."""
        if observer:
            self.observers.told(observer, mid)
        if kind == COAP_CON:
            con = self.sender.add(peer, mid, data, now, observer)
            if observer:
                observer.con = con

    def send(self, peer, data, now, asked=0, reserved=0):
        """Put a datagram into the outbox, if the peer's budget has room.

        What is no larger than what was `asked` is free. What finds no room
        is lost, as it might be on the way, and will be asked for again.
        """
        cost = (len(data) if len(data) > asked else 0) - reserved
        if (cost == 0 or self.trusted(peer)
                or self.budgets.spend(peer, cost, now)):
            self.outbox.append((peer, data))

    def take(self):
        """Give all [(peer, datagram)] that are to be sent now."""
        taken, self.outbox = self.outbox, []
        return taken

    # Observers

    def notify(self, name, code, payload, options, now):
        """Tell all observers of a name what it has answered now.

        An error ends the observation, and so does another Content-Format
        than that of the first answer (RFC 7641, 4.2).
        """
        entire = CoapRepresentation(coap_code(code), bytes(payload), options)
        if entire.code >> 5 != 2:
            return self.forget_observers(name, code, now, entire.payload)
        form = dict(options).get(COAP_CONTENT_FORMAT)
        for observer in self.observers.of(name):
            if form != observer.format:
                self.dismiss(observer, "4.06", now)
                continue
            observer.next = entire
            if observer.ready(now) and not observer.con:
                self.tell(observer, now)

    def tell(self, observer, now):
        """Send the newest representation to one observer."""
        kind = self.kind_of_ours()
        mid, data = self.notification(observer, kind, now)
        self.remember(kind, mid, data, observer.peer, now, observer)
        self.send(observer.peer, data, now)

    def notification(self, observer, kind, now):
        """Take what waits for an observer; give its mid and its bytes."""
        entire, observer.next, peer = observer.next, None, observer.peer
        payload, options = entire.block(observer.block)
        if len(payload) < len(entire.payload):
            # The blocks behind the first will be asked for, by GET.
            self.kept.put((peer, observer.question), entire, now)
            self.observers.hold(observer, now)
        mid, stamp = self.new_mid(peer), self.observers.stamp(now)
        return mid, coap_encode(CoapMessage(
            kind, entire.code, mid, observer.token,
            (*entire.options, *options, (COAP_OBSERVE, stamp)), payload))

    def forget_observers(self, name, code, now, payload=b""):
        """End all observations of a name, and tell the observers why."""
        for observer in self.observers.of(name):
            self.dismiss(observer, code, now, payload)

    def dismiss(self, observer, code, now, payload=b""):
        """End one observation with a last word."""
        peer, kind = observer.peer, self.kind_of_ours()
        self.forget_observer(peer, observer.token)
        mid = self.new_mid(peer)
        data = coap_encode(CoapMessage(kind, coap_code(code), mid,
                                       observer.token, (), payload))
        self.remember(kind, mid, data, peer, now, None)
        self.send(peer, data, now)

    def forget_observer(self, peer, token):
        """End one observation, without a word."""
        observer = self.observers.remove(peer, token)
        if observer and observer.con:
            self.sender.settle(peer, observer.con.mid)

    # What time brings

    def next_time(self):
        """Say when tick() will have something to do, or None."""
        while self.patience and self.patience[0][1].message is None:
            self.patience.popleft()
        times = [queue[0][0] for queue in (
            self.patience, self.observers.holds) if queue]
        times += [self.sender.next_time(), self.sweep_at]
        return min((time for time in times if time is not None), default=None)

    def tick(self, now):
        """Do what is due: empty ACKs, repetitions, forgetting."""
        while self.patience and self.patience[0][0] <= now:
            exchange = self.patience.popleft()[1]
            if exchange.message:
                exchange.said = coap_encode(
                    CoapMessage(COAP_ACK, 0, exchange.mid))
                self.send(exchange.peer, exchange.said, now, exchange.asked)
        for con in self.sender.overdue(now):
            self.repeat(con, now)
        for observer in self.observers.released(now):
            if not observer.con:
                self.tell(observer, now)
        if self.sweep_at is not None and now >= self.sweep_at:
            left = [machine.sweep(now) for machine in (
                self.memory, self.uploads, self.kept)]
            self.sweep_at = now + COAP_SWEEP if any(left) else None

    def repeat(self, con, now):
        """Say again what was not acknowledged, or something newer."""
        observer = con.observer
        if con.tries > COAP_MAX_RETRANSMIT:
            if observer:
                self.forget_observer(con.peer, observer.token)
            return
        if observer and observer.ready(now):
            mid, data = self.notification(observer, COAP_CON, now)
            self.sender.rename(con, mid, data)
        self.send(con.peer, con.data, now)


# 14.8 From a message to a Call, and back ------------------------------------
#
# Nothing new is decided here: the nouns are those of chapter 2, and its table
# of kinds has a column for this door.
#
#       POST coap://host/echo/a?b=1   Call("echo", method="POST", path="/a",
#         Content-Format 50                query="b=1", headers={"Content-
#                                          Type": "application/json"})
#
#       GET, FETCH answered           2.05 Content
#       POST, PUT answered            2.04 Changed
#       DELETE answered               2.02 Deleted
#       a failure                     its kind's code; the sentence is the
#                                     diagnostic payload (RFC 7252, 5.5.2)
#       GET with Observe 0            observes the function, not the path: all
#                                     good results of it, whoever called
#
# An answer is fresh for 60 s where nothing else is said (5.10.5), and a cache
# on the way would then answer in the function's place. So Max-Age is 0, of a
# failure too: the next call may be better.

COAP_GOOD = {"GET": "2.05", "FETCH": "2.05", "POST": "2.04", "PUT": "2.04",
             "DELETE": "2.02"}

# Content-Formats are numbers, so that they fit into a byte (12.3; 60: RFC
# 8949, 9.4). A type that is not among them is left out of the answer.
COAP_TYPES = {0: "text/plain; charset=utf-8", 40: "application/link-format",
              41: "application/xml", 42: "application/octet-stream",
              50: "application/json", 60: "application/cbor"}



class CoapAnswer(typing.NamedTuple):
    """What goes back for one request."""
    code: str                   # '2.05'
    payload: bytes = b""
    options: tuple = ()         # ((14, b""),): Max-Age 0


def content_format(text):
    """Give the number of a Content-Type, or None.

    >>> content_format("application/json"), content_format("text/html")
    (50, None)
    """
    media, _, rest = text.lower().replace(" ", "").partition(";")
    if media == "text/plain" and rest not in ("", "charset=utf-8"):
        return None
    for number, name in COAP_TYPES.items():
        if name.partition(";")[0] == media:
            return number
    return None


def coap_call(request):
    """Make the Call of a request.

    >>> call = coap_call(CoapRequest(None, None, "POST", ("echo", "a b"),
    ...                              ("x=1", "y&z"), b"hi"))
    >>> call.fn, call.path, call.raw, call.query, call.trigger
    ('echo', '/a b', '/a%20b', 'x=1&y%26z', 'coap')

    Errors: FaasError not_found, where the path is empty.
    """
    import urllib.parse
    if not request.path or not request.path[0]:
        raise FaasError("not_found", "a function's name is the first part of "
                        "the path, as in coap://host/echo")
    # Each part is quoted alone: a slash inside of one is no separator.
    parts = [urllib.parse.quote(part, safe="!$&'()*+,;=:@~")
             for part in request.path[1:]]
    query = [urllib.parse.quote(part, safe="!$'()*+,;=:@/?~")
             for part in request.query]
    media = COAP_TYPES.get(request.options.get(COAP_CONTENT_FORMAT))
    return Call(request.path[0], request.body,
                {"Content-Type": media} if media else {}, request.method,
                "/" + "/".join(request.path[1:]), "/" + "/".join(parts),
                "&".join(query), "coap")


def coap_refusal(error):
    """Spell a FaasError: code, sentence, and when to come again.

    That is in 1 s (Max-Age, RFC 7252, 5.9.3.4) where it may be better then.

    >>> coap_refusal(FaasError("busy", "come later"))
    CoapAnswer(code='5.03', payload=b'come later', options=((14, b'\\x01'),))
    """
    later = error.kind in ("busy", "unavailable")
    return CoapAnswer(KINDS[error.kind].coap, str(error).encode(),
                      ((COAP_MAX_AGE, b"\1" if later else b""),))


def coap_answer(result, method="GET", accept=None):
    """Spell a Result; `accept` is the number that the client wants, or None.

    >>> coap_answer(Result(body=b"HI"), "POST")
    CoapAnswer(code='2.04', payload=b'HI', options=((14, b''),))
    >>> coap_answer(Result(body=b"HI"), accept=50).code
    '4.06'
    """
    if result.kind != "ok":
        return coap_refusal(FaasError(result.kind, result.sentence))
    if len(result.body) > COAP_KEPT_BYTES:
        return coap_refusal(FaasError("too_large", "the answer is larger than "
                                      "what this door keeps for its blocks"))
    number = content_format(result.headers.get("Content-Type", ""))
    form = () if number is None else (
        (COAP_CONTENT_FORMAT, coap_uint(number)),)
    if result.status >= 400:            # It says itself that it failed.
        code = KINDS[kind_of(result.status)].coap
        return CoapAnswer(code, result.body, (*form, (COAP_MAX_AGE, b"")))
    if accept is not None and accept != number:
        return CoapAnswer("4.06", b"the answer is of another format")
    return CoapAnswer(COAP_GOOD[method], result.body,
                      (*form, (COAP_MAX_AGE, b"")))


# What is there to be called? A device that was told nothing asks for
# /.well-known/core (RFC 6690), and may ask for some only:
#
#       </clock>;rt="faas.function";obs,</shout>;rt="faas.function";obs
#
#       ?href=/cl*      whose path begins so
#       ?rt=faas.*      whose attribute does
#
# `obs` says that it can be observed (RFC 7641, section 6).


def core_links(names, queries=()):
    """List functions in link format, those that pass every filter.

    >>> core_links(["clock", "shout"], ["href=/sh*"])
    '</shout>;rt="faas.function";obs'
    """
    links = []
    for name in names:
        have = {"href": "/" + name, "rt": "faas.function", "obs": ""}
        if all(core_matches(have, query) for query in queries):
            links.append(f'</{name}>;rt="faas.function";obs')
    return ",".join(links)


def core_matches(attributes, query):
    """Tell whether attributes pass one filter (RFC 6690, section 4.1).

    >>> core_matches({"rt": "faas.function"}, "rt=faas*")
    True
    """
    name, _, wanted = query.partition("=")
    have = attributes.get(name)
    if have is None or not wanted.endswith("*"):
        return have == wanted
    return have.startswith(wanted[:-1])


def coap_respond(platform, request):
    """Answer one request; give the CoapAnswer, and what it may observe.

    Errors: FaasError.
    """
    accept = request.options.get(COAP_ACCEPT)
    if request.path == (".well-known", "core"):
        if request.method != "GET":
            return CoapAnswer("4.05", b"this path takes GET"), None
        if accept not in (None, 40):
            return CoapAnswer("4.06", b"this is link format, 40"), None
        names = sorted(fn.name for fn in platform.listing())
        text = core_links(names, request.query).encode()
        return CoapAnswer("2.05", text, (
            (COAP_CONTENT_FORMAT, coap_uint(40)),)), None
    if accept is not None and accept not in COAP_TYPES:
        return CoapAnswer("4.06", b"no function answers in this format"), None
    call = coap_call(request)
    call = call._replace(fn=platform.name_of(call.fn))
    answer = coap_answer(whole(platform.invoke(call)), request.method, accept)
    return answer, call.fn if request.method == "GET" else None


# 14.9 SHELL: one socket, and threads that take turns to listen --------------
#
# A call takes its time, and whoever makes it does not listen. So several
# threads wait at the same socket. The kernel gives a datagram to one of them;
# it makes the call and sends the answer, and the others listen on. Nothing is
# handed from thread to thread, which would cost as much as the protocol does.
#
#       reader 1    recvfrom | receive, invoke ........... reply | recvfrom
#       reader 2    recvfrom ............ | receive, invoke ....
#       reader 3                            begun, because nobody was listening
#       the clock   wait ............................ tick | wait
#
# The last one who listens begins another before it makes a call. Where that
# cannot be, it refuses the call: somebody has to hear the ACKs.

COAP_READERS = 500          # threads: three functions' 16 calls that run and
                            # 128 that wait (2.3), and some to refuse the rest
COAP_SPARE = 8              # that may listen while there is nothing to hear
COAP_BUFFER = 1 << 20       # bytes; a burst waits in the kernel, which gives
                            # no more than net.core.rmem_max

# An answer has to come from the address that was asked (RFC 7252, 5.3.2), or
# its client throws it away. A socket that listens on all addresses does not
# know which one that was, unless the kernel is asked to tell (ip(7), ipv6(7)):

COAP_TELL_WHERE = {         # 8 is IP_PKTINFO, which Python 3.11 does not name
    socket.AF_INET: (socket.IPPROTO_IP, 8),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)}


def on_loopback(peer):
    """Tell whether a peer is on loopback, where no address is forged.

    >>> on_loopback(("127.0.0.1", 5683)), on_loopback(("192.0.2.1", 5683))
    (True, False)
    """
    return peer[0].startswith(("127.", "::ffff:127.")) or peer[0] == "::1"


class CoapServer:
    """A UDP port that serves the functions of a Platform.

    Errors: FaasError unavailable, if the address cannot be had.
    """

    #    turn      the endpoint is for one thread at a time
    #    readers   threads there are; `hearing`, those that listen
    #    running   calls under way
    #    wild      it listens on all addresses; a peer then ends in which one
    #    asleep    when the clock will look again; 0 if it is awake

    def __init__(self, host, port):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.wild, self.socket = host in ("0.0.0.0", "::"), None
        try:
            self.socket = socket.socket(family, socket.SOCK_DGRAM)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                   COAP_BUFFER)
            if self.wild:
                self.socket.setsockopt(*COAP_TELL_WHERE[family], 1)
            self.socket.bind((host, port))
        except OSError as error:
            if self.socket:
                self.socket.close()
            raise FaasError("unavailable", f"the UDP port {port} on {host} "
                            f"cannot be had: {error.strerror}") from None
        self.host, self.port = host, self.socket.getsockname()[1]
        self.stopping = self.closed = False
        self.turn, self.asleep = threading.Condition(), 0.0
        self.readers = self.hearing = self.running = 0
        self.clock = threading.Thread(target=self.keep_time, name="coap",
                                      daemon=True)

    @property
    def url(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"coap://{host}:{self.port}"

    def start(self, platform):
        """Begin to serve."""
        import random
        self.platform = platform
        limit = min(platform.limits.body, COAP_UPLOADED)
        self.endpoint = CoapEndpoint(lambda request: limit, random.random,
                                     on_loopback)
        platform.watchers.append(self.announced)
        with self.turn:
            self.add_reader()
        self.clock.start()

    def stop(self):
        """Refuse new calls; the answers of those that run still go."""
        self.stopping = True
        self.platform.watchers.remove(self.announced)

    def drain(self, deadline):
        """Wait until every call is answered, or `deadline`; then close."""
        while self.running and time.monotonic() < deadline:
            time.sleep(0.01)
        with self.turn:
            self.closed = True
            self.turn.notify_all()
        self.clock.join()
        with contextlib.suppress(OSError):      # It wakes the readers, though
            self.socket.shutdown(socket.SHUT_RD)    # it says ENOTCONN.
        while self.readers and time.monotonic() < deadline:
            time.sleep(0.01)
        self.socket.close()

    def keep_time(self):
        """Let the endpoint know what time it is, whenever it wants to."""
        while not self.closed:
            with self.turn:
                now = time.monotonic()
                self.endpoint.tick(now)
                out, due = self.endpoint.take(), self.endpoint.next_time()
                if not out and not self.closed:
                    self.asleep = float("inf") if due is None else due
                    self.turn.wait(None if due is None else
                                   max(0.0, due - now))
                    self.asleep = 0.0
            self.send(out)

    def add_reader(self):
        """Begin to listen with one more thread; False if there is none."""
        if self.readers >= COAP_READERS:
            return False
        try:
            threading.Thread(target=self.listen, daemon=True).start()
        except RuntimeError:                    # no more threads
            return False
        self.readers, self.hearing = self.readers + 1, self.hearing + 1
        return True

    def listen(self):
        """Hear a datagram, and see to it, again and again."""
        try:
            while not self.closed:
                try:
                    if self.attend(*self.hear()):
                        return
                except OSError:
                    time.sleep(0.05)        # The network is down, perhaps.
                except Exception:           # Whatever it was, hear on.
                    import traceback
                    complain(traceback.format_exc())
        finally:
            with self.turn:
                self.readers -= 1

    def hear(self):
        """Wait for a datagram; give it, and its peer."""
        if not self.wild:
            return self.socket.recvfrom(65536)
        data, where, _, peer = self.socket.recvmsg(65536, 64)
        return data, (*(peer or ()), tuple(where))

    def attend(self, data, peer):
        """Answer what one datagram asks; True if enough others listen."""
        with self.turn:
            requests = self.endpoint.receive(data, peer, time.monotonic())
            out, free = self.taken(), True      # ACKs, refusals, blocks
            if requests:
                self.running += len(requests)
                free = self.hearing > 1 or self.add_reader()
                if free:                        # Others listen; we make calls.
                    self.hearing -= 1
        self.send(out)
        for request in requests:
            self.serve(request, free)
        if requests and free:
            with self.turn:
                if self.hearing >= COAP_SPARE:
                    return True
                self.hearing += 1
        return False

    def serve(self, request, free):
        """Answer one request; what no chapter foresaw ends here."""
        key = None
        try:
            if self.stopping:
                raise FaasError("unavailable", "this door is closing")
            if not free:
                raise FaasError("busy", "there are as many calls as this door "
                                "has threads for")
            answer, key = coap_respond(self.platform, request)
        except FaasError as error:
            answer = coap_refusal(error)
        except Exception:
            import traceback
            complain(traceback.format_exc())
            answer = CoapAnswer("5.00", MISTAKE.encode())
        with self.turn:
            self.endpoint.reply(request.exchange, *answer,
                                now=time.monotonic(), observe=key)
            self.running -= 1
            out = self.taken()
        self.send(out)

    def announced(self, name, result):
        """Tell observers of a new Result, or that the function is gone."""
        if name not in self.endpoint.observers.names:
            return
        with self.turn:
            now = time.monotonic()
            if result is None:
                self.endpoint.forget_observers(name, "4.04", now)
            elif result.status < 400:
                self.endpoint.notify(name, *coap_answer(result), now)
            out = self.taken()
        self.send(out)

    def taken(self):
        """Take what is to be sent; wake the clock, if it sleeps too long."""
        due = self.endpoint.next_time()
        if due is not None and due < self.asleep:
            self.turn.notify()
        return self.endpoint.take()

    def send(self, datagrams):
        for peer, data in datagrams:
            # What cannot be sent was lost, and loss is foreseen.
            with contextlib.suppress(OSError):
                if self.wild:
                    self.socket.sendmsg([data], peer[-1], socket.MSG_DONTWAIT,
                                        peer[:-1])
                else:
                    self.socket.sendto(data, socket.MSG_DONTWAIT, peer)


# Try it ---------------------------------------------------------------------
#   >>> import tempfile
#   >>> home = tempfile.mkdtemp()
#   >>> platform, server = Platform(home), CoapServer("127.0.0.1", 0)
#   >>> with open(home + "/functions/shout", "w") as file:
#   ...     _ = file.write("#!/bin/sh\ntr a-z A-Z\n")
#   >>> os.chmod(home + "/functions/shout", 0o755)
#   >>> server.start(platform)
#   >>> sensor = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
#   >>> sensor.connect(("127.0.0.1", server.port))
#   >>> for again in range(2):          # as if the first answer were lost
#   ...     sensor.send(bytes.fromhex(
#   ...         "42 02 7d 34 4a 71 b5 73 68 6f 75 74 ff 68 65 6c 6c 6f"))
#   ...     sensor.recv(1152).hex(" ")
#   18
#   '62 44 7d 34 4a 71 c0 20 ff 48 45 4c 4c 4f'
#   18
#   '62 44 7d 34 4a 71 c0 20 ff 48 45 4c 4c 4f'
#   >>> len(platform.journal.recent())          # how often the function ran
#   1
#   >>> sensor.close(); server.stop(); server.drain(time.monotonic() + 5)
#   >>> platform.close()
#
# Roads not taken ------------------------------------------------------------
#   DTLS or OSCORE (RFC 8613), which would tell who asks: Python's ssl has no
#     DTLS, and the other needs ciphers that the standard library lacks.
#   Discovery by multicast (RFC 7252, section 8): everybody on the link may
#     make us answer a forged address. Who calls a platform knows where it is.
#   CoAP over TCP (RFC 8323): for networks that drop UDP. There, HTTP will do.
#   Answering whatever comes by an ACK, as tinyFaaS does: nobody waits for that
#     of a NON, and two servers that answer ACKs answer each other for ever.
#
# Real world -----------------------------------------------------------------
#   Water meters and street lamps are managed by LwM2M, which is CoAP with a
#   model of devices on top; so is the inside of a Thread network, Matter's
#   radio. Californium and libcoap are what others are measured by; aiocoap is
#   the one to read. Of the platforms of chapter 10, tinyFaaS has this door.

# ============================================================================
# Chapter 15. The gRPC door, bottom up: what is under a remote call?
# ============================================================================
#
# In a program that uses gRPC a call to another machine looks like a call:
#
#       answer = TinyFaaS.Request(Data(functionIdentifier="echo", data="hi"))
#
# That line is the top of a tower, and whoever only knows the top is helpless
# on the day when it leans. So this chapter begins at the bottom. Each floor
# answers one question that the floor above need not ask again:
#
#       how is a number written?                   a varint           15.1
#       where does a value end, and which is it?   a field, a message
#       where does a message end?                  a prefix           15.2
#       how are names and paths said cheaply?      an HPACK block     15.3
#       whose bytes are these?                     a frame            15.4
#       who may send how much, and when?           a connection       15.5
#       when is a question complete?               an exchange        15.6
#       what is asked, and of which function?      a service          15.7
#       who waits for what?                        threads            15.8
#
# The call above as it crosses the wire, 117 bytes of which the last two are
# "hi". Below each part stands what it says:
#
#       HEADERS frame, stream 1        DATA frame, stream 1
#      +------------+----------------+------------+-------------------------+
#      | 9 bytes    | 84 bytes       | 9 bytes    | 15 bytes                |
#      +------------+----------------+------------+-------------------------+
#        00 00 54     83 86 04 30 ...  00 00 0f     00 00 00 00 0a
#        01 04        HPACK: POST,     00 01        the prefix: 10 bytes
#        00 00 00 01  http, the path,  00 00 00 01    0a 04 65 63 68 6f  "echo"
#        its head     te, its type     its head       12 02 68 69        "hi"
#                                                   the message: two fields
#
# Nothing in this tower comes from a package. Up to 15.7 it has no socket and
# no clock either: bytes in, values out.
#
# Promised: nothing.

# All that can be wrong below ends a remote call, and gRPC has 17 words for how
# one ends (grpc/grpc, doc/statuscodes.md). Their numbers are their places.

GRPC_STATUS = dict(zip(
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND "
    "ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION "
    "ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
    "UNAUTHENTICATED".split(), range(17)))


class GrpcError(Exception):
    """A remote call that failed: a name of GRPC_STATUS, and a sentence.

    `fields` are what its trailers say beside that, as (name, value).

    >>> error = GrpcError("NOT_FOUND", "function x not found")
    >>> GRPC_STATUS[error.status], str(error)
    (5, 'function x not found')
    """

    def __init__(self, status, sentence, *fields):
        super().__init__(sentence)
        self.status, self.fields = status, fields


# 15.1 Varints and protobuf --------------------------------------------------
#
# Most numbers are small, so a number of eight bytes is mostly zeros. A varint
# takes seven bits for each byte, the lowest first; a byte's highest bit says
# whether one more follows. 300 is 10 0101100 in groups of seven bits:
#
#       ac = 1 0101100      the lowest seven bits, and there is more
#       02 = 0 0000010      the next seven, and that is all
#
# A number of 64 bits has ten bytes, and a varint no more (protobuf.dev,
# "Encoding"). It may have more than it needs: 84 80 00 is a long way to write
# 4, and every reader takes it.

VARINT_BYTES = 10


class ProtoError(GrpcError):
    """The bytes are no message, or the values fit in none."""

    def __init__(self, sentence):
        super().__init__("INTERNAL", sentence)


def varint_encode(n):
    """Write a number that is not negative.

    >>> varint_encode(300).hex(" ")
    'ac 02'
    """
    if n < 128:                 # Most are, and the rest is slower.
        return bytes([n])
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def varint_decode(data, at=0):
    """Read the number that begins at `at`; gives (number, where it ends).

    >>> varint_decode(bytes.fromhex("ac02"))
    (300, 2)

    Errors: ProtoError, where it is cut or does not end.
    """
    if at < len(data) and data[at] < 128:
        return data[at], at + 1
    n = 0
    for place, byte in enumerate(data[at:at + VARINT_BYTES]):
        n |= (byte & 127) << 7 * place
        if byte < 128:
            # The tenth byte could say more than fits in 64 bits.
            return n & (1 << 64) - 1, at + place + 1
    raise ProtoError("a number is cut" if at + VARINT_BYTES > len(data) else
                     f"a number has more than {VARINT_BYTES} bytes")


# A message is fields, one after the other. Before each stands a tag, a varint
# of the field's number and, in its three lowest bits, the wire type: how to
# find out where the value ends.
#
#       TYPE  WHAT FOLLOWS THE TAG                       FOR INSTANCE
#          0  a varint                                   int32, bool, enum
#          1  8 bytes                                    double
#          2  a varint n, then n bytes                   string, message
#          3  fields, up to a tag of type 4 that has     a group, which
#             the same number                            is deprecated
#          5  4 bytes                                    float
#
# The message of this chapter's call:
#
#       0a  04  65 63 68 6f  12  02  68 69
#       |   |   e  c  h  o   |   |   h  i
#       |   4 bytes          |   2 bytes
#       1 << 3 | 2           2 << 3 | 2     field 1 and field 2, of type 2
#
# No names are sent, and no more of the types than this. So a reader that has
# never heard of field 9 still knows where it ends, and can pass over it: an
# old server and a new client understand each other as far as both go.

PROTO_FIXED = {1: 8, 5: 4}  # bytes of a value, by its wire type
PROTO_DEPTH = 100           # groups within groups; google.protobuf's limit
PROTO_FIELDS = 10_000       # in a message. Ours have 6 at most, but 4 MB may
                            # be two million unknown ones, 200 MB as a list


def proto_fields(data):
    """Take a message apart: [(field number, wire type, value)].

    >>> proto_fields(bytes.fromhex("0a04 6563686f 1202 6869"))
    [(1, 2, b'echo'), (2, 2, b'hi')]
    >>> proto_fields(bytes.fromhex("40ac02 63 0801 64"))    # 12 is a group
    [(8, 0, 300), (12, 3, [(1, 0, 1)])]

    Errors: ProtoError, where the bytes stop being fields.
    """
    fields, at, count = [], 0, 0
    outside = []        # of each open group: its number, what was before it
    while at < len(data):
        tag, at = varint_decode(data, at)
        number, wire, count = tag >> 3, tag & 7, count + 1
        if not 0 < number < 1 << 29:
            raise ProtoError(f"a field cannot have the number {number}")
        if count > PROTO_FIELDS:
            raise ProtoError(f"a message has more than {PROTO_FIELDS} fields")
        if wire == 3 and len(outside) < PROTO_DEPTH:
            outside.append((number, fields))
            fields = []
        elif wire == 4 and outside and outside[-1][0] == number:
            group, fields = fields, outside.pop()[1]
            fields.append((number, 3, group))
        else:
            value, at = proto_value(data, at, wire)
            fields.append((number, wire, value))
    if outside:
        raise ProtoError(f"the group {outside[-1][0]} does not end")
    return fields


def proto_value(data, at, wire):
    """Read the value behind a tag; gives (value, where it ends)."""
    if wire == 0:
        return varint_decode(data, at)
    if wire == 2:
        size, at = varint_decode(data, at)
    elif wire in PROTO_FIXED:
        size = PROTO_FIXED[wire]
    else:
        raise ProtoError(f"no value can be of wire type {wire} here")
    if size > len(data) - at:
        raise ProtoError(f"a value of {size} bytes ends after its message")
    return data[at:at + size], at + size


# What the numbers mean, both sides have to know beforehand. We keep it as a
# spec, {number: ProtoField}, and a message as a dict by name. A field with the
# value that it would have anyway ("", 0, False) is not sent. Two sorts are
# sent even then, because there it matters whether they are there: those marked
# `optional`, and those in a `oneof`, of which a message has one at most.

#              wire type, number in descriptor.proto, value if not sent
PROTO_KINDS = {"int32": (0, 5, 0), "bool": (0, 8, False),
               "string": (2, 9, ""), "message": (2, 11, None),
               "bytes": (2, 12, b""), "enum": (0, 14, 0)}


class ProtoField(typing.NamedTuple):
    """What a spec says about the fields of one number."""
    name: str
    kind: str = "string"        # a key of PROTO_KINDS
    spec: typing.Any = None     # of a message
    many: bool = False          # its value is a list
    oneof: typing.Any = None    # the number of its oneof, if it is in one
    optional: bool = False

    @property
    def zero(self):
        """The value that is not sent, or None where any is."""
        marked = self.optional or self.oneof is not None
        return None if marked else PROTO_KINDS[self.kind][2]


def proto_decode(spec, data):
    """Read a message; gives {name: value}.

    >>> spec = {1: ProtoField("functionIdentifier"), 2: ProtoField("data")}
    >>> proto_decode(spec, bytes.fromhex("0a046563686f 12026869"))
    {'functionIdentifier': 'echo', 'data': 'hi'}
    >>> proto_decode(spec, b"")
    {'functionIdentifier': '', 'data': ''}

    Fields may come in any order; where one may come once, the last one counts.
    (A message that comes twice would have to be merged, and numbers may be
    packed into one value. Nobody has reason to send us either; the one loses
    its first half here, the other is passed over.)
    Errors: ProtoError.
    """
    values = {field.name: [] if field.many else field.zero
              for field in spec.values()
              if field.many or field.zero is not None}
    for number, wire, value in proto_fields(data):
        field = spec.get(number)
        # A known number with another wire type is unknown too.
        if field is None or PROTO_KINDS[field.kind][0] != wire:
            continue
        value = proto_read(field, value)
        if field.many:
            values[field.name].append(value)
            continue
        if field.oneof is not None:
            for other in spec.values():
                if other.oneof == field.oneof:
                    values.pop(other.name, None)
        values[field.name] = value
    return values


def proto_read(field, value):
    """Turn what was on the wire into what the spec says that it is.

    >>> proto_read(ProtoField("code", "int32"), 2 ** 64 - 1)
    -1
    """
    if field.kind == "string":
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ProtoError(f"the string field {field.name} contains "
                             "invalid UTF-8") from None
    if field.kind == "message":
        return proto_decode(field.spec, value)
    if field.kind == "bool":
        return value != 0
    if field.kind == "bytes":
        return value
    # int32 and enum: the lower 32 bits, the highest of which is the sign.
    return (value & 0xffffffff ^ 1 << 31) - (1 << 31)


def proto_encode(spec, values):
    """Write a message of {name: value}.

    >>> spec = {1: ProtoField("functionIdentifier"), 2: ProtoField("data")}
    >>> values = {"functionIdentifier": "echo", "data": "hi"}
    >>> proto_encode(spec, values).hex(" ")
    '0a 04 65 63 68 6f 12 02 68 69'

    A string may also be given as its UTF-8: a function's answer is bytes
    already. Errors: ProtoError, where it is none.
    """
    pieces = []
    for number, field in spec.items():
        if field.name not in values:
            continue
        value = values[field.name]
        for one in value if field.many else [value]:
            if one or field.zero is None or field.many:
                wire = PROTO_KINDS[field.kind][0]
                pieces.append(varint_encode(number << 3 | wire))
                pieces += proto_write(field, one)
    return b"".join(pieces)


def proto_write(field, value):
    """Give the pieces that follow the tag.

    >>> proto_write(ProtoField("data"), "hi")
    [b'\\x02', b'hi']
    """
    if field.kind in ("int32", "bool", "enum"):
        return [varint_encode(value & (1 << 64) - 1)]
    if field.kind == "message":
        value = proto_encode(field.spec, value)
    elif field.kind == "string" and isinstance(value, str):
        value = value.encode("utf-8", "replace")
    elif field.kind == "string":
        proto_read(field, value)        # only to see whether it is text
    return [varint_encode(len(value)), value]


# Nobody writes specs like the one above by hand. One writes a .proto file, in
# a language of its own, and a compiler makes stubs of it for each language
# that a client may be written in. These are the files of what we serve:
# tinyFaaS's as it is there, the others as far as we need them.

PROTO_FILES = {"tinyfaas.proto": """
syntax = "proto3";
package openfogstack.tinyfaas.tinyfaas;
option go_package = ".;tinyfaas";
message Data { string functionIdentifier = 1; string data = 2; }
message Response { string response = 1; }
service TinyFaaS { rpc Request (Data) returns (Response); }
""", "grpc/health/v1/health.proto": """
syntax = "proto3";
package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus {
    UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3;
  }
  ServingStatus status = 1;
}
service Health {
  rpc Check (HealthCheckRequest) returns (HealthCheckResponse);
  rpc Watch (HealthCheckRequest) returns (stream HealthCheckResponse);
}
""", "grpc/reflection/v1/reflection.proto": """
syntax = "proto3";
package grpc.reflection.v1;
message ExtensionRequest {
  string containing_type = 1; int32 extension_number = 2;
}
message ServerReflectionRequest {
  string host = 1;
  oneof message_request {
    string file_by_filename = 3;
    string file_containing_symbol = 4;
    ExtensionRequest file_containing_extension = 5;
    string all_extension_numbers_of_type = 6;
    string list_services = 7;
  }
}
message FileDescriptorResponse { repeated bytes file_descriptor_proto = 1; }
message ExtensionNumberResponse {
  string base_type_name = 1; repeated int32 extension_number = 2;
}
message ServiceResponse { string name = 1; }
message ListServiceResponse { repeated ServiceResponse service = 1; }
message ErrorResponse { int32 error_code = 1; string error_message = 2; }
message ServerReflectionResponse {
  string valid_host = 1;
  ServerReflectionRequest original_request = 2;
  oneof message_response {
    FileDescriptorResponse file_descriptor_response = 4;
    ExtensionNumberResponse all_extension_numbers_response = 5;
    ListServiceResponse list_services_response = 6;
    ErrorResponse error_response = 7;
  }
}
service ServerReflection {
  rpc ServerReflectionInfo (stream ServerReflectionRequest)
      returns (stream ServerReflectionResponse);
}
"""}

# Until 2023 servers spoke v1alpha alone, and most tools still can. But for its
# name it is v1.
PROTO_FILES["grpc/reflection/v1alpha/reflection.proto"] = PROTO_FILES[
    "grpc/reflection/v1/reflection.proto"].replace("n.v1;", "n.v1alpha;")

# Tools such as grpcurl have no stubs: they ask the server for its files
# ("reflection") and get each as a FileDescriptorProto, which is a message like
# any other, with a file of its own (google/protobuf/descriptor.proto; here is
# as much of it as the files above need). So whoever understands this language
# has both: a file's text gives the values of its FileDescriptorProto, and
# those, for each message, its spec. The file that describes files is read by
# the same lines as the others.
#
#       .proto text --> values of a FileDescriptorProto --> specs
#                                 |                           |
#                                 +-- proto_encode by  <------+  of the file
#                                     this spec: its bytes       below

PROTO_DESCRIPTOR = """
syntax = "proto2";
package google.protobuf;
message EnumValueDescriptorProto {
  optional string name = 1; optional int32 number = 2;
}
message EnumDescriptorProto {
  optional string name = 1; repeated EnumValueDescriptorProto value = 2;
}
message OneofDescriptorProto { optional string name = 1; }
message FieldDescriptorProto {
  optional string name = 1;
  optional int32 number = 3;
  optional int32 label = 4;
  optional int32 type = 5;
  optional string type_name = 6;
  optional int32 oneof_index = 9;
}
message DescriptorProto {
  optional string name = 1;
  repeated FieldDescriptorProto field = 2;
  repeated EnumDescriptorProto enum_type = 4;
  repeated OneofDescriptorProto oneof_decl = 8;
}
message MethodDescriptorProto {
  optional string name = 1;
  optional string input_type = 2;
  optional string output_type = 3;
  optional bool client_streaming = 5;
  optional bool server_streaming = 6;
}
message ServiceDescriptorProto {
  optional string name = 1; repeated MethodDescriptorProto method = 2;
}
message FileOptions { optional string go_package = 11; }
message FileDescriptorProto {
  optional string name = 1;
  optional string package = 2;
  repeated DescriptorProto message_type = 4;
  repeated ServiceDescriptorProto service = 6;
  optional FileOptions options = 8;
  optional string syntax = 12;
}
"""

# A statement ends with one of ; { } and is told from others by its first
# words, or by how many it has. Types stand before their use, as names do in
# this book, and an enum within the message that uses it.

PROTO_STATEMENT = re.compile(r'((?:"[^"]*"|[^";{}])*)[;{}]')
PROTO_WORD = re.compile(r'[\w.]+|"[^"]*"')
PROTO_BLOCKS = {"message": "message_type", "enum": "enum_type",
                "service": "service"}


def proto_parse(name, text):
    """Read a .proto file; gives the values of its FileDescriptorProto.

    >>> file = proto_parse("a.proto", "message A { bytes b = 1; }")
    >>> file["message_type"][0]["field"]
    [{'name': 'b', 'number': 1, 'label': 1, 'type': 12}]
    """
    file, types = {"name": name, "package": "", "message_type": []}, {}
    inside = [(file, {})]       # blocks that are open; what a field has there
    for statement in PROTO_STATEMENT.findall(text):
        holder, extra = inside[-1]
        match [word.strip('"') for word in PROTO_WORD.findall(statement)]:
            case []:
                inside.pop()
            case ["syntax" | "package" as key, value]:
                file[key] = value
            case ["option", key, value]:
                file["options"] = {key: value}
            case ["message" | "enum" | "service" as sort, title]:
                inside.append(({"name": title}, {}))
                holder.setdefault(PROTO_BLOCKS[sort], []).append(inside[-1][0])
                path = [block["name"] for block, _ in inside[1:]]
                types[title] = sort, ".".join(["", file["package"], *path])
            case ["oneof", title]:
                number = len(holder.setdefault("oneof_decl", []))
                holder["oneof_decl"].append({"name": title})
                inside.append((holder, {"oneof_index": number}))
            case ["rpc", title, *words]:
                method = proto_parse_method(title, words, types)
                holder.setdefault("method", []).append(method)
            case [title, number]:
                value = {"name": title, "number": int(number)}
                holder.setdefault("value", []).append(value)
            case words:
                field = {**proto_parse_field(words, types), **extra}
                holder.setdefault("field", []).append(field)
    return file


def proto_parse_field(words, types):
    """Read such as ['repeated', 'bytes', 'b', '1'].

    >>> proto_parse_field(["repeated", "int32", "b", "1"], {})
    {'name': 'b', 'number': 1, 'label': 3, 'type': 5}
    """
    *label, kind, name, number = words
    kind, *path = types.get(kind, [kind])
    field = {"name": name, "number": int(number),
             "label": 3 if label == ["repeated"] else 1,
             "type": PROTO_KINDS[kind][1]}
    if path:
        field["type_name"] = path[0]
    # For proto_specs; no FileDescriptorProto has it, so it is not encoded.
    return {**field, "optional": True} if label == ["optional"] else field


def proto_parse_method(name, words, types):
    """Read such as ['Data', 'returns', 'stream', 'Response']."""
    middle = words.index("returns")
    *client, asked = words[:middle]
    *server, answered = words[middle + 1:]
    method = {"name": name, "input_type": types[asked][1],
              "output_type": types[answered][1]}
    if client:
        method["client_streaming"] = True
    if server:
        method["server_streaming"] = True
    return method


def proto_specs(file):
    """Make the specs of a file's messages; gives {name: spec}.

    >>> proto_specs(proto_parse("", "message A { bytes b = 1; }"))["A"]
    {1: ProtoField(name='b', kind='bytes', spec=None, many=False, \
oneof=None, optional=False)}
    """
    kinds = {number: kind for kind, (_, number, _) in PROTO_KINDS.items()}
    specs = {}
    for message in file["message_type"]:
        specs[message["name"]] = {field["number"]: ProtoField(
            field["name"], kinds[field["type"]],
            specs.get(field.get("type_name", "").rpartition(".")[2]),
            field["label"] == 3, field.get("oneof_index"),
            "optional" in field) for field in message["field"]}
    return specs


# What the rest of the chapter takes from here: the specs of what is said, and
# for reflection each file's bytes, and in which file a name stands.

PROTO_PARSED = dict(zip(PROTO_FILES, map(proto_parse, PROTO_FILES,
                                         PROTO_FILES.values())))

TINYFAAS_DATA, TINYFAAS_RESPONSE = proto_specs(
    PROTO_PARSED["tinyfaas.proto"]).values()
HEALTH_REQUEST, HEALTH_RESPONSE = proto_specs(
    PROTO_PARSED["grpc/health/v1/health.proto"]).values()
REFLECTION_REQUEST, REFLECTION_RESPONSE = list(proto_specs(
    PROTO_PARSED["grpc/reflection/v1/reflection.proto"]).values())[1::6]


@functools.cache
def proto_descriptor(name):
    """Give a file of PROTO_FILES as the bytes of its FileDescriptorProto.

    >>> proto_descriptor("tinyfaas.proto")[:16]
    b'\\n\\x0etinyfaas.proto'
    >>> len(proto_descriptor("tinyfaas.proto"))
    253
    """
    spec = proto_specs(proto_parse("", PROTO_DESCRIPTOR))
    return proto_encode(spec["FileDescriptorProto"], PROTO_PARSED[name])


def proto_names(block, path):
    """Give the full names of all that stands in a file, or in a block of it.

    >>> file = proto_parse("", "message A { bytes b = 1; }")
    >>> [*proto_names(file, "pkg")]
    ['pkg.A', 'pkg.A.b']
    """
    for key, parts in block.items():
        for part in parts if isinstance(parts, list) else ():
            full = f"{path}.{part['name']}"
            yield full
            # An enum's values are named as if they stood beside it.
            yield from proto_names(part, path if key == "enum_type" else full)


@functools.cache
def proto_symbols():
    """Give {full name: the file that it stands in}.

    >>> proto_symbols()["grpc.health.v1.Health.Check"]
    'grpc/health/v1/health.proto'
    """
    return {symbol: name for name, file in PROTO_PARSED.items()
            for symbol in proto_names(file, file["package"])}


# 15.2 Five bytes, and gRPC's text -------------------------------------------
#
# HTTP/2 carries a stream of bytes and may cut it anywhere, so gRPC puts five
# bytes before each message (grpc/grpc, doc/PROTOCOL-HTTP2.md):
#
#    OFFSET  SIZE  FIELD
#         0     1  1 if the message is compressed, else 0
#         1     4  n, its size as it is sent, big-endian
#         5     n  the message
#
# The call of this chapter is thus
#
#       00  00 00 00 0a  0a 04 65 63 68 6f 12 02 68 69
#       as  10 bytes     the message of 15.1
#       it is
#
# A size that is too large is known from these five bytes, and refused there. A
# compressed message shows its true size only when it is unpacked, and 4 kB of
# gzip can hold 4 MB of zeros: so the unpacking has the same limit. Which
# compression it is, the call's field grpc-encoding says.

GRPC_MOST = 4 << 20         # bytes of a message; the default of every gRPC
GRPC_PREFIX = struct.Struct(">BI")


def grpc_frame(message):
    """Put the five bytes before a message.

    >>> grpc_frame(bytes.fromhex("0a046563686f12026869")).hex(" ")
    '00 00 00 00 0a 0a 04 65 63 68 6f 12 02 68 69'
    """
    return b"".join((GRPC_PREFIX.pack(0, len(message)), message))


class GrpcMessages:
    """Bytes in, messages out, in whatever pieces the bytes come.

    >>> reader = GrpcMessages()
    >>> reader.receive(bytes.fromhex("0000 0000 04 0a02"))
    []
    >>> reader.receive(bytes.fromhex("6869 00"))
    [b'\\n\\x02hi']
    >>> reader.at_end()
    Traceback (most recent call last):
    ...
    faas.GrpcError: the stream ends within a message

    `encoding` is the field grpc-encoding. Errors: GrpcError; the reader is of
    no use after that. The texts are grpc-go's, where people search for them.
    """

    def __init__(self, encoding="", most=GRPC_MOST):
        if encoding not in ("", "identity", "gzip"):
            raise GrpcError("UNIMPLEMENTED", "grpc: Decompressor is not "
                            f"installed for grpc-encoding {encoding[:80]!r}",
                            ("grpc-accept-encoding", "identity,gzip"))
        self.encoding, self.most, self.held = encoding, most, bytearray()

    def receive(self, data):
        """Take bytes; give the messages that are now complete."""
        self.held += data
        messages = []
        while len(self.held) >= GRPC_PREFIX.size:
            flag, size = GRPC_PREFIX.unpack_from(self.held)
            self.check(flag, size)
            end = GRPC_PREFIX.size + size
            if len(self.held) < end:
                break
            with memoryview(self.held) as view:     # one copy, not two
                message = bytes(view[GRPC_PREFIX.size:end])
            del self.held[:end]
            messages.append(grpc_unzip(message, self.most) if flag
                            else message)
        return messages

    def check(self, flag, size):
        """Refuse by the prefix what need not be waited for."""
        if flag > 1:
            raise GrpcError("INTERNAL", "grpc: received unexpected payload "
                            f"format {flag}")
        if flag and self.encoding != "gzip":
            raise GrpcError("INTERNAL", "grpc: compressed flag set with "
                            "identity or empty encoding")
        if size > self.most:
            raise GrpcError("RESOURCE_EXHAUSTED", "grpc: received message "
                            f"larger than max ({size} vs. {self.most})")

    def at_end(self):
        """Refuse an end that is none."""
        if self.held:
            raise GrpcError("INTERNAL", "the stream ends within a message")


def grpc_unzip(data, most):
    """Unpack a message that has at most `most` bytes; gzip is RFC 1952.

    >>> import gzip
    >>> grpc_unzip(gzip.compress(b"hi"), 100)
    b'hi'

    Errors: GrpcError RESOURCE_EXHAUSTED or INTERNAL.
    """
    import zlib
    unpacker = zlib.decompressobj(31)       # 15 bits of window, and 16: gzip
    try:
        message = unpacker.decompress(data, most + 1)
    except zlib.error:
        message, unpacker = b"", None
    if len(message) > most:
        raise GrpcError("RESOURCE_EXHAUSTED", "grpc: received message after "
                        f"decompression larger than max {most}")
    if not unpacker or not unpacker.eof or unpacker.unused_data:
        raise GrpcError("INTERNAL", "grpc: failed to decompress the message: "
                        "it is no gzip, is cut, or something follows it")
    return message


# Three of gRPC's header fields have a grammar of their own.
#
#       grpc-timeout: 250m           1 to 8 digits, and one of H M S m u n
#       grpc-message: no %E2%98%83   UTF-8, %-encoded but for 20 to 7e hex
#       lab-bin: /w                  bytes in base64, padded or not
#
# The message is cut because clients bound the fields that they read; 8 kB are
# suggested (PROTOCOL-HTTP2.md). Past its bound a client reports its own
# RESOURCE_EXHAUSTED (grpc/grpc#37852), and what went wrong is lost.

GRPC_TIMES = {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}
GRPC_SENTENCE = 1024        # bytes of a grpc-message as it is sent


def grpc_timeout(text):
    """Read a timeout, in seconds; None, where there is no such field.

    >>> grpc_timeout("250m"), grpc_timeout(None)
    (0.25, None)

    Errors: GrpcError INTERNAL, as with grpc-go.
    """
    if text is None:
        return None
    found = re.fullmatch("([0-9]{1,8})([HMSmun])", text)
    if not found:
        raise GrpcError("INTERNAL", f"malformed grpc-timeout {text[:40]!r}: "
                        "it is 1 to 8 digits and one of H, M, S, m, u and n")
    return int(found[1]) * GRPC_TIMES[found[2]]


def grpc_message(sentence):
    """Write a sentence as a grpc-message; a long one is cut.

    >>> grpc_message("100 % naïve\\n")
    '100 %25 na%C3%AFve%0A'
    """
    said = ""
    for character in sentence[:GRPC_SENTENCE]:
        if not " " <= character <= "~" or character == "%":
            character = "".join(f"%{byte:02X}" for byte in
                                character.encode("utf-8", "replace"))
        if len(said) + len(character) > GRPC_SENTENCE:
            break
        said += character
    return said


def grpc_message_decode(text):
    """Read a grpc-message, as our tests' clients do; nonsense stays.

    >>> grpc_message_decode("100 %25 na%C3%AFve %zz")
    '100 % naïve %zz'
    """
    return re.sub(b"%([0-9A-Fa-f]{2})", lambda code: bytes.fromhex(
        code[1].decode()), text.encode()).decode("utf-8", "replace")


def grpc_binary(text):
    """Read the value of a field whose name ends in -bin.

    >>> grpc_binary("/w"), grpc_binary("/w==")
    (b'\\xff', b'\\xff')

    Errors: GrpcError INTERNAL.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise GrpcError("INTERNAL", "malformed binary metadata "
                        f"{text[:40]!r}: it is no base64") from None


# 15.3 HPACK -----------------------------------------------------------------
#
# The metadata of a call is text, and nearly the same text each time: a client
# that calls `echo` a thousand times would say a thousand times who it is and
# what it accepts. HPACK (RFC 7541) lets both ends keep a table of fields that
# were said before, and say a number instead. There are four ways to say a
# field, and one to say something about the table:
#
#       1 i i i i i i i     field i, name and value               section 6.1
#       0 1 i i i i i i     a literal, which both ends remember         6.2.1
#       0 0 1 s s s s s     from here on the table has s bytes          6.3
#       0 0 0 1 i i i i     a literal that nobody may remember          6.2.3
#       0 0 0 0 i i i i     a literal that is not remembered            6.2.2
#
# A literal's i is where the table has its name; 0 says that the name follows.
# Then comes the value. A text is its length, and a first bit that says whether
# it is Huffman-coded:
#
#       H n n n n n n n     then n bytes                                5.2
#
# Worked by hand, the request of C.4.1 in the RFC's appendix is
#
#       82  86  84  41  8c f1e3 c2e5 f23a 6ba0 ab90 f4ff
#       |   |   |   |   |  www.example.com, 12 bytes in Huffman code
#       |   |   |   |   1 0001100   H = 1, n = 12
#       |   |   |   01 000001       literal, remember it; name 1, :authority
#       |   |   1 0000100           field 4,  :path /
#       |   1 0000110               field 6,  :scheme http
#       1 0000010                   field 2,  :method GET
#
# The decoder has to know all five, because the client chooses. It is the
# larger half of this section, for what it is sent may be an attack.


class HpackError(Exception):
    """The block cannot be understood.

    Then no later one can, for both tables must be the same: it is the end of
    the connection (RFC 9113, section 4.3).
    """


class HpackTooLarge(Exception):
    """The fields are larger than the caller wants them.

    What comes after is not read, so that this is the end of the connection,
    too (RFC 9113, section 10.5.1).
    """


# The table begins with 61 fields that never change (RFC 7541, appendix A), in
# the order of the RFC. What is before the first blank is the name. They count
# from 1, so that 0 can mean "no field", and 62 is the newest remembered one.

HPACK_STATIC = [("", ""), *(tuple(static.partition(" ")[::2]) for static in (
    ":authority|:method GET|:method POST|:path /|:path /index.html|"
    ":scheme http|:scheme https|:status 200|:status 204|:status 206|"
    ":status 304|:status 400|:status 404|:status 500|accept-charset|"
    "accept-encoding gzip, deflate|accept-language|accept-ranges|accept|"
    "access-control-allow-origin|age|allow|authorization|cache-control|"
    "content-disposition|content-encoding|content-language|content-length|"
    "content-location|content-range|content-type|cookie|date|etag|expect|"
    "expires|from|host|if-match|if-modified-since|if-none-match|if-range|"
    "if-unmodified-since|last-modified|link|location|max-forwards|"
    "proxy-authenticate|proxy-authorization|range|referer|refresh|"
    "retry-after|server|set-cookie|strict-transport-security|"
    "transfer-encoding|user-agent|vary|via|www-authenticate").split("|"))]


# A number begins in what its first byte has left. Where it does not fit those
# bits are all ones, and the rest follows, seven bits to a byte, the lowest
# first, as in 15.1. 1337 in five bits (C.1.2):
#
#       1f = ...11111     31, and there is more
#       9a = 1 0011010    + 26, and there is more
#       0a = 0 0001010    + 10 x 128 = 1337
#
# The RFC names no end (5.1: "exceed implementation limits"), and a reader
# without one can be kept adding zeros for ever. Four bytes after the first
# make 28 bits. A table, a text and a block of ours are all smaller than 2^28.

HPACK_MORE = 4


def hpack_integer(data, at, bits):
    """Read the number that begins in the low `bits` of data[at].

    >>> hpack_integer(bytes.fromhex("1f9a0a"), 0, 5)
    (1337, 3)

    Gives (number, where it ends). Errors: HpackError; IndexError, where the
    data ends first. Source: RFC 7541, section 5.1.
    """
    ones = (1 << bits) - 1
    number, at = data[at] & ones, at + 1
    if number < ones:
        return number, at
    for more in range(HPACK_MORE):
        number += (data[at + more] & 127) << 7 * more
        if data[at + more] < 128:
            return number, at + more + 1
    raise HpackError(f"a number goes on after {HPACK_MORE} bytes more")


def hpack_number(number, bits, flags=0):
    """Write a number below `flags`, which are what the first byte says.

    >>> hpack_number(1337, 5).hex(" "), hpack_number(2, 7, 0x80).hex()
    ('1f 9a 0a', '82')
    """
    ones = (1 << bits) - 1
    if number < ones:
        return bytes([flags | number])
    return bytes([flags | ones]) + varint_encode(number - ones)


# In the Huffman code of appendix B, "a" has 5 bits and a backslash has 19. The
# RFC prints all 257 codes, but it is enough to know how long they are: sorted
# by length, and within a length by symbol, each code is the one before it plus
# one, with zeros appended where codes become longer (a canonical code).
#
#       0 1 2 a c e i o s t     5 bits     00000, 00001, ... 01001
#       space % - . / 3 4 ...   6 bits     010100, 010101, ...
#
# One letter for each length, in the order of the symbols: a is 5 bits, z is
# 30. The last of them is EOS, a symbol that is no byte and never sent: the
# first of its 30 ones fill up a last byte.

HPACK_LENGTHS = (
    "isxxxxxxxtzxxzxxxxxxxxzxxxxxxxxxbffhibdgffdgdbbbaaabbbbbbbcdkbhf"
    "ibccccccccccccccccccccccdcdioijbkabababbbaccbbbabcbaabccccckgjix"
    "prpprrrsrssssststtrstssssqrsrsstrqprrssqsrrtqrssqqrqsrssprrrsrrs"
    "vvporsruvvvwwvtuoqvwwvwtqqvvxwwwptpqrqqsrruuttvsvwvvwwwwwxwwwwwv"
    "z")


@functools.cache
def hpack_codes():
    """Give the code of each symbol, as the bits that it is.

    >>> hpack_codes()[ord("a")], hpack_codes()[ord("z")]
    ('00011', '1111011')

    Source: RFC 7541, appendix B.
    """
    codes, code, last = {}, 0, 5
    for letter, symbol in sorted(zip(HPACK_LENGTHS, range(257))):
        bits = ord(letter) - ord("a") + 5
        code <<= bits - last
        codes[symbol] = f"{code:0{bits}b}"
        code, last = code + 1, bits
    return codes


def hpack_huffman(data):
    """Write bytes in Huffman code, as clients do: we only read it.

    The last byte is filled up with ones.

    >>> hpack_huffman(b"www.example.com").hex(" ", 2)
    'f1e3 c2e5 f23a 6ba0 ab90 f4ff'
    """
    bits = "".join(hpack_codes()[byte] for byte in data)
    bits += "1" * (-len(bits) % 8)
    return int("0" + bits, 2).to_bytes(len(bits) // 8, "big")


# To decode it bit by bit is to walk down a tree, left for 0, right for 1, and
# to write a symbol and go back to the root at each leaf. Python takes a tenth
# of a microsecond for each step whatever the step does, so we take four bits
# at a time: a table says for each of the 256 inner nodes and each half of a
# byte where one arrives, and what was written on the way.
#
#       at       half     arrives at     writes
#       1        0001     10001          nothing: no code is so short
#       10001    1000     1000           "a", 00011; then 000 has begun
#
# A node's number is the bits that lead to it, after a 1. So 1 is the root, 2n
# and 2n + 1 are below n, and the tree needs no pointers. Measured, for a date
# of 22 bytes: bit by bit 15 us, with a window of eight bits 6 us, by halves of
# a byte 2.3 us. Whole bytes were no faster than halves, and need a table 16
# times as large. This one has 4,112 places (16 are EOS's), and takes 4 ms and
# 300 kB when the first such text arrives; who speaks no HTTP/2 never pays for
# it.

HPACK_EOS = (1 << 31) - 1       # the node of 30 ones


@functools.cache
def hpack_steps():
    """Give [(where the next 16 places begin, text)] and the nodes' numbers.

    >>> steps, nodes = hpack_steps()
    >>> place, text = steps[0b0001]             # from the root
    >>> nodes[place // 16] == 0b10001, steps[place + 0b1000][1]
    (True, 'a')
    """
    leaves = {int("1" + code, 2): chr(symbol)
              for symbol, code in hpack_codes().items() if symbol < 256}
    nodes = [1]
    for node in nodes:          # which grows while we walk along it
        nodes += [below for below in (2 * node, 2 * node + 1)
                  if below not in leaves and below <= HPACK_EOS]
    place = {node: 16 * number for number, node in enumerate(nodes)}
    steps = []
    for node, half in itertools.product(nodes, range(16)):
        text = ""
        for shift in (3, 2, 1, 0):
            # From EOS no way leads back: whoever sent it is found out at
            # the text's end.
            node = min(2 * node + (half >> shift & 1), HPACK_EOS)
            if node in leaves:
                text, node = leaves[node], 1
        steps.append((place[node], text))
    return steps, nodes


def hpack_unhuffman(data):
    """Read a text in Huffman code; each byte is a character (Latin-1).

    >>> hpack_unhuffman(bytes.fromhex("a8eb10649cbf"))
    'no-cache'

    Errors: HpackError, where it does not end in less than eight ones after a
    symbol (RFC 7541, section 5.2).
    """
    steps, nodes = hpack_steps()
    at, text = 0, []
    for byte in data:
        at, one = steps[at + (byte >> 4)]
        at, two = steps[at + (byte & 15)]
        text.append(one + two)
    node = nodes[at >> 4]
    if node > 0xff or node & node + 1:
        raise HpackError("a Huffman text ends in padding that is no EOS, or "
                         "has a whole byte of it")
    return "".join(text)


def hpack_text(block, at):
    """Read a text of either form; gives (text, where it ends).

    >>> hpack_text(bytes.fromhex("0a637573746f6d2d6b6579"), 0)
    ('custom-key', 11)
    """
    size, start = hpack_integer(block, at, 7)
    end = start + size
    if end > len(block):
        raise HpackError(f"a text of {size} bytes ends after its block")
    piece = block[start:end]
    return (hpack_unhuffman(piece) if block[at] & 0x80
            else piece.decode("latin-1")), end


# What both ends remember is a queue: a new field enters at 62, all others move
# up by one, and the oldest leave when the sizes add up to more than was agreed
# (4,096 bytes unless SETTINGS say otherwise). A field's size is that of its
# two texts and 32 more, for what a table of pointers would cost (4.1).
#
#       1 ... 61     62         63       64
#       static       newest  -> older -> oldest -> out
#
# The bound is no protection from the HPACK bomb (CVE-2016-6581): one field of
# 4,000 bytes is remembered, and then said again by one byte each time, until
# 16 kB on the wire have become 64 MB of headers. So what the fields would take
# if they were written out is counted while they are read.


class HpackDecoder:
    """Blocks in, fields out; one for each connection, for it remembers.

    >>> decoder = HpackDecoder()
    >>> decoder.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"))
    [(':method', 'GET'), (':scheme', 'http'), (':path', '/'), \
(':authority', 'www.example.com')]
    >>> decoder.table[62:], decoder.size        # what it learned
    ([(':authority', 'www.example.com')], 57)
    >>> decoder.decode(bytes.fromhex("828684be"))[-1]       # and now uses
    (':authority', 'www.example.com')

    `limit` is what was set as HEADER_TABLE_SIZE: nothing by us, and 256 in
    the RFC's examples. `most` bounds what the fields of one block may add up
    to, each with 32 bytes more.
    Errors: HpackError, after which the decoder is of no use; HpackTooLarge,
    after which it is.
    """

    def __init__(self, limit=4096):
        self.limit = self.room = limit      # `room`: what the client chose
        self.table, self.size = HPACK_STATIC.copy(), 0

    def decode(self, block, most=64 << 10):
        """Give the fields of a block as [(name, value)]."""
        try:
            return self.read(block, most)
        except IndexError:
            raise HpackError("the block ends within a field") from None

    def read(self, block, most):
        fields, at, end, table = [], self.resize(block), len(block), self.table
        while at < end:
            first = block[at]
            # The short way, for a field that is one byte: nearly all are.
            if 128 < first < 255 and first - 128 < len(table):
                field, at = table[first - 128], at + 1
            else:
                field, at = self.field(block, at)
            name, value = field
            most -= 32 + len(name) + len(value)
            if most < 0:
                raise HpackTooLarge("the fields are larger than they may be")
            fields.append(field)
        return fields

    def resize(self, block):
        """Obey the size updates that a block begins with (4.2, 6.3)."""
        at = 0
        while at < len(block) and block[at] & 0xe0 == 0x20:
            room, at = hpack_integer(block, at, 5)
            if room > self.limit:
                raise HpackError(f"a table of {room} bytes is more than the "
                                 f"{self.limit} that were agreed")
            self.room = room
            self.forget()
        return at

    def field(self, block, at):
        """Read one field of any form; gives (field, where it ends)."""
        first = block[at]
        if first & 0x80:
            index, at = hpack_integer(block, at, 7)
            return self.entry(index), at
        if first & 0xe0 == 0x20:
            raise HpackError("the table's size changes after a field")
        index, at = hpack_integer(block, at, 6 if first & 0x40 else 4)
        if index:
            name = self.entry(index)[0]
        else:
            name, at = hpack_text(block, at)
        value, at = hpack_text(block, at)
        if first & 0x40:
            self.remember((name, value))
        return (name, value), at

    def entry(self, index):
        if not 0 < index < len(self.table):
            raise HpackError(f"there is no field {index} in the table")
        return self.table[index]

    def remember(self, field):
        self.table.insert(62, field)
        self.size += 32 + len(field[0]) + len(field[1])
        self.forget()

    def forget(self):
        """Let the oldest go, until the rest has room.

        A field that alone is too large drives out all others, and then goes
        itself: that is no error, but a way to clear the table (4.4).
        """
        while self.size > self.room:
            name, value = self.table.pop()
            self.size -= 32 + len(name) + len(value)


# Our own fields are few and short, so we remember nothing and ask nobody to:
# what is in the static table is a number, all else a literal. That suits every
# client, also one whose table has 0 bytes, and no state of ours can go out of
# step with theirs. Nor do we write Huffman code: it would save 18 of the 72
# bytes that the fields of a gRPC answer take, in a packet that has 40 bytes of
# TCP and IP before them, and cost more time than all else here.

# By a field its own place, by a name the first place that has it.
HPACK_INDEX = {sought: spot for spot, static in
               reversed([*enumerate(HPACK_STATIC)][1:])
               for sought in (static, static[0])}


def hpack_encode(fields):
    """Write fields, (name, value) tuples, as a block that needs no table.

    >>> hpack_encode([(":status", "200"), ("age", "7")]).hex(" ")
    '88 0f 06 01 37'
    """
    block = b""
    for field in fields:
        index = HPACK_INDEX.get(field)
        if index:
            block += hpack_number(index, 7, 0x80)
            continue
        name, value = (text.encode("latin-1") for text in field)
        index = HPACK_INDEX.get(field[0], 0)
        block += hpack_number(index, 4)
        if not index:
            block += hpack_number(len(name), 7) + name
        block += hpack_number(len(value), 7) + value
    return block


# 15.4 HTTP/2: frames --------------------------------------------------------
#
# HTTP/1.1 gives its answers one after the other, and a slow one holds up all
# behind it. HTTP/2 (RFC 9113) cuts requests and answers into frames; each
# frame says which exchange it is of, its stream, and so they may be mixed.
# Nine bytes stand before each (section 4.1):
#
#       0              3      4       5                  9
#       +--------------+------+-------+-+----------------+---------
#       | length       | type | flags |R| stream         | payload
#       +--------------+------+-------+-+----------------+---------
#         24 bits        8      8      1  31               length bytes
#
# R is reserved, and ignored. The block of 15.3, asked on stream 1:
#
#       00 00 11   01        05            00 00 00 01   82 86 84 41 8c f1 ...
#       17 bytes   HEADERS   END_HEADERS   stream 1      the block
#                            END_STREAM
#
# A client takes odd numbers for its streams, each larger than the last. Even
# ones are for what a server pushes unasked, which we never do; 0 is for the
# connection itself. The life of two requests, of which the second is quicker:
#
#       client                               server
#         |                                    |
#         | --- "PRI * HTTP/2.0...", SETTINGS  |     (1) the preface
#         | <-- SETTINGS, WINDOW_UPDATE 0 ---  |     (2) ours, unasked
#         | --- HEADERS 1 ------------------>  |     (3) a head
#         | --- HEADERS 3, END_STREAM ------>  |     (4) another: that is all
#         | --- DATA 1, END_STREAM --------->  |     (5) the first one's body
#         | <-- HEADERS 3, DATA 3, END_STREAM  |     (6) the second's answer
#         | <-- HEADERS 1, DATA 1 -----------  |     (7) the first's; in gRPC
#         | <-- HEADERS 1, END_STREAM -------  |     (8) it ends in trailers
#
#   Vocabulary   stream   a stream's number            e.g. 1
#                one      an H2Stream: one that is open
#                block    fields, in HPACK             e.g. 82 86 84
#                room     bytes that the client may still send us
#                window   bytes that we may still send it
#
# A frame of the title page, between us and a worker, is none of these, and a
# stream of it, an answer that is still coming, has a capital here: a Stream.
#
# The preface is a request of a method that nobody has: an HTTP/1.1 server
# that is spoken to by mistake refuses it at once, and executes nothing (3.4).

H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

H2_HEAD = struct.Struct(">IBI")     # length and type are read as one number

(H2_DATA, H2_HEADERS, H2_PRIORITY, H2_RST_STREAM, H2_SETTINGS, H2_PUSH_PROMISE,
 H2_PING, H2_GOAWAY, H2_WINDOW_UPDATE, H2_CONTINUATION) = range(10)

H2_END_STREAM = H2_ACK = 1          # one bit; the type says which it is
H2_END_HEADERS, H2_PADDED, H2_PRIORITIZED = 4, 8, 32

H2_FRAME = 16384            # bytes; the largest payload that every peer must
                            # take (4.2). We take none larger, and send none.


class H2Kind(typing.NamedTuple):
    """What is known of all frames of a type (RFC 9113, section 6)."""
    name: str
    streams: tuple = (True,)    # False: stream 0; True: another
    sizes: range = range(H2_FRAME + 1)
    flags: dict = {}            # {bit: name}


H2_KINDS = (                # by number
    H2Kind("DATA", flags={1: "END_STREAM", 8: "PADDED"}),
    H2Kind("HEADERS", flags={1: "END_STREAM", 4: "END_HEADERS", 8: "PADDED",
                             32: "PRIORITY"}),
    H2Kind("PRIORITY"),         # of 5 bytes: on_priority says why not here
    H2Kind("RST_STREAM", sizes=range(4, 5)),
    H2Kind("SETTINGS", (False,), range(0, H2_FRAME + 1, 6), {1: "ACK"}),
    H2Kind("PUSH_PROMISE", flags={4: "END_HEADERS", 8: "PADDED"}),
    H2Kind("PING", (False,), range(8, 9), {1: "ACK"}),
    H2Kind("GOAWAY", (False,), range(8, H2_FRAME + 1)),
    H2Kind("WINDOW_UPDATE", (False, True), range(4, 5)),
    H2Kind("CONTINUATION", flags={4: "END_HEADERS"}))

# Why something ended is said by a number (section 7), in a RST_STREAM of a
# stream, or in a GOAWAY of the connection:
#
#       0   NO_ERROR             that is all
#       1   PROTOCOL_ERROR       a rule was broken, and no other code has it
#       2   INTERNAL_ERROR       the fault of whoever says it
#       3   FLOW_CONTROL_ERROR   more than a window; or a window too large
#       4   SETTINGS_TIMEOUT     no ACK came
#       5   STREAM_CLOSED        a frame after the end
#       6   FRAME_SIZE_ERROR     too short, too long
#       7   REFUSED_STREAM       not even begun: it may be asked again
#       8   CANCEL               the answer is not wanted any more
#       9   COMPRESSION_ERROR    the HPACK tables have parted
#       10  CONNECT_ERROR        a tunnel has collapsed
#       11  ENHANCE_YOUR_CALM    you cost too much
#
# 12 and 13 are for those who want better TLS, or HTTP/1.1.

(H2_NO_ERROR, H2_PROTOCOL_ERROR, H2_INTERNAL_ERROR, H2_FLOW_CONTROL_ERROR,
 H2_SETTINGS_TIMEOUT, H2_STREAM_CLOSED, H2_FRAME_SIZE_ERROR, H2_REFUSED_STREAM,
 H2_CANCEL, H2_COMPRESSION_ERROR, H2_CONNECT_ERROR, H2_ENHANCE_YOUR_CALM
 ) = range(12)

# Each end tells the other its settings, and the other obeys from its ACK on.
# A setting is a number of two bytes and a value of four (6.5.1); numbers that
# we do not know are skipped.
#
#       1  HEADER_TABLE_SIZE        4,096      put_block obeys it
#       2  ENABLE_PUSH              1          we never push
#       3  MAX_CONCURRENT_STREAMS   no limit   the client's is for pushes
#       4  INITIAL_WINDOW_SIZE      65,535     resize obeys it
#       5  MAX_FRAME_SIZE           16,384     ours are never larger
#       6  MAX_HEADER_LIST_SIZE     no limit   ours are short

H2_TABLE_SIZE, H2_MAX_STREAMS, H2_INITIAL_WINDOW, H2_MAX_LIST = 1, 3, 4, 6
H2_MOST = (1 << 31) - 1     # the largest window (6.9.1), the largest stream

H2_ALLOWED = {              # what 2, 4 and 5 may be; else a code (6.5.2)
    2: (range(2), H2_PROTOCOL_ERROR),
    4: (range(H2_MOST + 1), H2_FLOW_CONTROL_ERROR),
    5: (range(1 << 14, 1 << 24), H2_PROTOCOL_ERROR)}


class H2Error(Exception):
    """A rule was broken: on one stream, or (0) on the whole connection.

    If both ends still agree on all that they share, the windows and HPACK's
    table, it is the stream's error, and the others live on (5.4).
    """

    def __init__(self, code, sentence, stream=0):
        super().__init__(sentence)
        self.code, self.stream = code, stream


def h2_frame(kind, flags=0, stream=0, payload=b""):
    """Spell a frame.

    >>> h2_frame(H2_PING, H2_ACK, payload=b"12345678").hex(" ")
    '00 00 08 06 01 00 00 00 00 31 32 33 34 35 36 37 38'
    """
    return H2_HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def h2_frames(data):
    """Read frames in order to look at them: [(name, stream, flags, payload)].

    >>> h2_frames(bytes.fromhex("000011 01 05 00000001"
    ...                         "828684418cf1e3c2e5f23a6ba0ab90f4ff"))
    [('HEADERS', 1, 'END_STREAM END_HEADERS', b'\\x82\\x86\\x84A\\x8c\
\\xf1\\xe3\\xc2\\xe5\\xf2:k\\xa0\\xab\\x90\\xf4\\xff')]
    >>> h2_frames(H2_PREFACE + h2_frame(H2_SETTINGS))
    [('PREFACE', 0, '', b''), ('SETTINGS', 0, '', b'')]

    Nothing is checked; what is incomplete at the end is left out.
    """
    found, at = [], 0
    if data.startswith(H2_PREFACE):
        found, at = [("PREFACE", 0, "", b"")], len(H2_PREFACE)
    while at + 9 <= len(data):
        word, bits, stream = H2_HEAD.unpack_from(data, at)
        at, start = at + 9 + (word >> 8), at + 9
        if at <= len(data):
            kind = word & 255
            kind = H2_KINDS[kind] if kind < 10 else H2Kind(f"TYPE {kind}")
            flags = [kind.flags.get(1 << bit, f"BIT {bit}")
                     for bit in range(8) if bits & 1 << bit]
            found.append((kind.name, stream & H2_MOST, " ".join(flags),
                          data[start:at]))
    return found


def h2_settings(settings):
    """Spell settings, {number: value}, as the payload of their frame.

    >>> h2_settings({H2_INITIAL_WINDOW: 65535}).hex(" ")
    '00 04 00 00 ff ff'
    """
    return b"".join(struct.pack(">HI", *pair) for pair in settings.items())


def h2_window(stream, step):
    """Spell a WINDOW_UPDATE: `step` bytes more may come (6.9).

    >>> h2_window(0, 1).hex(" ")
    '00 00 04 08 00 00 00 00 00 00 00 00 01'
    """
    return h2_frame(H2_WINDOW_UPDATE, 0, stream, step.to_bytes(4, "big"))


def h2_goaway(last, code, sentence=""):
    """Spell a GOAWAY: streams after `last` were not looked at (6.8).

    >>> h2_goaway(1, H2_PROTOCOL_ERROR, "why").hex(" ")
    '00 00 0b 07 00 00 00 00 00 00 00 00 01 00 00 00 01 77 68 79'
    """
    return h2_frame(H2_GOAWAY, 0, 0, struct.pack(">II", last, code)
                    + sentence.encode("utf-8", "replace"))


def h2_ask(stream, fields, body=b""):
    """Spell a request: all of a client that examples and tests need.

    >>> h2_frames(h2_ask(1, [(":method", "POST")], b"hi"))
    [('HEADERS', 1, 'END_HEADERS', b'\\x83'), ('DATA', 1, 'END_STREAM', \
b'hi')]
    """
    flags = H2_END_HEADERS | (0 if body else H2_END_STREAM)
    head = h2_frame(H2_HEADERS, flags, stream, hpack_encode(fields))
    return head + (h2_frame(H2_DATA, H2_END_STREAM, stream, body) if body
                   else b"")


def h2_unpad(payload):
    """Take the padding off: its length stands first, its zeros last (6.1).

    >>> h2_unpad(bytes.fromhex("02 6869 0000"))
    b'hi'

    Padding hides a message's length from whoever sees it encrypted.
    """
    if not payload:
        raise H2Error(H2_FRAME_SIZE_ERROR, "a padded frame is empty")
    if payload[0] >= len(payload):
        raise H2Error(H2_PROTOCOL_ERROR, f"{payload[0]} bytes of padding are "
                      "more than the frame has")
    return payload[1:len(payload) - payload[0]]


# What is a request? ----------------------------------------------------------
#
# A block of fields that keeps the rules of section 8. What was the first line
# in HTTP/1.1 has become fields, too: their names begin with a colon, and they
# stand before the others. What is refused, and where RFC 9113 says so:
#
#       a name with capitals, blanks or a colon inside, or empty        8.2.1
#       a value with a control byte, or a blank at either end           8.2.1
#       connection, keep-alive, transfer-encoding and their like        8.2.2
#       te, unless it is "trailers"                                     8.2.2
#       a pseudo-field after a field, twice, unknown, or in trailers    8.3
#       no :method, :scheme or :path; a :path without its slash         8.3.1
#       a host that is not the :authority; a user in the :authority     8.3.1
#       CONNECT, for there is no tunnel to be had here                  8.5
#       a content-length that is not the sum of the DATA                8.1.1
#
# Behind most of these is smuggling again (chapter 9): a proxy would write the
# request down as HTTP/1.1, and the server behind it would read another. It is
# the stream that ends for it, with PROTOCOL_ERROR; the block has been read, so
# that the connection is as good as before.

H2_LINES = re.compile(r"(?>:?[!#$%&'*+.^_`|~0-9a-z-]++\n"
                      r"(?![ \t])[\t\x20-\x7e\x80-\xff]*+(?<![ \t])\n)*+")
H2_PSEUDO = frozenset([":method", ":scheme", ":path", ":authority"])
H2_FORBIDDEN = frozenset("connection keep-alive proxy-connection "
                         "transfer-encoding upgrade".split())
H2_SPECIAL = H2_FORBIDDEN | {"te", "host", "content-length"}

# A method, a space, an authority without "@", "/" or "?", a space, and a path
# without "#", as in 9.1. What ++ and *+ have taken they do not give back, so
# that a long line that does not match is seen through once.
H2_HOST = r"[!$-.0-;=A-Z\[\]_a-z~]*+"
H2_TARGET = re.compile(
    rf"(?!CONNECT ){TOKEN.decode()} {H2_HOST} /[\x21\x22\x24-\x7e]*+"
    rf"|OPTIONS {H2_HOST} \*")


class H2Malformed(Exception):
    """A request or its trailers break a rule of section 8."""


def h2_sort_fields(fields):
    """Check each field, and give those that need a second look.

    >>> h2_sort_fields([(":path", "/"), ("lab", "a b"), ("te", "trailers")])
    ({':path': '/'}, [('te', 'trailers')])
    >>> h2_sort_fields([("Lab", "x")])
    Traceback (most recent call last):
    ...
    faas.H2Malformed: a field's name or value has a character that it may not \
have

    One pattern sees all of them, in a text where each name and each value has
    a line. A line's end inside of one would make a line too many.
    """
    lines = "".join([f"{name}\n{value}\n" for name, value in fields])
    if lines.count("\n") != 2 * len(fields) or not H2_LINES.fullmatch(lines):
        raise H2Malformed("a field's name or value has a character that it "
                          "may not have")
    pseudo, special = {}, []
    for at, (name, value) in enumerate(fields):
        if name[0] == ":":
            if at != len(pseudo) or name in pseudo or name not in H2_PSEUDO:
                raise H2Malformed(f"the pseudo-field {name} comes twice, too "
                                  "late, or from nowhere")
            pseudo[name] = value
        elif name in H2_SPECIAL:
            special.append((name, value))
    return pseudo, special


@functools.lru_cache(maxsize=32)
def h2_check_request(fields):
    """Refuse what is no request; give its content-length, or None.

    >>> get = (":method", "GET"), (":scheme", "http"), (":path", "/")
    >>> h2_check_request((*get, ("content-length", "5")))
    5
    >>> h2_check_request(get[:2])
    Traceback (most recent call last):
    ...
    faas.H2Malformed: a request has no ':path'

    The last good ones are kept, as in 9.1: clients repeat themselves, and to
    check a head takes about as long as all else that is done here for it.
    """
    pseudo, special = h2_sort_fields(fields)
    lengths, hosts = h2_check_special(special)
    if ":authority" in pseudo:
        hosts.add(pseudo[":authority"].lower())
    if len(lengths) > 1 or len(hosts) > 1:
        raise H2Malformed("two hosts, or two lengths, differ")
    try:
        line = f"{pseudo[':method']} {''.join(hosts)} {pseudo[':path']}"
        pseudo[":scheme"]
    except KeyError as missing:
        raise H2Malformed(f"a request has no {missing}") from None
    if not H2_TARGET.fullmatch(line):
        raise H2Malformed(f"nothing is served for {line[:60]!r}")
    return lengths.pop() if lengths else None


def h2_check_special(special):
    """Refuse what HTTP/2 has no use for; give the lengths and the hosts.

    >>> h2_check_special([("host", "A"), ("content-length", "5")])
    ({5}, {'a'})

    To say either twice is no error here, if it is the same; of a length
    RFC 9110 (8.6) allows that.
    """
    lengths, hosts = set(), set()
    for name, value in special:
        if name == "host":
            hosts.add(value.lower())
        elif name == "content-length":
            if not re.fullmatch("[0-9]{1,15}", value, re.ASCII):
                raise H2Malformed("the content-length is no length")
            lengths.add(int(value))
        elif (name, value) != ("te", "trailers"):
            raise H2Malformed(f"{name} is about a connection of HTTP/1.1")
    return lengths, hosts


def h2_check_trailers(fields):
    """Refuse what are no trailers.

    >>> h2_check_trailers([("sum", "1")])
    """
    pseudo, special = h2_sort_fields(fields)
    if pseudo:
        raise H2Malformed("trailers have a pseudo-field")
    h2_check_special(special)


# 15.5 HTTP/2: one connection ------------------------------------------------
#
# A stream goes through these states (RFC 9113, 5.1; without pushes there are
# no more). Each end closes its half by END_STREAM; RST_STREAM closes both.
#
#               HEADERS        client's END_STREAM        our END_STREAM
#         idle --------> open -------------> half-closed -------------> closed
#                         |                      |                        ^
#                         +----------------------+-- RST_STREAM ----------+
#                         +-- our END_STREAM; RST_STREAM(NO_ERROR) -------+
#
# The last arrow spares us a state: where an answer is complete before its
# request, the rest of that is of no use, and we say so (8.1). The other order,
# first the reset, would make clients throw the answer away.
#
#       a frame of it   idle       open         half-closed   closed
#       HEADERS         a head     trailers     an error (1)  an error (2)
#       DATA            error (3)  a piece      an error (1)  an error (2)
#       RST_STREAM      error (3)  it is off    it is off     ignored
#       WINDOW_UPDATE   error (3)  the window   the window    ignored
#       PRIORITY        ignored    ignored      ignored       ignored
#
#       (1)  of the stream, STREAM_CLOSED
#       (2)  of the connection, STREAM_CLOSED, if the client had closed it. If
#            we had, it did not know yet: the frame is thrown away, but its
#            block is read and its bytes are counted, or else the two tables
#            and the two windows would part.
#       (3)  of the connection, PROTOCOL_ERROR
#
# Only open streams cost memory. Of all others the highest number that came is
# enough: above it they are idle, up to it closed. By whom, is remembered of
# the last few.

H2_STREAMS = 128            # open at once; RFC 9113 wants 100 or more (6.5.2)
H2_WINDOW = 1 << 20         # bytes of room for each stream, and for all: on a
                            # line of 50 ms, 20 MB/s
H2_LIST = 64 << 10          # bytes of a block, and of its fields; twice
                            # MAX_HEAD, because each field counts 32 more
H2_REMEMBERED = 256         # closed streams: twice those that can be open

# Our first words, which some clients wait for before they ask anything; so we
# do not wait for theirs (3.4).

H2_HELLO = h2_frame(H2_SETTINGS, 0, 0, h2_settings({
    H2_MAX_STREAMS: H2_STREAMS, H2_INITIAL_WINDOW: H2_WINDOW,
    H2_MAX_LIST: H2_LIST})) + h2_window(0, H2_WINDOW - 65535)


class H2Stream:
    """A stream that is open: what is to come, and what is to go.

        room      the client may still send so many bytes
        left      so many are missing to its content-length; None: it has none
        ended     it has sent END_STREAM
        heard     when the head came, put off by DATA; see H2_STALL
        window    we may still send so many; less than none is possible
        pieces    of the answer, which wait; `queued`: their bytes
        last      what comes after them: a block of trailers, or b"" for no
                  trailers; None while more may follow
        turning   it stands in the queue of those that can send
        stuck     since when no piece has gone, put off by what has; None:
                  nobody has looked
    """
    __slots__ = ("stream", "window", "room", "left", "ended", "heard",
                 "pieces", "queued", "last", "turning", "stuck")

    def __init__(self, stream, window, left=None, ended=False, heard=0.0):
        self.stream, self.window, self.room = stream, window, H2_WINDOW
        self.left, self.ended, self.heard = left, ended, heard
        self.pieces, self.queued, self.last = collections.deque(), 0, None
        self.turning, self.stuck = False, None


# What goes -------------------------------------------------------------------
#
# A window is a promise of memory: who receives says how much may come, on the
# stream and on the connection, and takes back nothing but by SETTINGS (5.2).
# DATA counts, padding and all; no other frame does. Say that 100,000 bytes
# are to go on stream 1:
#
#       what comes                    connection  stream 1   what goes
#                                         65,535    65,535   3 x 16,384, 16,383
#       WINDOW_UPDATE 1: 50,000                0    50,000   nothing
#       WINDOW_UPDATE 0: 34,465           34,465    50,000   2 x 16,384, 1,697
#                                              0    15,535
#       SETTINGS, INITIAL_WINDOW 0             0   -50,000
#
# The last line shows a window below zero: the setting is what the windows
# began with, so it moves those of all open streams by the difference (6.9.2).
#
# Streams take turns, one frame each. An answer of 4 MB then delays one of 20
# bytes by a frame for each turn, and not by 4 MB.

H2_TAKE = 64 << 10          # bytes of DATA at once; what is given to the
                            # socket cannot be overtaken any more
H2_WAITING = 16 << 20       # bytes of answers that wait: two of the largest,
                            # and some; past it, new streams are refused
H2_EXPLAINED = 3            # frames of the client that one of ours explains:
                            # two WINDOW_UPDATEs, and a PING of Go's, which
                            # measures the line with each DATA that comes
H2_UNCOUNTED = 2000         # such frames that may be outstanding
H2_CRUMB = 256              # bytes; a smaller frame explains nothing, unless
                            # it is all there is: or a client could let the
                            # window grow by one byte, four million times
                            # (CVE-2019-9511)


class H2Sender:
    """The half of a connection that sends: answers in, bytes out.

    >>> sender = H2Sender()
    >>> sender.streams[1] = H2Stream(1, window=65535)
    >>> sender.data(1, bytes(100_000))
    >>> def sizes(): return [len(frame[3]) for frame in
    ...                      h2_frames(sender.take())]
    >>> sizes()
    [16384, 16384, 16384, 16383]
    >>> sender.grow(1, 50_000); sizes()
    []
    >>> sender.grow(0, 34_465); sizes()
    [16384, 16384, 1697]
    >>> sender.resize(0); sender.streams[1].window
    -50000

    What is said on a stream that is not open any more is thrown away: its
    client has called it off, and does not listen.
    """

    #    out, unsent         frames that go next, and their bytes: no DATA
    #    waiting             bytes of DATA that wait for a window or their turn
    #    window, initial     the connection's; what a new stream begins with
    #    turns               the streams that can send, the next one first
    #    shrink              see put_block
    #    last                the highest stream whose head was accepted
    #    leaving, closed     shut_down was called; the code of the end
    #    explained           see H2_EXPLAINED
    #    now                 when something came last

    def __init__(self, now=0.0):
        self.now, self.out, self.unsent, self.waiting = now, [], 0, 0
        self.window = self.initial = 65535
        self.turns, self.shrink, self.explained = collections.deque(), False, 0
        self.streams, self.last = {}, 0
        self.reset_by_us = collections.deque(maxlen=H2_REMEMBERED)
        self.closed_by_them = collections.deque(maxlen=H2_REMEMBERED)
        self.leaving, self.closed = False, None

    def headers(self, stream, fields, ended=False):
        """Answer with a head."""
        one = self.streams.get(stream)
        if one is not None:
            self.put_block(stream, hpack_encode(fields), ended)
            if ended:
                self.finish(one)

    def data(self, stream, data, ended=False):
        """Answer with a piece of content, which goes when it may."""
        one = self.streams.get(stream)
        if one is None:
            return
        if data:
            one.heard = self.now        # A conversation may take its time.
            # A view can be cut without copying what lies behind the cut.
            one.pieces.append(data if len(data) <= H2_FRAME
                              else memoryview(data))
            one.queued += len(data)
            self.waiting += len(data)
            self.line_up(one)
        if ended:
            self.conclude(one, b"")

    def trailers(self, stream, fields):
        """End an answer with fields, which go after all of its content."""
        one = self.streams.get(stream)
        if one is not None:
            self.conclude(one, hpack_encode(fields))

    def reset(self, stream, code):
        """Break an answer off."""
        one = self.streams.get(stream)
        if one is not None:
            self.put_reset(stream, code)
            self.forget(one, by_us=not one.ended)

    def queued(self, stream):
        """Give the bytes of an answer that were not taken yet."""
        one = self.streams.get(stream)
        return one.queued if one is not None else 0

    def shut_down(self):
        """Accept no more streams, and be `closed` when the last has ended.

        The client is told the last one that was accepted, and may ask again
        elsewhere whatever it has asked since (6.8).

        >>> sender = H2Sender(); sender.shut_down()
        >>> h2_frames(sender.take())[0][0], sender.closed
        ('GOAWAY', 0)
        """
        if self.closed is None and not self.leaving:
            self.put(h2_goaway(self.last, H2_NO_ERROR, "shutting down"))
            self.leaving = True
            if not self.streams:
                self.closed = H2_NO_ERROR

    def close(self, code, sentence):
        """End the connection, and say why (5.4.1)."""
        self.put(h2_goaway(self.last, code, sentence))
        self.closed, self.waiting = code, 0
        self.streams.clear()
        self.turns.clear()

    def take(self):
        """Give the bytes that are to be sent now; b"" if there are none.

        A large answer comes in portions. So this is called again once the
        socket has taken one, until nothing comes.

        >>> sender = H2Sender()
        >>> for stream, size in (1, 40_000), (3, 2):
        ...     sender.streams[stream] = H2Stream(stream, 65535, ended=True)
        ...     sender.data(stream, bytes(size), ended=True)
        >>> [(stream, flags) for _, stream, flags, _ in
        ...  h2_frames(sender.take())]
        [(1, ''), (3, 'END_STREAM'), (1, ''), (1, 'END_STREAM')]
        """
        most = H2_TAKE
        while self.turns and self.window > 0 and most > 0:
            most -= self.send_piece(self.turns.popleft())
        data = b"".join(self.out)
        self.out.clear()
        self.unsent = 0
        return data

    def send_piece(self, one):
        """Put a frame of a stream whose turn it is; give its size."""
        one.turning = False
        if one.window <= 0:         # Settings took it, since it lined up.
            return 0
        piece = one.pieces[0]
        size = min(len(piece), H2_FRAME, self.window, one.window)
        if size == len(piece):
            one.pieces.popleft()
        else:
            one.pieces[0], piece = piece[size:], piece[:size]
        if size >= H2_CRUMB or not one.pieces:
            self.explain()
        one.queued -= size
        one.window -= size
        self.window -= size
        self.waiting -= size
        if not one.pieces:
            one.stuck = None
        elif one.stuck is not None:
            one.stuck += size / BODY_RATE
        self.put_data(one, size, piece)
        return size

    def put_data(self, one, size, piece):
        """Put a frame of DATA, and what follows if it is the last."""
        ending = not one.pieces and one.last is not None
        flags = H2_END_STREAM if ending and not one.last else 0
        self.out += (
            H2_HEAD.pack(size << 8 | H2_DATA, flags, one.stream), piece)
        if not ending:
            return self.line_up(one)
        if one.last:
            self.put_block(one.stream, one.last, True)
        self.finish(one)

    def conclude(self, one, block):
        """Note how an answer ends; if nothing waits, it ends now.

        An empty frame of DATA waits for no window (6.9.1), nor do fields.
        """
        one.last = block
        if not one.pieces:
            if block:
                self.put_block(one.stream, block, True)
            else:
                self.put(h2_frame(H2_DATA, H2_END_STREAM, one.stream))
            self.finish(one)

    def finish(self, one):
        """Let a stream go whose answer is complete."""
        if not one.ended:
            self.put_reset(one.stream, H2_NO_ERROR)
        self.forget(one, by_us=not one.ended)

    def forget(self, one, by_us):
        """Let a stream go, and all that waits there."""
        del self.streams[one.stream]
        (self.reset_by_us if by_us else self.closed_by_them).append(one.stream)
        self.waiting -= one.queued
        one.pieces.clear()
        if one.turning:
            self.turns.remove(one)
        if self.leaving and not self.streams:
            self.closed = H2_NO_ERROR

    def put(self, frame):
        self.out.append(frame)
        self.unsent += len(frame)

    def put_reset(self, stream, code):
        self.put(h2_frame(H2_RST_STREAM, 0, stream, code.to_bytes(4, "big")))

    def put_block(self, stream, block, ended):
        """Put a block, in several frames if it is long (6.10).

        A client that has chosen the size of our HPACK table wants to hear in
        the next block what became of that (RFC 7541, 4.2), though our encoder
        uses no table. It is 0 bytes from now on, which no client can find too
        much; and there is nothing more to be heard later.
        """
        if self.shrink:
            block, self.shrink = b"\x20" + block, False
        kind, flags = H2_HEADERS, H2_END_STREAM if ended else 0
        while len(block) > H2_FRAME:
            self.put(h2_frame(kind, flags, stream, block[:H2_FRAME]))
            block, kind, flags = block[H2_FRAME:], H2_CONTINUATION, 0
        self.put(h2_frame(kind, flags | H2_END_HEADERS, stream, block))

    def line_up(self, one):
        """Let a stream wait for its turn, if it can send."""
        if not one.turning and one.pieces and one.window > 0:
            one.turning = True
            self.turns.append(one)

    def grow(self, stream, step):
        """Obey a WINDOW_UPDATE, of a stream or (0) of the connection."""
        one = self.streams[stream] if stream else self
        if not step:
            raise H2Error(H2_PROTOCOL_ERROR, "a window grows by nothing",
                          stream)
        one.window += step
        if one.window > H2_MOST:
            raise H2Error(H2_FLOW_CONTROL_ERROR, "a window grows beyond "
                          f"{H2_MOST}", stream)
        if stream:
            self.line_up(one)

    def resize(self, initial):
        """Obey an INITIAL_WINDOW_SIZE (6.9.2)."""
        step, self.initial = initial - self.initial, initial
        for one in self.streams.values() if step else ():
            one.window += step
            if one.window > H2_MOST:
                raise H2Error(H2_FLOW_CONTROL_ERROR, "a setting takes a "
                              f"window beyond {H2_MOST}")
            self.line_up(one)

    def explain(self):
        if self.explained < H2_UNCOUNTED:
            self.explained += H2_EXPLAINED


# What comes ------------------------------------------------------------------
#
# Much in HTTP/2 is cheap to ask for and dear to do, and each of these has been
# an attack. All end in ENHANCE_YOUR_CALM, with a sentence that says why:
#
#       streams that are opened and reset at once      "rapid reset", 2023,
#       go on being worked for                         CVE-2023-44487
#       streams on which the client errs, so that      "made you reset", 2025,
#       it is the server that resets                   CVE-2025-8671
#       PING, SETTINGS, empty DATA, PRIORITY: frames   2019, CVE-2019-9512,
#       that bring nothing, and want an answer         9513, 9515, 9518
#       the answers to them, which nobody reads        the same
#       a block that goes on and on                    2024, CVE-2024-27316
#       a block that unpacks to megabytes (15.3)       2016, CVE-2016-6581
#
# The bounds have to be wide. gRPC's own servers cut off a client that sends
# keep-alive PINGs more often than every five minutes (too_many_pings, gRFC
# A8), and its lists of issues are full of good connections that were lost so.

H2_RESETS = (33, 1000)      # a second, and at once: nghttp2's bounds
H2_IDLE = (500, 2000)       # frames that bring nothing, the same way: each
                            # takes us some 5 us, so this is a quarter of a
                            # percent of a processor
H2_PIECES = 64              # frames of a block: H2_LIST in pieces of 1 kB
H2_UNSENT = 1 << 20         # bytes of frames other than DATA: ten thousand
                            # answers, if they are short

# Slowness is an attack, too (chapter 9). A connection without a stream may be
# silent for that chapter's SILENCE; and beyond that:

H2_FRAME_TIME = 10.0        # s for a frame, a block, or the preface, from its
                            # first byte: as HEAD_TIME
H2_STALL = 60.0             # s that a request or an answer may stand still
                            # for, and 1 s more for each kB (BODY_RATE): a byte
                            # a minute is standing still

# Somebody who speaks HTTP/1.1 to us cannot read frames. If ours have gone out
# already, curl says no more than "Received HTTP/0.9 when not allowed"; if not,
# it shows the sentence. So a door that first waits for a moment whether bytes
# come, as they do from every client of HTTP/2, is the kinder one.

H2_ONLY = ("this port speaks HTTP/2, from the first byte on: "
           "curl --http2-prior-knowledge\n")


class H2Event(typing.NamedTuple):
    """What a client has done on a stream."""
    what: str                   # 'headers', 'data', 'trailers' or 'reset'
    stream: int
    fields: tuple = ()          # of headers and trailers: (name, value)
    data: bytes = b""
    ended: bool = False         # the request is complete
    code: int = 0               # of a reset


class H2Connection(H2Sender):
    """The server's end of a connection: bytes in, events out, and back.

    >>> server = H2Connection(now=0.0)
    >>> [name for name, *_ in h2_frames(server.take())]
    ['SETTINGS', 'WINDOW_UPDATE']
    >>> ask = h2_ask(1, [(":method", "POST"), (":scheme", "http"),
    ...                  (":path", "/echo")], b"hi")
    >>> hello = H2_PREFACE + h2_frame(H2_SETTINGS)
    >>> for event in server.receive(hello + ask, now=0.1):
    ...     print(event.what, event.stream, event.data, event.ended)
    headers 1 b'' False
    data 1 b'hi' True
    >>> server.headers(1, [(":status", "200")])
    >>> server.data(1, b"HI", ended=True)
    >>> for frame in h2_frames(server.take()):
    ...     print(*frame)
    SETTINGS 0 ACK b''
    HEADERS 1 END_HEADERS b'\\x88'
    DATA 1 END_STREAM b'HI'

    Whatever a client sends, nothing is raised. An error of a stream becomes a
    RST_STREAM, and an event "reset" where there were "headers" before; an
    error of the connection becomes a GOAWAY, and the code in `closed`.

    >>> server.receive(h2_window(5, 1), now=0.2), server.closed
    ([], 1)
    >>> server.take()[17:]
    b'a WINDOW_UPDATE comes on stream 5, which was not begun'

    What comes is credited to the windows at once: whoever gathers it bounds
    it. With `closed` set, and all taken, the socket may be closed. No socket
    and no clock live here; of several threads only one may be in here.
    """

    #    held            bytes of a frame that is not whole
    #    stage           'preface', 'settings' (the first), 'open'
    #    block           pieces of a block that is not whole, or None
    #    block_of        its stream, and the flags of its HEADERS
    #    room            bytes that may still come, on the connection
    #    highest         the highest stream that came, accepted or not
    #    heard, begun    when bytes came last, and when what is not whole began
    #    due, looked     when to look at the streams next, and when we last did

    def __init__(self, now):
        super().__init__(now)
        self.put(H2_HELLO)
        self.held, self.stage = b"", "preface"
        self.hpack, self.events = HpackDecoder(), []
        self.block, self.block_of = None, (0, 0)
        self.room, self.highest = H2_WINDOW, 0
        self.resets, self.idle = Budget(*H2_RESETS), Budget(*H2_IDLE)
        self.heard = self.looked = now
        self.begun, self.due = None, now + H2_STALL

    def receive(self, data, now):
        """Take bytes, in whatever pieces; give the events."""
        self.events, self.now = [], now
        if self.closed is None:
            self.heard = now
            try:
                self.read(self.held + data if self.held else data)
                if self.unsent > H2_UNSENT:
                    raise H2Error(H2_ENHANCE_YOUR_CALM, f"{self.unsent} bytes "
                                  "of answers were not read")
            except H2Error as error:
                self.close(error.code, str(error))
        return self.look_if_due(now)

    def read(self, data):
        """Take whole frames off the front, and hold the rest."""
        at, end = 0, len(data)
        if self.stage == "preface":
            at = self.read_preface(data)
        while at is not None and at + 9 <= end:
            word, flags, stream = H2_HEAD.unpack_from(data, at)
            stop = at + 9 + (word >> 8)
            if word >> 8 > H2_FRAME:
                raise H2Error(H2_FRAME_SIZE_ERROR, f"a frame of {word >> 8} "
                              f"bytes is larger than {H2_FRAME}")
            if stop > end:
                break
            self.frame(word & 255, flags, stream & H2_MOST, data[at + 9:stop])
            at = stop
        self.held = data[at:] if at else data
        self.note_begun(at)

    def read_preface(self, data):
        """Give where the frames begin; None if that is still to come."""
        if data.startswith(H2_PREFACE):
            self.stage = "settings"
            return len(H2_PREFACE)
        if H2_PREFACE.startswith(data):
            return None
        if data[:1].isupper() and H2_HELLO in self.out:
            self.out = [latin_1("HTTP/1.1 400 Bad Request\r\nConnection: close"
                                f"\r\nContent-Length: {len(H2_ONLY)}\r\n\r\n"
                                f"{H2_ONLY}")]
            self.closed = H2_PROTOCOL_ERROR
            return len(data)
        raise H2Error(H2_PROTOCOL_ERROR, H2_ONLY)

    def frame(self, number, flags, stream, payload):
        """Check a frame by the table, and pass it on.

        Here ends what is an error of a stream; an error of the connection
        goes up to `receive`. A flag that the type does not know is ignored
        (4.1), and so is a type that nobody knows (5.5).
        """
        if self.block is not None and (
                number != H2_CONTINUATION or stream != self.block_of[0]):
            raise H2Error(H2_PROTOCOL_ERROR, "a frame stands between the "
                          "pieces of a block")
        if self.stage == "settings":
            if number != H2_SETTINGS or flags & H2_ACK:
                raise H2Error(H2_PROTOCOL_ERROR, "the first frame is not "
                              "SETTINGS")
            self.stage = "open"
        if number >= len(H2_KINDS):
            return self.spend("frame of an unknown type")
        kind = H2_KINDS[number]
        if (stream > 0) not in kind.streams:
            raise H2Error(H2_PROTOCOL_ERROR, f"{kind.name} comes on stream "
                          f"{stream}")
        if len(payload) not in kind.sizes:
            raise H2Error(H2_FRAME_SIZE_ERROR, f"{kind.name} comes with "
                          f"{len(payload)} bytes")
        try:
            self.HANDLERS[number](self, flags, stream, payload)
        except H2Error as error:
            if not error.stream:
                raise
            self.fail(error)

    def fail(self, error):
        """End the stream of an error (5.4.2)."""
        one = self.streams.get(error.stream)
        if one is not None:
            self.forget(one, by_us=True)
            self.events.append(H2Event("reset", one.stream, code=error.code))
        else:
            self.reset_by_us.append(error.stream)
        self.put_reset(error.stream, error.code)
        self.count_reset()

    def count_reset(self):
        if not self.resets.spend(1, self.now):
            raise H2Error(H2_ENHANCE_YOUR_CALM, f"more than {H2_RESETS[0]} "
                          "streams a second are reset")

    def spend(self, what, cost=1):
        """Count frames that bring nothing, and that ours do not explain.

        >>> server = H2Connection(now=0.0)
        >>> hello = H2_PREFACE + h2_frame(H2_SETTINGS)
        >>> ping = h2_frame(H2_PING, payload=b"12345678")
        >>> server.receive(hello + 1900 * ping, now=0.0), server.closed
        ([], None)
        >>> server.receive(101 * ping, now=0.0), server.closed
        ([], 11)
        """
        if self.explained >= cost:
            self.explained -= cost
        elif not self.idle.spend(cost, self.now):
            raise H2Error(H2_ENHANCE_YOUR_CALM, f"more than {H2_IDLE[0]} "
                          f"frames a second bring nothing, such as a {what}")

    def check_past(self, what, stream):
        """Refuse what comes on a stream that is idle: (3) in the table."""
        if stream > self.highest or not stream & 1:
            raise H2Error(H2_PROTOCOL_ERROR, f"a {what} comes on stream "
                          f"{stream}, which was not begun")
        self.spend(f"{what} on a closed stream")

    def check_tardy(self, what, stream):
        """Refuse what comes on a closed stream: (2) in the table.

        After our GOAWAY, streams that it did not accept are as those that we
        have reset.
        """
        self.check_past(what, stream)
        if stream in self.reset_by_us or self.leaving and stream > self.last:
            return
        if what == "DATA" or stream in self.closed_by_them:
            raise H2Error(H2_STREAM_CLOSED, f"{what} comes on stream "
                          f"{stream}, which the client had closed")
        raise H2Error(H2_PROTOCOL_ERROR, f"stream {stream} comes after "
                      f"stream {self.highest}")           # 5.1.1

    def on_data(self, flags, stream, payload):
        """Take a piece of a request.

        The connection's window counts it first, whatever is wrong with it.
        Each window is filled up again once half of it is used: a frame of ours
        for 32 of the client's.
        """
        self.room -= len(payload)
        if self.room < H2_WINDOW // 2:
            if self.room < 0:
                raise H2Error(H2_FLOW_CONTROL_ERROR, "there are more DATA "
                              "than the connection has room for")
            self.put(h2_window(0, H2_WINDOW - self.room))
            self.room = H2_WINDOW
        data = h2_unpad(payload) if flags & H2_PADDED else payload
        one = self.streams.get(stream)
        if one is None:
            return self.check_tardy("DATA", stream)
        if one.ended:
            raise H2Error(H2_STREAM_CLOSED, "DATA after END_STREAM", stream)
        one.heard = min(self.now, one.heard + len(data) / BODY_RATE)
        one.ended = bool(flags & H2_END_STREAM)
        self.make_room(one, len(payload))
        if one.left is not None:
            one.left -= len(data)
            if one.left < 0 or one.ended and one.left:
                raise H2Error(H2_PROTOCOL_ERROR, "there are not as many DATA "
                              "as content-length says", stream)
        if not data and not one.ended:
            return self.spend("DATA without data")
        self.events.append(H2Event("data", stream, (), data, one.ended))

    def make_room(self, one, size):
        """Count what came on a stream, and let as much come again."""
        one.room -= size
        if one.room < H2_WINDOW // 2 and not one.ended:
            if one.room < 0:
                raise H2Error(H2_FLOW_CONTROL_ERROR, "there are more DATA "
                              "than the stream has room for", one.stream)
            self.put(h2_window(one.stream, H2_WINDOW - one.room))
            one.room = H2_WINDOW

    def on_headers(self, flags, stream, payload):
        """Take a block, or its first piece (6.2)."""
        if not stream & 1:
            raise H2Error(H2_PROTOCOL_ERROR, f"stream {stream} would be ours "
                          "to begin")
        if flags & H2_PADDED:
            payload = h2_unpad(payload)
        if flags & H2_PRIORITIZED:
            if len(payload) < 5:
                raise H2Error(H2_FRAME_SIZE_ERROR, "HEADERS end within their "
                              "priority")
            self.check_priority(stream, payload)
            payload = payload[5:]
        if flags & H2_END_HEADERS:
            return self.on_block(stream, flags, payload)
        self.block, self.block_of = [payload], (stream, flags)

    def on_continuation(self, flags, stream, payload):
        """Take another piece (6.10).

        HPACK cannot read a part of a block, so all of it is held; and until
        it has ended nothing else may come, so it is held once.
        """
        if self.block is None:
            raise H2Error(H2_PROTOCOL_ERROR, "CONTINUATION continues nothing")
        self.block.append(payload)
        if len(self.block) > H2_PIECES or (
                sum(map(len, self.block)) > H2_LIST):
            raise H2Error(H2_ENHANCE_YOUR_CALM, f"a block has more than "
                          f"{H2_LIST} bytes, or {H2_PIECES} pieces")
        if flags & H2_END_HEADERS:
            block, self.block = b"".join(self.block), None
            self.on_block(*self.block_of, block)

    def on_block(self, stream, flags, block):
        """Read a block, whatever will become of it: HPACK learns from all."""
        try:
            fields = self.hpack.decode(block, H2_LIST)
        except HpackTooLarge:
            # Our settings say how much we take; who sends more knows no rules.
            raise H2Error(H2_ENHANCE_YOUR_CALM, "a block has more than "
                          f"{H2_LIST} bytes of fields") from None
        except HpackError as error:
            raise H2Error(H2_COMPRESSION_ERROR, str(error)) from None
        ended = bool(flags & H2_END_STREAM)
        try:
            if stream in self.streams:
                self.end(self.streams[stream], ended, fields)
            elif stream > self.highest:
                self.begin(stream, ended, fields)
            else:
                self.check_tardy("HEADERS", stream)
        except H2Malformed as error:
            raise H2Error(H2_PROTOCOL_ERROR, str(error), stream) from None

    def begin(self, stream, ended, fields):
        """Open a stream (5.1.1, 5.1.2)."""
        self.highest = stream
        if self.leaving:
            return self.spend("HEADERS after our GOAWAY")
        if len(self.streams) >= H2_STREAMS:
            raise H2Error(H2_REFUSED_STREAM, f"{H2_STREAMS} streams are open",
                          stream)
        if self.waiting > H2_WAITING:
            raise H2Error(H2_REFUSED_STREAM, f"{self.waiting} bytes of "
                          "answers are waiting", stream)
        fields = tuple(fields)
        left = h2_check_request(fields)
        if ended and left:
            raise H2Malformed(f"none of the {left} bytes of content come")
        self.last = stream
        self.streams[stream] = H2Stream(stream, self.initial, left, ended,
                                        self.now)
        self.explain()
        self.events.append(H2Event("headers", stream, fields, b"", ended))

    def end(self, one, ended, fields):
        """Take the trailers of a request."""
        if one.ended:
            raise H2Error(H2_STREAM_CLOSED, "HEADERS after END_STREAM",
                          one.stream)
        if not ended:
            raise H2Malformed("trailers come without END_STREAM")
        h2_check_trailers(fields)
        if one.left:
            raise H2Malformed(f"{one.left} bytes of content are missing")
        one.ended = True
        self.events.append(H2Event("trailers", one.stream, tuple(fields),
                                   b"", True))

    def on_priority(self, flags, stream, payload):
        """Ignore it: RFC 9113 (5.3) gave up the tree that it describes.

        Any other frame of the wrong size ends the connection; this one ends
        its stream (6.3), if that is open.
        """
        if len(payload) != 5:
            raise H2Error(H2_FRAME_SIZE_ERROR, "PRIORITY has not 5 bytes",
                          stream if stream in self.streams else 0)
        self.check_priority(stream, payload)
        self.spend("PRIORITY")

    def check_priority(self, stream, payload):
        """Refuse a loop, as RFC 7540 (5.3.1) did and h2spec still asks."""
        if int.from_bytes(payload[:4], "big") & H2_MOST == stream:
            raise H2Error(H2_PROTOCOL_ERROR, f"stream {stream} depends on "
                          "itself")

    def on_rst_stream(self, flags, stream, payload):
        """Take back a request (6.4)."""
        one = self.streams.get(stream)
        if one is None:
            return self.check_past("RST_STREAM", stream)
        self.forget(one, by_us=False)
        self.events.append(H2Event("reset", stream, code=int.from_bytes(
            payload, "big")))
        self.count_reset()

    def on_settings(self, flags, stream, payload):
        """Obey, and say so (6.5.3).

        Nothing can happen between two values of one frame, so that of two
        for the same setting the first was never there.
        """
        if flags & H2_ACK:
            if payload:
                raise H2Error(H2_FRAME_SIZE_ERROR, "an ACK comes with "
                              "settings")
            return self.spend("SETTINGS with ACK")
        self.spend("SETTINGS", 1 + len(payload) // 6)
        settings = {}
        for number, value in struct.iter_unpack(">HI", payload):
            allowed, code = H2_ALLOWED.get(number, (None, 0))
            if allowed and value not in allowed:
                raise H2Error(code, f"setting {number} may not be {value}")
            settings[number] = value
        self.shrink = self.shrink or H2_TABLE_SIZE in settings
        self.resize(settings.get(H2_INITIAL_WINDOW, self.initial))
        self.put(h2_frame(H2_SETTINGS, H2_ACK))

    def on_push_promise(self, flags, stream, payload):
        """Refuse it: only servers may push (8.4)."""
        raise H2Error(H2_PROTOCOL_ERROR, "a client has nothing to push")

    def on_ping(self, flags, stream, payload):
        """Send it back (6.7): clients measure with it, and see who lives."""
        self.spend("PING")
        if not flags & H2_ACK:
            self.put(h2_frame(H2_PING, H2_ACK, 0, payload))

    def on_goaway(self, flags, stream, payload):
        """Ignore it: it forbids us streams that we would never begin (6.8).

        Those of the client may end as usual; then it will leave.
        """
        self.spend("GOAWAY")

    def on_window_update(self, flags, stream, payload):
        """Let a window grow (6.9)."""
        if stream and stream not in self.streams:
            return self.check_past("WINDOW_UPDATE", stream)
        self.spend("WINDOW_UPDATE")
        self.grow(stream, int.from_bytes(payload, "big") & H2_MOST)

    HANDLERS = (on_data, on_headers, on_priority, on_rst_stream, on_settings,
                on_push_promise, on_ping, on_goaway, on_window_update,
                on_continuation)        # by number, as H2_KINDS

    # Time. Nobody looks at 128 streams for each packet, but only when one of
    # them can be late. A deadline that is begun later is later, so the look
    # itself knows when the next one is due. Two are shorter than the rest, and
    # bring it forward: what is not whole (note_begun), and answers that wait,
    # because it takes two looks to tell that none has moved.

    def check(self, now):
        """End what has taken too long; give the events, which are resets.

        >>> server = H2Connection(now=0.0)
        >>> head = h2_ask(1, [(":method", "POST"), (":scheme", "http"),
        ...                   (":path", "/")], b"hi")[:-11]    # and no DATA
        >>> hello = H2_PREFACE + h2_frame(H2_SETTINGS)
        >>> events = server.receive(hello + head, now=0.0)
        >>> [(event.what, event.code) for event in server.check(now=60.0)]
        [('reset', 8)]
        """
        self.events, self.now = [], now
        return self.look_if_due(now)

    def deadline(self):
        """Give when check() may have something to do."""
        return min(self.due, self.looked + 1) if self.waiting else self.due

    def look_if_due(self, now):
        if self.closed is None and now >= self.deadline():
            self.look(now)
        return self.events

    def note_begun(self, moved):
        """Note since when something is not whole; `moved`: a frame came."""
        if not self.held and self.block is None and self.stage == "open":
            self.begun = None
        elif self.begun is None or moved and self.block is None:
            self.begun = self.now
            self.due = min(self.due, self.now + H2_FRAME_TIME)

    def look(self, now):
        """Look at all that can be late, and set when to look again."""
        if self.begun is not None and now >= self.begun + H2_FRAME_TIME:
            return self.close(H2_ENHANCE_YOUR_CALM, "a frame or a block was "
                              f"not whole within {H2_FRAME_TIME:.0f} s")
        if not self.streams and now >= self.heard + SILENCE:
            return self.close(H2_NO_ERROR, f"{SILENCE:.0f} s of silence")
        self.looked, self.due = now, now + H2_STALL
        if self.begun is not None:
            self.due = min(self.due, self.begun + H2_FRAME_TIME)
        for one in [*self.streams.values()]:
            self.look_at(one, now)
        if not self.streams:
            self.due = min(self.due, self.heard + SILENCE)

    def look_at(self, one, now):
        """End a stream that stands still; a function may take its time."""
        since = None if one.ended else one.heard
        if one.pieces:
            stuck = now if one.stuck is None else one.stuck
            since = one.stuck = min(now, stuck)
        if since is None or self.closed is not None:
            return
        if now < since + H2_STALL:
            self.due = min(self.due, since + H2_STALL)
        elif one.pieces and self.window <= 0:
            self.close(H2_ENHANCE_YOUR_CALM, "the connection's window was "
                       f"closed for {H2_STALL:.0f} s")
        else:
            code = H2_ENHANCE_YOUR_CALM if one.pieces else H2_CANCEL
            self.reset(one.stream, code)
            self.events.append(H2Event("reset", one.stream, code=code))


# 15.6 From a stream to an answer --------------------------------------------
#
# What lies on top of HTTP/2 is a question of two fields. A POST whose
# content-type is application/grpc, or that with +proto, is a remote call; all
# else is the web, and goes to the same `handle` as a request of chapter 9.
#
#       :path                          content-type         what it is
#       /openfogstack...TinyFaaS/...   application/grpc     a remote call
#       the same                       another              415; no POST: 405
#       /anything/else                 application/grpc     UNIMPLEMENTED
#       /echo/a?b=1                    any, or none         a request: handle
#
# Of both, the core tells piece by piece what comes. An exchange, which is a
# PlainExchange or a GrpcExchange, is told each piece, and gives back what is
# to be done now: nothing, an H2Answer to be written, or a task, whose result
# is one. A task may take its time, and is for another thread.


class H2Answer(typing.NamedTuple):
    """What is written on a stream."""
    fields: tuple = ()          # of the head: ((':status', '200'), ...)
    body: bytes = b""
    trailers: tuple = ()        # of gRPC: (('grpc-status', '0'),)
    more: typing.Any = None     # a Stream (8.3) of what follows the body
    last: bool = True           # it ends the stream


@functools.lru_cache(maxsize=64)
def h2_request(fields, peer=""):
    """Make the Request of a head; a client's are alike, so the last are kept.

    >>> request = h2_request(((":method", "GET"), (":scheme", "http"),
    ...                       (":path", "/f?x"), (":authority", "a")))
    >>> request.path, request.query, request.fields
    ('/f', 'x', (('host', 'a'),))

    A client may send a cookie's parts as fields of their own, so that HPACK
    remembers them apart (RFC 9113, 8.2.3); here they are joined again.
    """
    pseudo = {name: value for name, value in fields if name[0] == ":"}
    plain = [(name, value) for name, value in fields
             if name[0] != ":" and name != "cookie"]
    crumbs = [value for name, value in fields if name == "cookie"]
    if crumbs:
        plain.append(("cookie", "; ".join(crumbs)))
    if ":authority" in pseudo:
        plain = [("host", pseudo[":authority"]),
                 *(pair for pair in plain if pair[0] != "host")]
    path, _, query = pseudo[":path"].partition("?")
    return Request(pseudo[":method"], path, query, tuple(plain), peer=peer)


def h2_answer(response, method="GET", date=""):
    """Turn a Response into an H2Answer.

    >>> h2_answer(text_response("hi")).fields
    ((':status', '200'), ('content-type', 'text/plain; charset=utf-8'), \
('content-length', '2'))
    """
    fields = [(":status", str(response.status))]
    for name, value in response.headers.items():
        name, values = name.lower(), (
            (value,) if isinstance(value, str) else value)
        if name not in H2_FORBIDDEN:
            fields += [(name, latin_1(one).decode("latin-1").strip(" \t"))
                       for one in values]
    empty = response.status in (204, 304)           # RFC 9110, 15.4.5
    if not empty and not response.more and (
            "Content-Length" not in response.headers) and (
            response.body or method != "HEAD"):     # RFC 9110, 8.6
        fields.append(("content-length", str(len(response.body))))
    if date:
        fields.append(("date", date))
    if empty or method == "HEAD":
        if response.more:
            response.more.close()
        return H2Answer(tuple(fields))
    return H2Answer(tuple(fields), response.body, (), response.more)


class PlainExchange:
    """A request that is no gRPC: gathered, then answered as in chapter 9.

    It waits for the request's end, whatever it will say: a client that is
    still sending may not be reading (RFC 9113, 8.1).

    >>> health = Route("GET", "/health", "", "open", "",
    ...                lambda door, request: text_response("OK"))
    >>> exchange = PlainExchange(Door(None, (health,)), Request(
    ...     "GET", "/health"), limit=100, clock=lambda: 784111777)
    >>> exchange.hear(b"", ended=True)().body
    b'OK'

    `clock()` gives the seconds since 1970, for the answer's date.
    """

    def __init__(self, door, request, limit, clock, refusal=None):
        self.door, self.request, self.limit = door, request, limit
        self.clock, self.refusal = clock, refusal
        self.held, self.size = bytearray(), 0
        self.off = False            # Its client has called it off.
        self.endless = False        # It does not end by itself.

    @property
    def gathered(self):
        """How many bytes are held until the request's end."""
        return len(self.held)

    def hear(self, data, ended):
        self.size += len(data)
        if self.size <= self.limit:
            self.held += data
        else:
            self.held.clear()
        return self.answer if ended else None

    def answer(self):
        request = self.request._replace(
            body=bytes(self.held), gone=self.is_off, called_off=self.is_off)
        if self.size > self.limit:
            return self.refuse(FaasError(
                "too_large", f"the body of {self.size} bytes is larger than "
                f"the {self.limit} that are taken here"))
        response = self.refusal or handle(self.door, request)
        return h2_answer(response, request.method,
                         http_date(int(self.clock())))

    def is_off(self):
        return self.off

    def refuse(self, error):
        return h2_answer(error_response(error), self.request.method)


# A remote call has one message each way, and in front of each the five bytes
# of 15.2. The other methods that are served here are streams: a client may ask
# again and again, or be told again and again.
#
#       unary       one message, END_STREAM      one message, trailers
#       watch       one message, END_STREAM      messages, until it is over
#       converse    messages                     one for each
#
# gRPC has its own statuses and puts them at the end, in trailers: a server
# may find out in the middle of a stream of messages that it failed. Where it
# knows at once, head and trailers are one frame ("Trailers-Only"), and no DATA
# may follow, or clients take it for a protocol error.

GRPC_HEAD = ((":status", "200"), ("content-type", "application/grpc"))


def grpc_refusal(status, sentence, *more):
    """Spell a failure in one head.

    >>> grpc_refusal("NOT_FOUND", "no \u2603").fields[2:]
    (('grpc-status', '5'), ('grpc-message', 'no %E2%98%83'))
    """
    return H2Answer((*GRPC_HEAD, *grpc_trailers(status, sentence), *more))


def grpc_trailers(status, sentence=""):
    """Spell a status for the end of a stream.

    >>> grpc_trailers("OK")
    (('grpc-status', '0'),)
    """
    trailers = (("grpc-status", str(GRPC_STATUS[status])),)
    if sentence:
        trailers += (("grpc-message", grpc_message(sentence)),)
    return trailers


class GrpcMethod(typing.NamedTuple):
    """One method of a service."""
    form: str                   # 'unary', 'watch' or 'converse'
    handler: typing.Callable    # (exchange, message) -> [message, *trailers]
    waits: bool = False         # it may take time: not for the listener


GRPC_SERVICES = sorted(f"{proto['package']}.{offer['name']}"
                       for proto in PROTO_PARSED.values()
                       for offer in proto["service"])


def unknown_method(path):
    """Say what is missing, in the words of grpc-go.

    >>> unknown_method("/no.Service/Call")
    GrpcError('unknown service no.Service')
    """
    service, _, method = path[1:].rpartition("/")
    if service in GRPC_SERVICES:
        return GrpcError("UNIMPLEMENTED", f"unknown method {method} for "
                         f"service {service}")
    return GrpcError("UNIMPLEMENTED", f"unknown service {service}")


class GrpcExchange:
    """A remote call, from its head to its answer.

    >>> echo = GrpcMethod("unary", lambda exchange, message: [message])
    >>> exchange = GrpcExchange(echo, Request("POST", "/s/m"), 100, float)
    >>> exchange.hear(bytes.fromhex("00 00000002 0801"), ended=True).body
    b'\\x00\\x00\\x00\\x00\\x02\\x08\\x01'

    `clock()` gives seconds on any clock, for the client's deadline.
    """

    def __init__(self, method, request, limit, clock, door=None):
        self.method, self.request, self.door = method, request, door
        self.clock, self.until = clock, None
        self.off, self.endless = False, method and method.form != "unary"
        self.waiting, self.begun, self.failure = [], False, None
        self.reader = GrpcMessages()
        try:
            if method is None:
                raise unknown_method(request.path)
            timeout = grpc_timeout(request.get("grpc-timeout", None))
            if timeout is not None:     # It counts from the head on.
                self.until = clock() + timeout
            self.reader = GrpcMessages(request.get("grpc-encoding"), limit)
        except GrpcError as error:
            self.failure = error

    @property
    def gathered(self):
        return len(self.reader.held) + sum(map(len, self.waiting))

    def is_off(self):
        return self.off

    def hear(self, data, ended):
        """Take what has come; errors become the answer."""
        try:
            if self.failure:
                raise self.failure
            self.waiting += self.reader.receive(data)
            if self.method.form == "converse":
                return self.converse(ended)
            if not ended:
                self.check_one(less=True)
                return None
            self.reader.at_end()
            self.check_one()
            return self.answer if self.method.waits else self.answer()
        except GrpcError as error:
            return self.refusal(error)

    def check_one(self, less=False):
        """Refuse another number of messages than one."""
        if len(self.waiting) > 1 or not (self.waiting or less):
            raise GrpcError("INTERNAL", f"this method takes one message, and "
                            f"here are {len(self.waiting)}")

    def answer(self):
        """Answer the one message there is."""
        try:
            said, *more = self.method.handler(self, self.waiting.pop())
        except GrpcError as error:
            return self.refusal(error)
        except FaasError as error:
            return self.refuse(error)
        if self.method.form == "watch":
            return self.speak(said)
        return H2Answer(GRPC_HEAD, grpc_frame(said),
                        (*grpc_trailers("OK"), *more))

    def converse(self, ended):
        """Answer each message; they are few, and wait for nobody."""
        if ended:
            self.reader.at_end()
        said = [self.method.handler(self, message)[0]
                for message in self.waiting]
        self.waiting.clear()
        if ended:
            return self.speak(*said, trailers=grpc_trailers("OK"))
        return self.speak(*said) if said else None

    def speak(self, *messages, trailers=()):
        """Say something; without trailers the stream stays open."""
        fields = () if self.begun else GRPC_HEAD
        self.begun = True
        return H2Answer(fields, b"".join(map(grpc_frame, messages)),
                        trailers, last=bool(trailers))

    def finish(self, status, sentence):
        """End a stream of messages."""
        return self.speak(trailers=grpc_trailers(status, sentence))

    def refusal(self, error):
        if self.begun:
            return self.finish(error.status, str(error))
        return grpc_refusal(error.status, str(error), *error.fields)

    def refuse(self, error):
        return self.refusal(GrpcError(KINDS[error.kind].grpc, str(error)))


# 15.7 The services ----------------------------------------------------------
#
# Three services are spoken. tinyFaaS's has one method, and that is the call of
# a function; the other two are what clients and tools expect to find at any
# gRPC server: who is healthy, and what there is (grpc/grpc, doc/
# health-checking.md and doc/server-reflection.md).
#
#       .../TinyFaaS/Request                             unary
#       /grpc.health.v1.Health/Check                     unary
#       /grpc.health.v1.Health/Watch                     watch
#       /grpc.reflection.v1.../ServerReflectionInfo      converse
#       /grpc.reflection.v1alpha.../ServerReflectionInfo converse


# A call's life on this door, for a client that allows half a second:
#
#       HEADERS    grpc-timeout: 500m    until then, on our clock
#       DATA       "echo", "hi"          Call(timeout=what is left): chapter 8
#                                        makes it a deadline, if it is sooner
#                                        than the function's own
#       (1)        the answer            OK, and the text
#       (2)        0.5 s pass            the worker is ended: DEADLINE_EXCEEDED
#       (3)        RST_STREAM(CANCEL)    `off` is set; whoever waits for the
#                                        worker looks there (3.4), ends it, and
#                                        the call is remembered as called off
#
# (3) is why a client that loses patience costs nothing more. Over HTTP/1.1 a
# function runs on: a closed connection may be the end of somebody's questions
# without being the end of his interest in the answers.


@functools.lru_cache(maxsize=64)
def grpc_pattern(request, key=""):
    """Make a Call of a remote call's head; function and body are to come.

    Its metadata are the function's headers, as with tinyFaaS; what gRPC
    itself needs is not for the function, nor is the platform's own `key`.

    >>> grpc_pattern(Request("POST", "/s/m", "", (
    ...     ("host", "a"), ("te", "trailers"), ("lab", "x"),
    ...     ("id-bin", "/w"), ("grpc-timeout", "2S")))).headers
    {'Authority': 'a', 'Lab': 'x', 'Id-Bin': '/w=='}

    Errors: GrpcError, for a -bin that is no base64.
    """
    fields, binary = [], {}
    for name, value in request.fields:
        if name.startswith("grpc-"):
            continue
        if name.endswith("-bin"):
            # Not every reader takes it unpadded, nor with ", " between two.
            binary.setdefault(name, []).extend(
                base64.b64encode(grpc_binary(one)).decode()
                for one in value.split(","))
        else:
            fields.append(("authority" if name == "host" else name, value))
    fields += [(name, ",".join(parts)) for name, parts in binary.items()]
    return call_of(request._replace(path="/", fields=tuple(fields)),
                   "", key=key)._replace(trigger="grpc")


def grpc_call(exchange, name, body):
    """Make the Call of a remote call.

    >>> request = Request("POST", "/s/m", "", (("grpc-timeout", "2S"),))
    >>> clock = iter([5.0, 5.5]).__next__       # half a second goes by
    >>> exchange = GrpcExchange(GrpcMethod("unary", None), request, 100, clock,
    ...                         Door(None, ()))
    >>> call = grpc_call(exchange, "f", b"hi")
    >>> call.fn, call.body, call.timeout
    ('f', b'hi', 1.5)

    Errors: GrpcError DEADLINE_EXCEEDED, where no time is left.
    """
    call = grpc_pattern(exchange.request, exchange.door.key)
    timeout = call.timeout
    if exchange.until is not None:
        left = exchange.until - exchange.clock()
        if left <= 0:
            raise GrpcError("DEADLINE_EXCEEDED", "no time was left for it")
        timeout = min(timeout or left, left)
    return call._replace(
        fn=name, body=body, timeout=timeout,
        gone=exchange.is_off, called_off=exchange.is_off)


# tinyFaaS said UNKNOWN to all that failed, and OK to a function that raised,
# with the error's text as its answer. Its texts are kept, for programs look
# for them; the statuses are those of the table of kinds (2.1):
#
#       what happened                     status               text
#       no such function                  NOT_FOUND            function X not
#                                                              found
#       it raised, or its worker died     INTERNAL             error calling
#                                                              function X: ...
#       it answered bytes that are no     INTERNAL             grpc: error
#       text, which a proto string                             while
#       cannot hold                                            marshaling: ...
#       it chose a status >= 400 itself   that status's kind   its body
#       else                              the kind's           the sentence


def tinyfaas_request(exchange, message):
    """Call a function; give the encoded answer, and where to find its log.

    Errors: GrpcError, by the table of kinds; the texts are tinyFaaS's.
    """
    asked = proto_decode(TINYFAAS_DATA, message)
    name, platform = asked["functionIdentifier"], exchange.door.platform
    call = grpc_call(exchange, platform.name_of(name), asked["data"].encode())
    result = whole(platform.invoke(call))
    trail = ("x-execution-id", result.id)
    if result.kind == "not_found":
        raise GrpcError("NOT_FOUND", f"function {name} not found", trail)
    if result.kind == "crashed":
        raise GrpcError("INTERNAL", f"error calling function {name}: "
                        f"{result.sentence}", trail)
    if result.kind != "ok":
        raise GrpcError(KINDS[result.kind].grpc, result.sentence, trail)
    if result.status >= 400:            # It says itself that it failed.
        raise GrpcError(KINDS[kind_of(result.status)].grpc,
                        result.body.decode("utf-8", "replace"), trail)
    try:
        return [proto_encode(TINYFAAS_RESPONSE, {"response": result.body}),
                trail]
    except ProtoError:
        raise GrpcError("INTERNAL", "grpc: error while marshaling: string "
                        "field contains invalid UTF-8", trail) from None


# Health and reflection answer from what is known here; nothing is called, so
# the connection's own thread may do it. A health check of ours says no more
# than that there is a thread to say so: a platform whose one function fails is
# well, and the others' callers should not be sent away. A watch is answered
# once, and stays: when the platform stops, it ends with UNAVAILABLE.

TINYFAAS_SERVICE = "openfogstack.tinyfaas.tinyfaas.TinyFaaS"
SERVING, SERVICE_UNKNOWN = 1, 3     # HealthCheckResponse.ServingStatus


def health_check(exchange, message):
    """Say whether a service is well: the server as a whole, or tinyFaaS's."""
    service = proto_decode(HEALTH_REQUEST, message)["service"]
    if service not in ("", TINYFAAS_SERVICE):
        raise GrpcError("NOT_FOUND", "unknown service")
    return [proto_encode(HEALTH_RESPONSE, {"status": SERVING})]


def health_watch(exchange, message):
    """Say it now, and leave the stream open for the day when it changes."""
    service = proto_decode(HEALTH_REQUEST, message)["service"]
    known = service in ("", TINYFAAS_SERVICE)
    return [proto_encode(HEALTH_RESPONSE, {
        "status": SERVING if known else SERVICE_UNKNOWN})]


def reflect(exchange, message):
    """Answer one question of reflection: what is there, and what is it?

    Errors: none but for bytes that are no question; what is not known is an
    answer, for the client may ask on.
    """
    asked = proto_decode(REFLECTION_REQUEST, message)
    answer = {"valid_host": asked["host"], "original_request": asked}
    symbol = asked.get("file_containing_symbol")
    name = asked.get("file_by_filename", proto_symbols().get(symbol))
    if "list_services" in asked:
        answer["list_services_response"] = {"service": [
            {"name": service} for service in GRPC_SERVICES]}
    elif name in PROTO_FILES:
        answer["file_descriptor_response"] = {
            "file_descriptor_proto": [proto_descriptor(name)]}
    else:
        answer["error_response"] = {
            "error_code": GRPC_STATUS["NOT_FOUND"],
            "error_message": "there is no such file or symbol here"}
    return [proto_encode(REFLECTION_RESPONSE, answer)]


CONVERSATION = GrpcMethod("converse", reflect)

GRPC_METHODS = {
    f"/{TINYFAAS_SERVICE}/Request": GrpcMethod("unary", tinyfaas_request,
                                               waits=True),
    "/grpc.health.v1.Health/Check": GrpcMethod("unary", health_check),
    "/grpc.health.v1.Health/Watch": GrpcMethod("watch", health_watch),
    **{f"/grpc.reflection.{release}.ServerReflection/ServerReflectionInfo":
       CONVERSATION for release in ("v1", "v1alpha")}}


# 15.8 SHELL: connections ----------------------------------------------------
#
#       the listener's thread       accepts; one thread for each connection
#       a connection's thread       hears, tells the core, starts tasks; it
#                                   never waits for a function, nor for a
#                                   client that does not read
#       the crew                    makes the calls, writes the answers
#
# So a slow function holds up no PING, no other stream and no window.
#
# The core is for one thread at a time, and whoever has it holds `turn`. But
# nobody sends while holding it: a client that reads slowly would stop all who
# have something to say to the core. Sending has a baton of its own, and it is
# handed on, not waited for:
#
#       thread A                 thread B                 on the wire
#       write, takes the baton
#       sends (300 us)           write, sees the baton
#                                is taken: goes home
#       takes what has come,                              A's answer
#       sends that too                                    B's answer
#       nothing more: puts the
#       baton down
#
# And three sorts of slowness, each with its own way out:
#
#       the client's window is full      the core keeps the answer (15.5); of
#                                        a Stream no more is fetched: `news`
#       the client's socket is full      what was cut off is `rest`; a thread
#                                        of the crew waits with it, up to
#                                        SEND_TIME; the connection's own hears
#                                        on, and sends when it can
#       the function is slow             a thread of the crew waits, until the
#                                        answer, its deadline, or RST_STREAM

QUEUED = 64 << 10           # bytes of an answer that wait for the client's
                            # window, before more of them are fetched
GATHERED = 32 << 20         # bytes of bodies that a connection may have
                            # begun: five of the largest
WAITING = 64 << 20          # bytes of answers that it may leave untaken: of
                            # those whose streams began below H2_WAITING
HESITATION = 10             # ms for a client to speak first; all do
TICK = 5.0                  # s between two looks at the clock: the shortest
                            # patience of the core is H2_FRAME_TIME, 10 s
STOPPING = 1.0              # s for a client that asks nothing to see our
                            # last words and to leave, at the end


# A call is a task for another thread than the connection's. To start one takes
# 60 us, half of what a warm call takes; so they stay, and wait for the next.

MAX_CREW = 500              # threads; COAP_READERS has the reason


class Crew:
    """Threads that wait for tasks; the one that waited least takes the next.

    >>> crew, done = Crew(most=2), threading.Event()
    >>> crew.do(done.set); done.wait(5)
    True

    Errors: FaasError busy, where `most` are at work.
    """

    PATIENCE = 30.0     # s without work until a thread ends

    def __init__(self, most):
        self.most, self.size = most, 0
        self.idle, self.turn = [], threading.Lock()

    def do(self, task):
        """Let a thread run `task()`, which must not raise."""
        with self.turn:
            if self.idle:
                return self.idle.pop().serve(task)
            try:
                if self.size >= self.most:
                    raise RuntimeError
                # In a list: a Thread keeps its arguments as long as it lives.
                threading.Thread(target=self.work, args=([task],),
                                 daemon=True).start()
            except RuntimeError:        # also: no more threads
                raise FaasError("busy", "as many calls are under way as this "
                                "door has threads for") from None
            self.size += 1

    def work(self, first):
        task = first.pop()
        while task:
            task()
            task, ticket = None, Ticket()       # Who waits, holds nothing.
            with self.turn:
                self.idle.append(ticket)
            if not ticket.wait(self.PATIENCE):
                with self.turn:
                    if not ticket.served:
                        self.idle.remove(ticket)
                        self.size -= 1
            task = ticket.worker


# What may be said on the gRPC service's own paths (doc/PROTOCOL-HTTP2.md).
GRPC_TYPE = re.compile(r"application/grpc(\+proto)?( *;.*)?")


class H2Link:
    """One connection: a socket, its core, and what its streams are for."""

    #    core        15.5's; only with the turn
    #    exchanges   stream -> its Exchange, until the answer is written
    #    news        a Condition: windows may have grown, the baton is down
    #    rest        what was taken from the core, and the kernel has not taken
    #    sending     somebody has the baton
    #    moved       when the kernel took something last

    def __init__(self, server, client):
        self.server, self.client = server, client
        self.core = H2Connection(time.monotonic())
        self.exchanges, self.peer = {}, client.getpeername()[0]
        self.turn = threading.Lock()
        self.news = threading.Condition(self.turn)
        self.rest, self.sending, self.moved = b"", False, time.monotonic()
        self.poll = select.poll()
        self.poll.register(client, select.POLLIN | select.POLLOUT)

    def run(self):
        """Serve until the core has ended, or the client has."""
        # Who speaks HTTP/1.1 can be told so only while we have not spoken.
        ear = select.poll()
        ear.register(self.client, select.POLLIN)
        if not ear.poll(HESITATION):
            self.flush()
        while self.core.closed is None and (data := self.hear()) is not None:
            now = time.monotonic()
            with self.turn:
                events = (self.core.receive(data, now) if data else
                          self.core.check(now))
                tasks = [task for event in events
                         if (task := self.tell(event))]
                self.news.notify_all()
            for stream, exchange, step in tasks:
                if not exchange.off:        # by a reset right behind it
                    self.begin(stream, exchange, step)
            self.flush()

    # The thread of the connection: hear, understand, hand on.

    def hear(self):
        """Wait for bytes; b"" if it is time to look, None at the end."""
        if self.rest:               # It reads slowly; we may write, too.
            ready = self.poll.poll(1000 * TICK)
            if time.monotonic() - self.moved > SEND_TIME:
                return None
            if not any(what & select.POLLIN for _, what in ready):
                return b""
        try:
            return self.client.recv(65536) or None
        except BlockingIOError:     # the kernel's word for a timeout
            return b""

    def tell(self, event):
        """Tell an exchange what came; give the task that follows, if any."""
        stream = event.stream
        if event.what == "headers":
            self.exchanges[stream] = self.server.exchange(
                event.fields, self.peer)
        exchange = self.exchanges.get(stream)
        if exchange is None:
            return None
        if event.what == "reset":
            self.exchanges.pop(stream).off = True
            return None
        step = exchange.hear(event.data, event.ended)
        if callable(step):
            return stream, exchange, step
        if step:
            self.write(stream, step)
        elif exchange.gathered > QUEUED and sum(
                one.gathered for one in self.exchanges.values()) > GATHERED:
            self.write(stream, exchange.refuse(FaasError(
                "busy", "this connection has begun too many large requests")))
        return None

    def write(self, stream, answer):
        """Hand an answer to the core; what it cannot send yet, it keeps."""
        if answer.body and not answer.more and (
                self.core.waiting + len(answer.body) > WAITING):
            answer = self.exchanges[stream].refuse(FaasError(
                "busy", "this client does not take its other answers"))
        ends = answer.last and not answer.trailers and not answer.more
        if answer.fields:
            self.core.headers(stream, answer.fields, ends and not answer.body)
        if answer.body:
            self.core.data(stream, answer.body, ends)
        if answer.trailers:
            self.core.trailers(stream, answer.trailers)
        if answer.last and not answer.more:
            self.exchanges.pop(stream, None)

    # A thread of the crew: call, write.

    def begin(self, stream, exchange, step):
        try:
            self.server.crew.do(functools.partial(
                self.carry_out, stream, exchange, step))
        except FaasError as error:
            with self.turn:
                self.write(stream, exchange.refuse(error))

    def carry_out(self, stream, exchange, step):
        """Do a task, and write what came of it; nothing may escape."""
        try:
            answer = step()
        except Exception:
            import traceback
            complain(traceback.format_exc())
            answer = exchange.refuse(FaasError("crashed", MISTAKE))
        try:
            with self.turn:
                if not exchange.off:
                    self.write(stream, answer)
            self.flush(wait=True)
            if answer.more:
                self.pass_on(stream, exchange, answer.more)
        except OSError:
            pass                    # The client is gone, or takes nothing.
        finally:
            if answer.more:
                answer.more.close()

    def pass_on(self, stream, exchange, pieces):
        """Write an answer as it comes, no faster than the client reads."""
        code = 0
        try:
            for piece in pieces:
                with self.turn:
                    self.news.wait_for(lambda: exchange.off or (
                        self.core.queued(stream) <= QUEUED))
                    if exchange.off:
                        return
                    self.core.data(stream, piece)
                self.flush(wait=True)
        except FaasError:           # Its head is long gone: see send_rest.
            code = H2_INTERNAL_ERROR
        with self.turn:
            if code:
                self.core.reset(stream, code)
            else:
                self.core.data(stream, b"", True)
            self.exchanges.pop(stream, None)
        self.flush(wait=True)

    # Either: send.

    def flush(self, wait=False):
        """Send what the core has to say; who waits, until it is taken."""
        while True:
            with self.turn:
                if self.sending:
                    return
                data = self.rest or self.core.take()
                over = not data and self.core.closed is not None
                self.sending = bool(data)
            if over:
                self.hang_up(socket.SHUT_WR)
            if not data or not self.send(data, wait):
                return

    def send(self, data, wait):
        """Give the kernel a portion, and put the baton down; True: it is gone.

        One thread waits for the kernel. As it keeps the baton, others go home.
        """
        try:
            while data:
                try:
                    sent = self.client.send(data, socket.MSG_DONTWAIT)
                    data, self.moved = data[sent:], time.monotonic()
                except BlockingIOError:
                    if not wait:
                        break
                    self.await_taker()
            return not data
        except OSError:
            self.hang_up(socket.SHUT_RD)
            raise
        finally:
            with self.turn:
                self.rest, self.sending = data, False
                self.news.notify_all()

    def await_taker(self):
        """Wait until the kernel takes more. Errors: OSError."""
        ready = select.poll()
        ready.register(self.client, select.POLLOUT)
        if not ready.poll(1000 * SEND_TIME):
            raise TimeoutError("the client takes no answer")

    def hang_up(self, half):
        """Say that no more will come: to the client, or to our own thread.

        SHUT_WR is for the client, SHUT_RD for a thread that waits in recv. Not
        both while the client still takes an answer: to what it says then the
        kernel's word is a reset, and what was not sent yet is thrown away.
        """
        with contextlib.suppress(OSError):
            self.client.shutdown(half)

    # The end. SIGTERM's way from chapter 17 down to here is
    #
    #       0 ms     H2Server.stop     the listener closes
    #                H2Link.stop       GOAWAY(NO_ERROR, last stream); a client
    #                                  begins its next call elsewhere
    #                drain             calls that run are answered; after the
    #                                  last one we hang up, and hear on until
    #                                  the client has left, too (linger)
    #       +1 s     SHUT_RD           who asked nothing, and has not left, is
    #                                  waited for no longer

    def stop(self):
        """Take no new stream; those that are open may come to their end."""
        with self.turn:
            for stream, exchange in list(self.exchanges.items()):
                if exchange.endless:
                    self.write(stream, exchange.finish(
                        "UNAVAILABLE", "the platform is stopping"))
            self.core.shut_down()
        with contextlib.suppress(OSError):
            self.flush()

    def end(self):
        """Call off what is still under way, and say the last words."""
        with self.turn:
            for exchange in self.exchanges.values():
                exchange.off = True
            self.news.notify_all()
        with contextlib.suppress(OSError):
            self.flush(wait=True)
        with self.turn:
            if not self.news.wait_for(lambda: not self.sending, SEND_TIME):
                self.hang_up(socket.SHUT_RDWR)
                self.news.wait_for(lambda: not self.sending)
            # For ever: the socket's number may soon be another client's.
            self.sending = True


class H2Server(HttpServer):
    """A listener that speaks HTTP/2 from the first byte: gRPC, and calls.

    Errors: FaasError unavailable, if the address cannot be had.
    """

    def start(self, door, limit, crew):
        """Begin to serve; `limit` is the most bytes of a plain body."""
        self.limit, self.crew, self.links = limit, crew, set()
        super().start(door, None)

    def exchange(self, fields, peer):
        """Make the Exchange that a head asks for."""
        request = h2_request(fields, peer)
        method = GRPC_METHODS.get(request.path)
        grpc = GRPC_TYPE.fullmatch(request.get("content-type"))
        if grpc and request.method == "POST":
            return GrpcExchange(method, request, GRPC_MOST, time.monotonic,
                                self.door)
        refusal = None
        if method and request.method != "POST":
            refusal = text_response("this path takes POST\n", 405,
                                    {"Allow": "POST"})
        elif method:
            refusal = text_response("this path takes application/grpc\n", 415)
        return PlainExchange(self.door, request, self.limit, time.time,
                             refusal)

    def attend(self, client):
        """Serve one connection."""
        set_time(client, socket.SO_RCVTIMEO, TICK)
        link = H2Link(self, client)
        with self.turn:
            self.connections[client] = False
            self.links.add(link)
        try:
            if self.stopping:
                link.stop()
            link.run()
        finally:
            link.end()
            with contextlib.suppress(OSError):
                linger(client)
            self.links.discard(link)

    def stop(self):
        """Take no new connection, and say GOAWAY on each that there is."""
        super().stop()
        for link in list(self.links):
            link.stop()
        self.idle = [link for link in list(self.links)
                     if link.core.closed is not None]

    def drain(self, deadline):
        """Wait for the answers under way; do not wait long for the idle."""
        super().drain(min(deadline, time.monotonic() + STOPPING))
        for link in self.idle:
            link.hang_up(socket.SHUT_RD)
        super().drain(deadline)


# Try it ---------------------------------------------------------------------
#   >>> varint_encode(2 ** 64 - 1).hex()
#   'ffffffffffffffffff01'
#   >>> message = proto_encode(TINYFAAS_DATA, {"functionIdentifier": "echo",
#   ...                                        "data": "hi"})
#   >>> fields = [(":method", "POST"), (":scheme", "http"),
#   ...           (":path", f"/{TINYFAAS_SERVICE}/Request"),
#   ...           ("te", "trailers"), ("content-type", "application/grpc")]
#   >>> len(h2_ask(1, fields, grpc_frame(message)))
#   117
#   >>> server = H2Connection(now=0.0)
#   >>> server.receive(H2_PREFACE + h2_frame(H2_PING), now=0.0)
#   []
#   >>> h2_frames(server.take())[-1][3][8:]
#   b'the first frame is not SETTINGS'
#
# Roads not taken ------------------------------------------------------------
#   grpcio: 10 MB of C++ behind a curtain, and it does as it is told. Here the
#     curtain is what the chapter is about.
#   Remembering fields for our own answers: each would be 46 bytes shorter, and
#     both ends would have to agree on one more table for ever.
#   A thread for each stream: 128 streams, 2,000 connections. The crew has as
#     many threads as there are calls under way.
#   TLS with ALPN, which browsers insist on: a proxy before us does it.
#
# Real world -----------------------------------------------------------------
#   Cloud Run and Knative let functions speak gRPC themselves; Lambda's own
#   door speaks HTTP/1.1. Envoy stands before most gRPC services, and nghttp2
#   is inside of curl, Node and Apache. In August 2023 "rapid reset" brought
#   398 million requests a second to Google's front doors; since then every
#   HTTP/2 server counts what 15.5 counts.

# ============================================================================
# Chapter 17. Switching it on: from argv to a running platform
# ============================================================================
#
# Everything is made; this chapter starts it in the right order and stops it in
# the reverse one. The order is not a matter of taste:
#
#       listen        first, so that a taken port has started nothing
#       lock          one platform per data folder; the kernel lets go of it
#       nursery       what all workers will come from
#       sweep         what an earlier crash left on the shelf
#       serve         from here on somebody may call
#
#       SIGTERM       0.0 s   no new connection; idle ones are closed
#                     ...     calls that run go on, and are answered; a new one
#                             on an old connection gets 503
#                     3.1 s   the last answer was taken: workers, nursery and
#                             journal end; exit 0
#                    10.0 s   at the latest, whatever still runs is ended first
#
# The rest of the chapter is the command line. Each command is a client of the
# platform that runs on the same data folder, found by the file server.json
# in it; `invoke` works without one too, by being the platform itself for the
# length of one call. That is also what a crontab line runs.
#
# Promised: nothing.

# 17.1 Settings --------------------------------------------------------------


def is_loopback(host):
    """Tell whether only this machine can reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    return host in ("localhost", "::1") or bool(
        re.fullmatch(r"127(\.\d{1,3}){3}", host))


def port_number(text):
    """Read a port: 0 for any free one, negative for none.

    >>> port_number("8080")
    8080

    Errors: ValueError, which argparse turns into a sentence.
    """
    number = int(text)
    if number > 65535:
        raise ValueError
    return number


def port_from(environ, default, *names):
    """Take a port from the first of some variables that is set.

    >>> port_from({"http_PORT": "9"}, 8000, "HTTP_PORT", "http_PORT")
    9

    Errors: FaasError bad_input.
    """
    for name in names:
        if environ.get(name):
            try:
                return port_number(environ[name])
            except ValueError:
                raise FaasError("bad_input", f"the variable {name} must be a "
                                "port number, negative for none") from None
    return default


def limits_from(pairs, environ):
    """Make the Limits that options and EXECUTION_TIMEOUT ask for.

    >>> limits_from(["output=1000", "timeout=2.5"], {})[2:4]
    (6291456, 1000)

    Errors: FaasError bad_input.
    """
    wanted = {}
    if environ.get("EXECUTION_TIMEOUT", "0") != "0":    # FaaS-Go's 0 is 300
        pairs = ["timeout=" + environ["EXECUTION_TIMEOUT"], *pairs]
    for pair in pairs:
        name, _, value = pair.partition("=")
        kind = typing.get_type_hints(Limits).get(name)
        try:
            wanted[name] = kind(value)
            least = 0 if name == "queue" else 1e-3
            good = least <= wanted[name] < 1 << 50
        except (TypeError, ValueError):
            good = False
        if not good:
            raise FaasError("bad_input", f"the limit {pair[:60]!r} is not of "
                            f"the form NAME=NUMBER, with a name of "
                            f"{', '.join(Limits._fields)}")
    return Limits(**wanted)


def api_key(data):
    """Give the platform's API key; the first start makes one, mode 0600.

    Written beside its place and then moved there, so that no other process
    ever reads half a key. 32 bytes of chance: what FaaS-Go takes too; and as
    there, the variable API_KEY comes before the file.
    """
    if os.environ.get("API_KEY"):
        return os.environ["API_KEY"]
    path = os.path.join(data, "api_key")
    if not os.path.exists(path):
        fresh = f"{path}.{os.getpid()}"
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600),
                  "w") as file:
            file.write(os.urandom(32).hex())
        os.replace(fresh, path)
    with open(path) as file:
        return file.read().strip()


def reachable(url):
    """Turn an address to listen on into one that can be asked.

    >>> reachable("http://0.0.0.0:8080")
    'http://127.0.0.1:8080'
    """
    return url.replace("//0.0.0.0", "//127.0.0.1").replace("[::]", "[::1]")


# Some settings come from variables as well: PORT, HTTP_PORT, COAP_PORT and
# GRPC_PORT (tinyFaaS reads http_PORT, and documents HTTP_PORT; both work),
# EXECUTION_TIMEOUT, DATA_DIR, API_KEY and BASE_URL, under the names that the
# older platforms gave them, and FAAS_URL. An option beats a variable, for it
# is nearer to the person.

RKNIZZLE_PORT = 5555        # where its clients look, whatever the folder

PORTS = (           # a door's option, its usual port, and its variables
    ("port", 8080, ("PORT",)),
    ("data_port", 8000, ("HTTP_PORT", "http_PORT")),
    ("coap_port", 5683, ("COAP_PORT", "coap_PORT")),    # RFC 7252, 6.1
    ("grpc_port", 9000, ("GRPC_PORT", "grpc_PORT")))


def choose_ports(args, environ):
    """Fill in the ports that no option has named."""
    if args.port is None and args.command == "start":
        args.port = RKNIZZLE_PORT
    for option, usual, names in PORTS:
        if getattr(args, option) is None:
            setattr(args, option, port_from(environ, usual, *names))


# 17.2 SHELL: serve ----------------------------------------------------------


# What a running platform has in its data folder, and who writes it:
#
#       lock            nobody: it is held, not written
#       server.json     serve, when its doors are open: where to find them
#       api_key         serve, the first time
#       faas.db         functions, versions, settings: the shelf (6)
#                       executions and details: the journal (7.4)
#                       schedules (11.4)
#       kv.db           what functions keep: the store (7.5)
#       shelf/          the versions' folders (6.3)
#       locks/          a file for each scheduled function (11.4)
#       cache/          what compilers keep (5.11); may be deleted
#
# A copy of this folder, made while nothing runs on it, is a backup.


def take_data_folder(data, lock=fcntl.LOCK_EX):
    """Lock a data folder for this process; the open file holds the lock.

    Who serves has it alone; those that are the platform for one call (17.4)
    share it, and keep it from who would serve. Errors: FaasError unavailable.
    """
    os.makedirs(data, mode=0o700, exist_ok=True)
    file = open(os.path.join(data, "lock"), "wb")
    for _ in range(10):
        try:
            fcntl.flock(file, lock | fcntl.LOCK_NB)
            return file
        except BlockingIOError:     # It may be a client that only looks.
            time.sleep(0.05)
    file.close()
    raise FaasError("unavailable", "another faas.py works on the data folder "
                    + data)


def platform_of(args):
    """Make the Platform that the options ask for."""
    return Platform(
        ".", args.functions, args.data, args.logs, args.idle,
        limits_from(args.limit, os.environ),
        Retention(args.keep_days, int(args.keep_size * (1 << 20))))


def cron_command(args):
    """Make the function that gives a scheduled function's command."""
    folders = [os.path.abspath(folder) for folder in
               (args.functions, args.data, args.logs)]

    def argv_of(name):
        return [sys.executable, os.path.abspath(__file__), "invoke", name,
                "--trigger", "cron", "--functions", folders[0],
                "--data", folders[1], "--logs", folders[2]]
    return argv_of


DRAIN = 10.0                # s in which running calls may finish


def ready_process():
    """Prepare this process for many connections; give (heard, say).

    A signal writes its number to `say`, and `heard` can wait for it. A lock
    or a queue would not do: the kernel may hand the signal to any thread, and
    then the main one, asleep on a lock, does not learn of it.
    """
    threading.stack_size(STACK)
    share_processor()
    # A thousand connections need more descriptors than the usual 1024.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    heard, say = socket.socketpair()
    say.setblocking(False)
    signal.set_wakeup_fd(say.fileno())
    for number in signal.SIGTERM, signal.SIGINT:
        signal.signal(number, lambda *_: None)
    return heard, say


def start_schedules(args, platform):
    """Hand the schedules to cron, or to a clock of our own."""
    use_cron = args.clock == "crontab" or (
        args.clock == "auto" and have_crontab())
    schedules = Schedules(platform, cron_command(args) if use_cron else None)
    if args.clock != "off" and not use_cron:
        schedules.start_clock()
    try:
        schedules.write_crontab()
    except FaasError as error:
        print(f"faas: schedules wait: {error}", file=sys.stderr)
    return schedules


def return_memory():
    """Give the heap's holes back to the kernel, where libc can.

    The first start compiles this file, which takes 18 MB for a moment and
    leaves them as holes. glibc keeps holes for later; an idle platform has
    no later. And once a large body was freed, glibc takes the next ones from
    the heap, between small things that stay: 55 to 70 MB were kept after 420
    echoes of 1 MB, and 31 MB where each larger piece is the kernel's own.
    """
    import ctypes
    import gc
    gc.collect()
    gc.freeze()             # The book's own objects outlive every collection.
    libc, mmap_threshold = ctypes.CDLL(None), -3        # mallopt(3)
    with contextlib.suppress(AttributeError):       # musl has neither
        libc.mallopt(mmap_threshold, 128 << 10)
        libc.malloc_trim(0)


class Doors(typing.NamedTuple):
    """The listeners of a platform, by what they speak."""
    http: list                  # everything comes first, calls only last
    grpc: list
    coap: list

    def all(self):
        return [*self.http, *self.grpc, *self.coap]


def has_ipv6():
    """Tell whether this machine has ::1."""
    with contextlib.suppress(OSError):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
            return True
    return False


def both_loopbacks(door, host, port):
    """Open a door on an address; on loopback, on that of IPv6 too.

    `localhost` means both. A client of TCP that is refused by the one takes
    the other; a client of UDP does not try.
    """
    if port < 0:
        return []
    first = door(host, port)
    if host not in ("127.0.0.1", "localhost") or not has_ipv6():
        return [first]
    try:
        return [first, door("::1", first.port)]
    except FaasError:
        if port:
            raise
        return [first]          # Any port would do, and IPv6 has not this one.


def open_doors(args):
    """Take the ports. Errors: FaasError, where one is taken already."""
    doors = Doors([HttpServer(args.host, port) for port in
                   (args.port, args.data_port) if port >= 0],
                  both_loopbacks(H2Server, args.host, args.grpc_port),
                  both_loopbacks(CoapServer, args.host, args.coap_port))
    if not doors.all():
        raise FaasError("bad_input", "every door is turned off")
    return doors


def start_doors(args, doors, schedules, key):
    """Let each listener serve its routes."""
    platform, crew = schedules.platform, Crew(MAX_CREW)
    local, limits = is_loopback(args.host), platform.limits
    data_url = reachable(doors.http[-1].url) if doors.http else ""
    calls = Door(platform, CALL_ROUTES, local, key, schedules, data_url,
                 REFUSALS)
    for listener in doors.http:
        everything = listener is doors.http[0] and args.port >= 0
        door = calls._replace(routes=ROUTES) if everything else calls
        listener.start(door, upload_limit(door, limits) if everything else
                       lambda request: limits.body)
    for listener in doors.grpc:
        listener.start(calls, limits.body, crew)
    for listener in doors.coap:
        listener.start(platform)


def write_note(args, data, doors):
    """Write down, in one instant, where clients find us; give the path."""
    path, first = os.path.join(data, "server.json"), args.port >= 0
    with open(path + ".new", "w") as file:
        json.dump({"pid": os.getpid(), "begun_by": args.command,
                   "url": doors.http[0].url if first else "",
                   "data_url": doors.http[-1].url if doors.http else "",
                   "grpc": doors.grpc[0].url if doors.grpc else "",
                   "coap": doors.coap[0].url if doors.coap else ""}, file)
    os.replace(path + ".new", path)
    return path


def remove_note(path):
    """Take the note away, if nobody has done so."""
    with contextlib.suppress(OSError):
        os.remove(path)


def greeting(args, doors, schedules):
    """Say in a few lines what runs, where, and what to try."""
    platform = schedules.platform
    clock = "this user's crontab" if schedules.argv_of else "off"
    if schedules.thread:
        clock = "a clock thread of our own" + (
            "" if have_crontab() else ", for there is no crontab here")
    lines = [f"faas.py {__version__} serves {platform.functions}"]
    if args.port >= 0:
        lines.append(f"  everything   {doors.http[0].url}")
    if args.data_port >= 0:
        lines.append(f"  calls only   {doors.http[-1].url}")
    lines += [f"  gRPC         {door.url}" for door in doors.grpc[:1]]
    lines += [f"  CoAP         {door.url}" for door in doors.coap[:1]]
    lines.append(f"  schedules    {clock}")
    if not is_loopback(args.host):
        lines.append(f"  API key      in {args.data}/api_key; management "
                     "needs it")
    names = [fn.name for fn in platform.listing()]
    name = "shout" if "shout" in names else names[0] if names else ""
    if not name:
        lines.append("  try          put an executable file into "
                     f"{args.functions}")
    elif doors.http:
        url = reachable(doors.http[0].url)
        lines.append(f"  try          curl -d hello {url}/{name}")
    return "\n".join([*lines, "  stop         Ctrl-C"])


def serve(args):
    """Run the platform until SIGTERM or Ctrl-C; give the exit code."""
    choose_ports(args, os.environ)
    doors, data = open_doors(args), os.path.abspath(args.data)
    with take_data_folder(data), contextlib.ExitStack() as at_end:
        (heard, say), platform = ready_process(), platform_of(args)
        at_end.callback(platform.close, 0.0)
        platform.shelf.sweep()
        platform.base_url = os.environ.get("BASE_URL", "").rstrip("/") or (
            reachable(doors.http[0].url) if doors.http else "")
        schedules = start_schedules(args, platform)
        at_end.callback(schedules.close)
        start_doors(args, doors, schedules, api_key(data))
        note = write_note(args, data, doors)
        at_end.callback(remove_note, note)
        print(greeting(args, doors, schedules), flush=True)
        return_memory()
        heard.recv(1)
        for listener in doors.all():
            listener.stop()
        deadline = time.monotonic() + DRAIN
        for listener in doors.all():
            listener.drain(deadline)
        platform.finish(deadline)
        signal.set_wakeup_fd(-1)
        say.close()
    return 0


# 17.3 The client ------------------------------------------------------------
#
# Which platform does a command mean? The first of these that says so:
#
#       --url URL                  any platform; no key is sent to it
#       FAAS_URL                   the same
#       server.json in --data      the one that runs on this folder, with the
#                                  key that lies beside it
#       none of these              `invoke` is the platform itself; `build`,
#                                  and `invoke` beside a fn.yaml, ask port
#                                  5555; the others say what to start
#
# A file that a platform has left behind when it was killed is no platform:
# its lock is free, and the kernel knows that better than any file.


def server_note(args):
    """Give what the platform on our data folder has written down, or {}.

    A server.json may be left of a platform that was killed; the lock tells.
    """
    try:
        with open(os.path.join(args.data, "server.json")) as file:
            note = json.load(file)
        with open(os.path.join(args.data, "lock"), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return {}
    except BlockingIOError:
        return note
    except (OSError, ValueError):
        return {}


def find_server(args):
    """Give the running platform's address, or None.

    Errors: FaasError unavailable, for a platform that has no door for us.
    """
    note = server_note(args)
    if note and not note.get("url"):
        raise FaasError("unavailable", "the platform on the data folder "
                        f"{args.data} has its management turned off")
    return reachable(note["url"]) if note else None


def address_of(args):
    """Give (url, headers) for asking a platform; (None, {}) if none runs.

    The key goes only to the platform on our own data folder: any other may
    be anybody's.
    """
    url = args.url or os.environ.get("FAAS_URL")
    if url:
        return url, {}
    url, key = find_server(args), os.environ.get("API_KEY", "")
    with contextlib.suppress(OSError):
        with open(os.path.join(args.data, "api_key")) as file:
            key = key or file.read().strip()
    return url, {"Authorization": "Bearer " + key} if key else {}


def ask(args, method, path, body=b"", headers={}):
    """Ask the running platform; give the body of its answer.

    Errors: FaasError, with the kind of the answer's status.
    """
    url, key = address_of(args)
    if not url:
        raise FaasError("unavailable", "no faas.py serves the data folder "
                        f"{args.data}: start one with `faas serve`")
    return checked_reply(*ask_once(url, method, path, body,
                                   {**headers, **key}))


def ask_json(args, kind, method, path, body=b""):
    """Ask, and read the answer as JSON of a `kind`, list or dict.

    Errors: as ask; FaasError unavailable, where somebody else answers.
    """
    try:
        value = json.loads(ask(args, method, path, body))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise FaasError("unavailable", "what answers there is no faas.py")
    return value


def ask_once(url, method, path, body=b"", headers={}):
    """Ask once over HTTP; give (status, body). Errors: unavailable."""
    import http.client
    place = re.fullmatch(r"http://([^/@]+)/?", url)
    if not place:
        raise FaasError("bad_input", f"{url[:100]} is no address of the form "
                        "http://HOST:PORT")
    try:
        with contextlib.closing(http.client.HTTPConnection(
                place[1])) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise FaasError("unavailable", f"{url} does not answer: {error}"
                        ) from None


def checked_reply(status, body):
    """Give the body of a good answer; of another, raise what it says.

    >>> checked_reply(200, b"hi")
    b'hi'
    >>> checked_reply(404, b"nobody here\\n")
    Traceback (most recent call last):
    ...
    faas.FaasError: nobody here
    """
    if status < 400:
        return body
    sentence, _, detail = body.partition(b"\n")
    raise FaasError(kind_of(status), sentence.decode("utf-8", "replace"),
                    detail)


def exit_of(status):
    return KINDS[kind_of(status)].exit


def read_data(text):
    """Turn -d into a body: the text itself, @FILE, or @- for stdin."""
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    if text == "@-":
        return sys.stdin.buffer.read()
    try:
        with open(text[1:], "rb") as file:
            return file.read()
    except OSError as error:
        raise FaasError("not_found", f"{text[1:]} cannot be read: "
                        f"{error.strerror}") from None


def pack(path):
    """Read what a person wants to deploy: a folder, an archive or a file.

    Errors: FaasError not_found, and those of read_bundle and read_folder.
    """
    if os.path.isdir(path):
        return read_folder(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise FaasError("bad_input", f"{path} is neither a folder nor a file")
    data = read_data("@" + path)
    if data[:2] in (b"PK", b"\x1f\x8b") or path.endswith(".tar"):
        return read_bundle(data)
    names = {".lua": "main.lua", ".go": "fn.go", ".js": "index.js", ".py":
             "main.py" if re.search(TONGUES["python"].says, data) else "fn.py"}
    name = names.get(os.path.splitext(path)[1], "fn.sh")
    if name == "fn.py" and b"def fn" not in data:
        name = "fn.sh"              # a program with a shebang, then
    files = {name: Item(data, True)}
    if name == "index.js":
        files["package.json"] = Item(b'{"name": "fn"}\n')
    return files


def show(args, value, table):
    """Print a value as JSON, or as rows of a table."""
    if args.json:
        print(json.dumps(value, indent=1))
        return
    rows = [[str(cell) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in
                        zip(row, widths)).rstrip())


# A command prints for people, or with --json for programs:
#
#       $ faas list
#       NAME   TONGUE   VERSION  FROM    NOTE
#       echo   python3  2        upload
#       shout  script   -        file
#       $ faas versions echo
#       VERSION  TONGUE   DIGEST        CREATED
#       2        python3  9a2dfd1a7dcb  2026-11-20 11:30:15  active
#       1        python3  6c54116949b9  2026-11-20 11:21:05
#       $ faas rollback echo 1
#       echo serves version 1
#       $ faas invoke nobody; echo $?
#       faas: Function not found: nobody
#       5

# 17.4 SHELL: commands -------------------------------------------------------


# Each command is one request, and prints what comes back. Who wants to do the
# same from a program finds here which one:
#
#       deploy NAME PATH      PUT    /-/functions/NAME
#       invoke NAME           POST   /-/functions/NAME/run
#       list                  GET    /-/functions
#       logs NAME             GET    /logs/NAME, again and again with -f
#       versions NAME         GET    /-/functions/NAME/versions
#       rollback NAME N       POST   /-/functions/NAME/rollback
#       schedule              GET    /schedule
#       schedule NAME EXPR    POST   /schedule/NAME
#       delete NAME           DELETE /-/functions/NAME
#       build                 POST   /functions
#
# A refusal is printed on standard error, and its kind is the exit code (2.1),
# so that a shell script can tell a function that does not exist from one that
# failed.


def function_path(name, rest=""):
    """Give the path of a function in our own API.

    >>> function_path("hi", "/versions")
    '/-/functions/hi/versions'
    """
    return f"/-/functions/{check_name(name)}{rest}"


def do_deploy(args):
    """Send a folder, an archive or a file; the platform says what it is.

        $ faas deploy greet hello.lua
        greet serves version 1  lua  5c1f0a8be2d7
    """
    for pair in args.env:
        if "=" not in pair:
            raise FaasError("bad_input", f"--env {pair[:40]} is not of the "
                            "form NAME=VALUE")
    env = dict(pair.partition("=")[::2] for pair in args.env)
    bundle = base64.b64encode(pack_tar(pack(args.path))).decode()
    body = {"bundle": bundle, "tongue": args.tongue, "env": env,
            "threads": args.threads, "timeout": args.timeout}
    fn = ask_json(args, dict, "PUT", function_path(args.name),
                  json.dumps(body))
    show(args, fn, [[f"{fn['name']} serves version {fn['version']}",
                     fn["tongue"], fn["digest"][:12]]])


def do_invoke(args):
    """Call a function and print its answer; works without a server."""
    if url := rknizzle_url(args):
        return rknizzle_invoke(args, url)
    if not args.name:
        raise FaasError("bad_input", "Include the function name to invoke!")
    body = read_data(args.data_text)
    if args.timeout < 0:
        raise FaasError("bad_input", "--timeout must be more than 0")
    for _ in range(20):
        if address_of(args)[0]:
            headers = {"X-Timeout": f"{args.timeout:f}s"}
            answer = ask(args, "POST", function_path(
                args.name, "/run?trigger=" + args.trigger), body,
                headers if args.timeout else {})
        else:
            answer = invoke_here(args, body)
        if answer is not None:
            break
    else:
        raise FaasError("unavailable", "another faas.py works on the data "
                        f"folder {args.data}, but serves nobody")
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()


def invoke_here(args, body):
    """Be the platform for one call; None if another began to serve."""
    try:
        lock = take_data_folder(args.data, fcntl.LOCK_SH)
    except FaasError:
        return None
    with lock, platform_of(args) as platform:
        if args.trigger == "cron":
            with contextlib.closing(Schedules(platform)) as schedules:
                result = schedules.fire(args.name)
        else:
            result = whole(platform.invoke(Call(
                args.name, body, trigger="cli", timeout=args.timeout)))
    if result.kind != "ok":
        raise FaasError(result.kind, result.sentence, result.body)
    return result.body


# rknizzle/faas's command line, for hands that know it. Its `invoke`
# differs from ours in two things: -d names a file, and the answer is printed
# after a word. So it is spoken where its `start` was: to a platform that was
# begun by `faas start`, and from a folder that `faas init` has filled, where
# no platform lives, to whatever listens on its port.
#
#       $ faas start &
#       $ mkdir fn; cd fn; faas init
#       Function fn successfully initialized.
#       Get started by editing index.js
#       $ faas build
#       invoke name: fn
#       $ faas invoke fn
#       Response: {"hello":"world"}

# Its init knew JavaScript only. Ours writes the least function of a tongue,
# and a fn.yaml beside it, which for all but `node` is no more than the sign
# that this folder is one to build:
#
#       --lang node       node       index.js package.json
#       --lang python     python     main.py
#       --lang lua        lua        main.lua
#       --lang sh         binary     fn.sh
#       --lang go         go         fn.go go.mod

HELLO = {           # what `faas init` writes, for each language
    "node": {"index.js": """module.exports = (context, cb) => {
  cb({ hello: "world" });
};
""", "package.json": """{
  "name": "NAME",
  "version": "1.0.0",
  "main": "index.js",
  "dependencies": {}
}
"""},
    "python": {"main.py": """def handler(ctx, event):
    return {"statusCode": 200, "body": {"hello": "world"}}
"""},
    "lua": {"main.lua": """function handler(ctx, event)
  return { statusCode = 200, body = { hello = "world" } }
end
"""},
    "sh": {"fn.sh": """#!/bin/sh
# The body comes on standard input; what is printed, goes back.
echo '{"hello": "world"}'
"""},
    "go": {"fn.go": """package main

func fn(data string, headers map[string]string) (string, error) {
	return `{"hello": "world"}`, nil
}
""", "go.mod": "module main\n\ngo 1.18\n"}}


def do_init(args):
    """Begin a function in the current folder; nothing is overwritten."""
    name = check_name(os.path.basename(os.getcwd()))
    files = {**HELLO[args.lang], "fn.yaml": f"language: {args.lang}\n"}
    for path in files:
        if os.path.exists(path):
            raise FaasError("conflict", f"{path} is here already")
    for path, text in files.items():
        with open(path, "w") as file:
            file.write(text.replace("NAME", name))
        os.chmod(path, 0o755)
    print(f"Function {name} successfully initialized.\n"
          f"Get started by editing {next(iter(files))}")


def rknizzle_url(args):
    """Give the address at which its words are spoken; '' for ours."""
    if args.url or os.environ.get("FAAS_URL") or args.trigger == "cron":
        return ""
    note = server_note(args)
    if note:
        return reachable(note["url"]) if note.get("begun_by") == "start" \
            else ""
    begun = os.path.exists("fn.yaml") and not (
        os.path.isdir(args.functions) and os.listdir(args.functions))
    return f"http://127.0.0.1:{RKNIZZLE_PORT}" if begun else ""


def do_build(args):
    """Send the current folder to a platform, as a function of its name."""
    if not os.path.exists("fn.yaml"):
        print("Error: Not a proper directory. Run faas init to start a new "
              "function.")
        return KINDS["bad_input"].exit
    url, key = address_of(args)
    # A platform may live in this folder too; it is no part of the function.
    lives = os.path.exists(os.path.join(args.data, "lock"))
    ours = [args.functions, args.data, args.logs] if lives else []
    bundle = base64.b64encode(pack_tar(read_folder(".", {
        os.path.relpath(folder) for folder in ours}))).decode()
    body = json.dumps({"Name": os.path.basename(os.getcwd()), "File": bundle})
    status, told, why = rknizzle_ask(url, "", body, "invoke", key)
    if status >= 400:
        print(f"Error: {told}\n{why}".rstrip())
        return exit_of(status)
    print("invoke name: " + told.rpartition("/")[2])


def rknizzle_ask(url, path, body, wanted, key={}):
    """Ask in rknizzle's words: (status, what was wanted, or why not, info).

    Errors: FaasError unavailable, where somebody else listens.
    """
    url = url or f"http://127.0.0.1:{RKNIZZLE_PORT}"
    status, answer = ask_once(url, "POST", "/functions" + path, body, key)
    try:
        value = json.loads(answer)
        told = value[wanted if status < 400 else "message"]
        return status, told + "", value.get("info", "")
    except (ValueError, TypeError, LookupError, AttributeError):
        raise FaasError(kind_of(status) if status >= 400 else "unavailable",
                        f"{url} answers {status}, and not in rknizzle's "
                        "words") from None


def rknizzle_invoke(args, url):
    """Call a function in rknizzle's words; give the exit code."""
    if not args.name:
        print("Include the function name to invoke!")
        return KINDS["bad_input"].exit
    try:
        body = read_data("@" + args.data_text.removeprefix("@")
                         ) if args.data_text else b""
    except FaasError as error:
        print(f"Failed to parse {args.data_text} for JSON")
        return KINDS[error.kind].exit
    status, told, _ = rknizzle_ask(url, "/" + check_name(args.name), body,
                                   "response")
    if status >= 400:
        print(told, file=sys.stderr)
        return exit_of(status)
    print("Response: " + told)


def do_list(args):
    """Print every function that can be called, and what keeps a newer text
    from being it."""
    functions = ask_json(args, list, "GET", "/-/functions")
    show(args, functions, [["NAME", "TONGUE", "VERSION", "FROM", "NOTE"]] + [
        [fn["name"], fn["tongue"], fn["version"] or "-", fn["source"],
         fn["note"].partition("\n")[0]] for fn in functions])


def do_logs(args):
    """Print a function's log, and with -f what is added to it."""
    path, shown = f"/logs/{check_name(args.name)}", b""
    while True:
        try:
            log = ask(args, "GET", path)
        except FaasError as error:
            if not args.follow or error.kind != "not_found":
                raise
            log = b""           # It has printed nothing yet.
        # The file may have been rotated: find where we were by its end.
        end = shown[-4096:]
        at = log.rfind(end) + len(end) if end and end in log else 0
        fresh = log[at:]
        sys.stdout.buffer.write(fresh)
        sys.stdout.buffer.flush()
        shown = log
        if not args.follow:
            return
        time.sleep(0.5)


def do_versions(args):
    """Print a function's versions, the newest first."""
    versions = ask_json(args, list, "GET",
                        function_path(args.name, "/versions"))
    show(args, versions, [["VERSION", "TONGUE", "DIGEST", "CREATED", ""]] + [
        [one["number"], one["tongue"], one["digest"][:12],
         datetime.datetime.fromtimestamp(one["created"]).isoformat(
             " ", "seconds"), "active" if one["active"] else ""]
        for one in versions])


def do_rollback(args):
    """Let another version serve; the text of each is still there."""
    fn = ask_json(args, dict, "POST", function_path(args.name, "/rollback"),
                  json.dumps({"version": args.version}))
    show(args, fn, [[f"{fn['name']} serves version {fn['version']}"]])


def do_delete(args):
    """Delete an uploaded function; what is in functions/ is rm's business."""
    ask(args, "DELETE", function_path(args.name))


def do_schedule(args):
    """List the schedules, or set or remove one."""
    if not args.name:
        schedules = ask_json(args, dict, "GET", "/schedule")
        show(args, schedules, [["NAME", "SCHEDULE"], *schedules.items()])
    elif args.remove or args.expression:
        print(ask(args, "DELETE" if args.remove else "POST",
                  f"/schedule/{check_name(args.name)}",
                  (args.expression or "").encode()).decode())
    else:
        raise FaasError("bad_input", "give an expression, such as "
                        "'*/5 * * * *', or --remove")


OF_ALL = {          # options of every command
    "--functions": {"default": "functions", "metavar": "DIR",
                    "help": "the folder of functions (./functions)"},
    "--data": {"metavar": "DIR",
               "help": "the folder of state (./data)"},
    "--logs": {"default": "logs", "metavar": "DIR",
               "help": "the folder of logs (./logs)"},
    "--url": {"default": "", "metavar": "URL",
              "help": "the platform to ask, if not the one on --data"},
    "--json": {"action": "store_true", "help": "print data as JSON"}}

OF_PLATFORM = {     # and of those that may be a platform
    "--idle": {"default": Platform.IDLE, "type": float, "metavar": "S",
               "help": "end workers that were unused for so long (300)"},
    "--keep-days": {"default": Retention().days, "type": float,
                    "metavar": "DAYS",
                    "help": "remember executions for so long (30)"},
    "--keep-size": {"default": Retention().size / (1 << 20), "type": float,
                    "metavar": "MB", "help": "and so much of them (64)"},
    "--limit": {"default": [], "action": "append", "metavar": "NAME=NUMBER",
                "help": "change a limit, e.g. output=1000000"}}

OF_SERVER = {       # and of those that listen
    "--host": {"default": "127.0.0.1", "metavar": "ADDRESS",
               "help": "listen here; any address but a loopback one asks for "
               "the API key"},
    "--port": {"type": port_number, "metavar": "N",
               "help": "of everything (8080; 5555 after start); -1 for none"},
    "--data-port": {"type": port_number, "metavar": "N",
                    "help": "of calls only (8000); -1 for none"},
    "--grpc-port": {"type": port_number, "metavar": "N",
                    "help": "of gRPC, and HTTP/2 (9000); -1 for none"},
    "--coap-port": {"type": port_number, "metavar": "N",
                    "help": "of CoAP, a UDP port (5683); -1 for none"},
    "--clock": {"default": "auto", "help": "who keeps the schedules",
                "choices": ["auto", "crontab", "builtin", "off"]},
    **OF_PLATFORM}

COMMANDS = (        # name, what does it, what it is for, its own arguments
    ("serve", serve, "run the platform (the default)", OF_SERVER),
    ("start", serve, "the same on port 5555, and speak as rknizzle/faas does",
     OF_SERVER),
    ("init", do_init, "begin a function in this folder", {
        "--lang": {"default": "node", "choices": list(HELLO)}}),
    ("build", do_build, "deploy this folder, under its own name", {}),
    ("deploy", do_deploy, "make a function of a folder, archive or file", {
        "name": {}, "path": {},
        "--tongue": {"default": "", "help": "if its files do not say",
                     "choices": list(bundled_tongues())},
        "--threads": {"type": int, "default": 1, "metavar": "N",
                      "help": "workers to keep ready"},
        "--env": {"action": "append", "default": [], "metavar": "K=V",
                  "help": "an environment variable of the function"},
        "--timeout": {"type": float, "default": 0, "metavar": "S",
                      "help": "the time that a call may take (300)"}}),
    ("invoke", do_invoke, "call a function; works without a server too", {
        "name": {"nargs": "?"},
        "-d": {"dest": "data_text", "default": "", "metavar": "DATA",
               "help": "the body; @FILE reads it, @- from stdin"},
        "--timeout": {"type": float, "default": 0, "metavar": "S",
                      "help": "wait no longer than this"},
        "--trigger": {"default": "cli", "choices": ["cli", "cron"],
                      "help": "who calls; cron skips a run that overlaps"},
        **OF_PLATFORM}),
    ("list", do_list, "every function that can be called", {}),
    ("logs", do_logs, "what a function printed", {
        "name": {}, "-f": {"dest": "follow", "action": "store_true",
                           "help": "wait for more"}}),
    ("versions", do_versions, "the versions of a function", {"name": {}}),
    ("rollback", do_rollback, "let another version serve", {
        "name": {}, "version": {"type": int}}),
    ("schedule", do_schedule, "list, set or remove schedules", {
        "name": {"nargs": "?"}, "expression": {"nargs": "?"},
        "--remove": {"action": "store_true"}}),
    ("delete", do_delete, "delete an uploaded function", {"name": {}}),
)


def make_parser():
    """Describe the command line, from the table above."""
    import argparse
    parser = argparse.ArgumentParser(
        prog="faas", description="A Function-as-a-Service platform in one "
        "file. Without a command, it serves.",
        epilog="Exit codes: 0 ok; 1 it cannot start; " + "; ".join(
            f"{kind.exit} {name}" for name, kind in KINDS.items()) + ".")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    for name, do, what, arguments in COMMANDS:
        one = commands.add_parser(name, help=what, description=what)
        one.set_defaults(do=do)
        for argument, settings in {**arguments, **OF_ALL}.items():
            one.add_argument(argument, **settings)
    return parser


def main(argv=None):
    """Run the command line; give the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] not in (["-h"], ["--help"], ["--version"]) and (
            not argv or argv[0].startswith("-")):
        argv = ["serve", *argv]
    try:
        args = make_parser().parse_args(argv)
        args.data = args.data or os.environ.get("DATA_DIR") or "data"
        status = args.do(args) or 0
        sys.stdout.flush()
        return status
    except FaasError as error:
        print(f"faas: {error}", file=sys.stderr)
        print(error.detail.decode("utf-8", "replace"), end="",
              file=sys.stderr)
        return 1 if argv[0] in ("serve", "start") else (
            KINDS[error.kind].exit)
    except (KeyboardInterrupt, BrokenPipeError):
        # Whoever read our output has gone; let nothing be written to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 130
    except (OSError, sqlite3.Error) as error:
        print(f"faas: {error}", file=sys.stderr)
        return 1


# Try it ---------------------------------------------------------------------
#   >>> make_parser().parse_args(["invoke", "shout", "-d", "hi"]).data_text
#   'hi'
#   >>> main(["invoke", "no-such-function", "--data", "/tmp/faas-try/data",
#   ...       "--functions", "/tmp/faas-try/f", "--logs", "/tmp/faas-try/l"])
#   5
#   >>> port_from({"PORT": "http"}, 8080, "PORT")
#   Traceback (most recent call last):
#   ...
#   faas.FaasError: the variable PORT must be a port number, negative for none
#
# Roads not taken ------------------------------------------------------------
#   A configuration file: a third place for what options and variables say.
#   A daemon that detaches itself: systemd, tmux or `&` do that, each better.
#   Commands that open the database themselves: two writers of one truth.
#
# Real world -----------------------------------------------------------------
#   kubectl, docker and faas-cli are the same: a thin client, and an API that
#   can do all that the client can. Kubernetes drains in this order too, and
#   gives a pod 30 s where a call here has 10.
