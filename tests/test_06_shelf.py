"""Chapter 6: bundles from strangers, versions, and folders that are edited."""

import gzip
import io
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import pytest
from conftest import FAAS, ROOT, eventually, zip_of

from faas import (MAX_ENTRIES, MAX_UNPACKED, Bounds, Call, FaasError,
                  Function, Item, Platform, Settings, Shelf, clean_path,
                  digest_of, fingerprint, new_id, pack_tar, read_bundle,
                  read_folder, settings_of)

# 6.1 Bundles

FILES = {"fn.py": Item(b"def fn(input): return input\n"),
         "bin/tool": Item(b"#!/bin/sh\n", True), "empty": Item(b"")}


def zip_with(*entries):
    """Make a zip of (name, data, mode) or of (ZipInfo, data)."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data, *mode in entries:
            info = name
            if isinstance(name, str):
                info = zipfile.ZipInfo(name)
                info.external_attr = (mode or [0o100644])[0] << 16
            bundle.writestr(info, data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def tar_with(*entries):
    """Make a tar of (name, type, what): data of a file, target of a link."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as bundle:
        for name, kind, what in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(what)
                bundle.addfile(info, io.BytesIO(what))
            else:
                info.linkname = what
                bundle.addfile(info)
    return packed.getvalue()


REG, SYM, LNK = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
LINK = stat.S_IFLNK | 0o777


def refused(data, sentence, kind="bad_input"):
    with pytest.raises(FaasError, match=sentence) as error:
        read_bundle(data)
    assert error.value.kind == kind


def test_a_bundle_may_be_a_zip_a_tar_or_a_tar_gz():
    packed = zip_with(*((path, item.data, 0o100755 if item.executable
                         else 0o100644) for path, item in FILES.items()))
    assert read_bundle(packed) == FILES
    assert read_bundle(pack_tar(FILES)) == FILES
    assert read_bundle(gzip.compress(pack_tar(FILES))) == FILES


def test_the_tools_own_bundles_are_read(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "fn.sh").write_text("#!/bin/sh\n")
    (tmp_path / "fn.sh").chmod(0o755)
    (tmp_path / "lib" / "a").write_text("a")
    (tmp_path / "same").symlink_to("lib/a")
    wanted = {"fn.sh": Item(b"#!/bin/sh\n", True), "lib/a": Item(b"a"),
              "same": Item(b"a")}
    for flags in "-cf", "-czf":
        packed = subprocess.run(["tar", flags, "-", "-C", tmp_path, "."],
                                stdout=subprocess.PIPE, check=True).stdout
        assert read_bundle(packed) == wanted
    shutil.make_archive(tmp_path / "made", "zip", tmp_path, "lib")
    assert read_bundle((tmp_path / "made.zip").read_bytes()) == {
        "lib/a": Item(b"a")}


def test_folders_make_no_entries_of_their_own():
    assert read_bundle(tar_with(("lib", tarfile.DIRTYPE, ""),
                                ("fn.py", REG, b""))) == {"fn.py": Item(b"")}
    assert read_bundle(zip_with(("lib/", b"", 0o40755),
                                ("fn.py", b""))) == {"fn.py": Item(b"")}


@pytest.mark.parametrize("path, clean", [
    ("fn.py", "fn.py"), ("./fn.py", "fn.py"), ("a//b/./c", "a/b/c"),
    ("...", "..."), ("a..b/c", "a..b/c"), ("grüße.txt", "grüße.txt")])
def test_a_path_has_one_spelling(path, clean):
    assert clean_path(path) == clean


ESCAPES = ["../fn.py", "a/../../fn.py", "a/..", "..", "/etc/cron.d/x",
           "//etc/x", "a/../b"]


@pytest.mark.parametrize("path", ESCAPES)
def test_a_path_that_leaves_is_refused(path):
    refused(zip_with((path, b"x")), "an entry that leaves its folder")
    refused(tar_with((path, REG, b"x")), "an entry that leaves its folder")
    refused(tar_with((path, tarfile.DIRTYPE, "")), "leaves its folder")


@pytest.mark.parametrize("path", ["a\nb", "a\x1b[2J", "\u202efn.py",
                                  "x" * 256, "é" * 128, "\udcff"])
def test_a_name_that_no_disk_should_hold_is_refused(path):
    with pytest.raises(FaasError, match="whose name no disk should hold"):
        clean_path(path)


@pytest.mark.parametrize("path", ["a/" * 3000 + "x", "b" * 200 + "/x" * 4000])
def test_a_path_deeper_than_any_disk_allows_is_refused(path):
    # Linux takes paths of 4096 bytes (PATH_MAX).
    refused(zip_with((path, b"")), "the bundle has")
    refused(pack_tar({path: Item(b"")}), "the bundle has")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd",
                                    "../x", "a/../../../x"])
def test_a_link_that_leaves_is_refused(target):
    refused(zip_with(("d/l", target, LINK)), "link that leaves|to what is no")
    refused(tar_with(("l", SYM, target)), "link that leaves its folder")


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "../../etc/x"])
def test_a_hard_link_that_leaves_is_refused(target):
    refused(tar_with(("a", REG, b""), ("l", LNK, target)),
            "link that leaves its folder")


def test_a_link_that_leaves_in_two_steps_is_refused():
    refused(tar_with(("here", SYM, "/etc"), ("here/x", REG, b"x")),
            "link that leaves its folder")
    refused(tar_with(("a", SYM, "b"), ("b", SYM, "../x")), "leaves its folder")
    refused(tar_with(("up", SYM, ".."), ("up/x", REG, b"x")), "the bundle has")
    refused(zip_with(("up", "..", LINK), ("l", "up/up/x", LINK)),
            "the bundle has a link")


@pytest.mark.parametrize("entries", [
    [("l", SYM, "l")], [("a", SYM, "b"), ("b", SYM, "a")],
    [("l", SYM, "nothing")], [("l", SYM, "")], [("l", SYM, ".")],
    [("d/x", REG, b""), ("l", SYM, "d")]])
def test_a_link_to_what_is_no_file_is_refused(entries):
    refused(tar_with(*entries), "a link to what is no file in it")


def test_a_link_that_stays_becomes_a_copy():
    files = read_bundle(tar_with(
        ("lib/a", REG, b"a"), ("b", SYM, "lib/a"), ("lib/c", SYM, "../b"),
        ("lib/d", SYM, "./a"), ("e", LNK, "lib/a"), ("x/f", LNK, "lib/a")))
    assert files == {path: Item(b"a") for path in
                     ("lib/a", "b", "lib/c", "lib/d", "e", "x/f")}
    assert read_bundle(zip_with(("lib/a", b"a"), ("b", "lib/a", LINK))) == {
        "lib/a": Item(b"a"), "b": Item(b"a")}


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE,
                                  tarfile.FIFOTYPE])
def test_a_device_or_a_pipe_in_a_tar_is_refused(kind):
    refused(tar_with(("null", kind, "")), "has a device or a pipe: 'null'")


@pytest.mark.parametrize("mode", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO,
                                  stat.S_IFSOCK])
def test_a_device_or_a_pipe_in_a_zip_is_refused(mode):
    refused(zip_with(("null", b"", mode | 0o666)), "has a device or a pipe")


def test_ten_thousand_entries_pass_and_one_more_does_not():
    bounds = Bounds(packed=1 << 20)
    for _ in range(MAX_ENTRIES):
        bounds.add(0)
    with pytest.raises(FaasError, match="more than 10000 entries"):
        bounds.add(0)


def test_a_bundle_of_too_many_entries_is_refused():
    folders = [(f"{n}", tarfile.DIRTYPE, "") for n in range(MAX_ENTRIES + 1)]
    refused(gzip.compress(tar_with(*folders), 1), "more than 10000 entries",
            "too_large")
    packed = zip_of({f"{n}": b"" for n in range(MAX_ENTRIES + 1)})
    refused(packed, "directory has more than 10000 records", "too_large")


def test_links_are_counted_with_what_they_copy():
    entries = [("big", REG, bytes(1 << 20))]
    entries += [(f"l{n}", SYM, "big") for n in range(70)]
    refused(tar_with(*entries), f"more than {MAX_UNPACKED} bytes",
            "too_large")


def test_64_megabytes_pass_and_one_more_byte_does_not():
    Bounds(packed=MAX_UNPACKED).add(MAX_UNPACKED)
    with pytest.raises(FaasError, match=f"more than {MAX_UNPACKED} bytes"):
        Bounds(packed=MAX_UNPACKED).add(MAX_UNPACKED + 1)


def test_a_bundle_larger_than_it_may_be_is_refused():
    noise = random.Random(1).randbytes(400_000)     # no ratio to speak of
    packed = zip_with(("noise", noise), ("zeros", bytes(MAX_UNPACKED)))
    refused(packed, f"more than {MAX_UNPACKED} bytes", "too_large")
    refused(gzip.compress(tar_with(("noise", REG, noise),
                                   ("zeros", REG, bytes(MAX_UNPACKED))), 1),
            f"more than {MAX_UNPACKED} bytes", "too_large")


def test_a_ratio_of_a_bomb_is_refused():
    refused(zip_with(("zeros", bytes(5_000_000))), "as only a bomb does",
            "too_large")
    refused(gzip.compress(tar_with(("zeros", REG, bytes(5_000_000)))),
            "as only a bomb does", "too_large")


def test_what_is_small_may_have_any_ratio():
    files = {"zeros": Item(bytes(1_000_000))}
    assert read_bundle(zip_with(("zeros", bytes(1_000_000)))) == files
    assert read_bundle(gzip.compress(pack_tar(files))) == files


def test_a_gzip_stream_that_unpacks_without_end_is_refused():
    # Not one file of a tar: nothing but zeros, which gzip packs 1000 to 1.
    refused(gzip.compress(bytes(80 << 20), 1), "unpacks to more than",
            "too_large")


def in_a_process_of_its_own(data, seconds=20):
    """Read a bundle where a loop in C can be ended; give what was said."""
    said = subprocess.run(
        [sys.executable, "-c", "import sys, faas\n"
         "try: print(sorted(faas.read_bundle(sys.stdin.buffer.read())))\n"
         "except faas.FaasError as error: print(error.kind)"],
        input=data, cwd=ROOT, timeout=seconds, capture_output=True)
    assert said.returncode == 0, said.stderr.decode()
    return said.stdout.decode().strip()


def header(kind, size, name="x"):
    """Make one block of a tar: a header that promises `size` bytes."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.USTAR_FORMAT)


def test_a_header_that_a_careless_pattern_reads_for_hours_is_refused():
    # CVE-2024-6232: a pax header of digits only. Pythons up to 3.11.9 need
    # time with the square of its size, and hold every other thread.
    digits = b"1" * 512 * 2000
    packed = gzip.compress(header(b"x", len(digits)) + digits)
    assert in_a_process_of_its_own(packed) in ("bad_input", "too_large")


def test_a_pax_header_larger_than_any_file_is_refused():
    value = b"30000011 comment=" + b"x" * 29_999_993 + b"\n"
    packed = gzip.compress(header(b"x", len(value)) + value + bytes(512)
                           + pack_tar(FILES), 1)
    assert in_a_process_of_its_own(packed) in ("bad_input", "too_large")


def test_headers_upon_headers_are_refused():
    chain = (header(b"L", 2) + b"a\0" + bytes(510)) * 3000
    assert in_a_process_of_its_own(chain) in ("bad_input", "too_large")


def test_deep_paths_by_the_hundred_take_no_time_to_refuse():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        for number in range(200):
            bundle.writestr("a/" * 30_000 + str(number), b"")
    said = in_a_process_of_its_own(packed.getvalue())
    assert said in ("bad_input", "too_large")


def test_two_entries_of_one_name_are_refused():
    with pytest.warns(UserWarning, match="Duplicate name"):
        packed = zip_with(("fn.py", b"1"), ("fn.py", b"2"))
    refused(packed, "two entries called 'fn.py'")
    refused(tar_with(("fn.py", REG, b"1"), ("./fn.py", REG, b"2")),
            "two entries called 'fn.py'")
    refused(tar_with(("a", REG, b"1"), ("fn.py", SYM, "a"),
                     ("fn.py", REG, b"2")), "two entries called 'fn.py'")


def test_a_file_and_a_folder_of_one_name_are_refused():
    refused(zip_with(("a", b""), ("a/b/c", b"")), "both a file and a folder")
    refused(tar_with(("a/b/c", REG, b""), ("a/b", REG, b"")),
            "both a file and a folder called 'a/b'")


@pytest.mark.parametrize("path", [".", "./", "./."])
def test_a_file_without_a_name_is_refused(path):
    refused(tar_with((path, REG, b"x")), "file without a name")


def test_a_zip_entry_without_a_name_is_refused():
    refused(zip_with(("", b"x")), "the bundle")


def test_an_encrypted_zip_is_refused():
    packed = bytearray(zip_with(("fn.py", b"secret")))
    for at in 6, packed.index(b"PK\x01\x02") + 8:   # the flags, twice
        packed[at] |= 1
    refused(bytes(packed), "encrypted, or packed otherwise")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_odd_compression_is_refused(method):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as bundle:
        bundle.writestr("fn.py", b"x" * 1000)
    refused(packed.getvalue(), "packed otherwise than by deflate")


@pytest.mark.parametrize("size", [0, 1, 999, 1001, 60_000_000, 0xffffffff])
def test_a_zip_that_lies_about_a_size_is_refused(size):
    packed = bytearray(zip_with(("fn.py", b"x" * 1000)))
    at = packed.index(b"PK\x01\x02") + 24
    packed[at:at + 4] = size.to_bytes(4, "little")
    with pytest.raises(FaasError):
        read_bundle(bytes(packed))


def test_a_tar_that_lies_about_a_size_is_refused():
    with pytest.raises(FaasError):
        read_bundle(header(b"0", 5000) + b"only this")


@pytest.mark.parametrize("data", [
    b"", b"P", b"PK", b"PK\3\4", b"PK\5\6" + bytes(18), b"\x1f\x8b",
    b"\x1f\x8b\x08" + bytes(20), b"hello", bytes(512), bytes(10240),
    b"\xff" * 5000, b"BZh9" + bytes(100), b"\xfd7zXZ\0" + bytes(100)],
    ids=repr)
def test_garbage_is_refused_or_empty(data):
    try:
        assert read_bundle(data) == {}
    except FaasError as error:
        assert error.kind == "bad_input"


def cut(data, step):
    return (data[:size] for size in range(0, len(data), step))


def test_a_truncated_zip_is_refused_wherever_it_ends():
    for data in cut(zip_with(("fn.py", b"x" * 99), ("b", b"y" * 99)), 1):
        refused(data, "the bundle")


def test_a_truncated_tar_gz_is_refused_wherever_it_ends():
    noise = random.Random(2).randbytes(300)
    packed = gzip.compress(pack_tar({"fn.py": Item(noise), "b": Item(noise)}))
    for data in cut(packed, 7):
        refused(data, "the bundle")
    refused(packed[:-1], "gzip stream is cut short")
    refused(packed + b"x", "or something follows it")


def test_a_truncated_tar_is_refused_wherever_its_files_end():
    packed = pack_tar({"b": Item(b"x" * 600), "fn.py": Item(b"y" * 600)})
    used = 2 * (512 + 1024)         # after it come only zeros
    for data in cut(packed[:used], 64):
        refused(data, "the bundle")
    refused(packed[:used], "tar ends too early")    # without its zeros


def test_a_header_of_more_than_8_kilobytes_is_refused():
    def long_name(size):
        name = (b"a/" * size)[:size - 4] + b"/f.x"
        block = header(b"L", size) + name + bytes(-size % 512)
        return block + header(b"0", 0) + bytes(1024)
    with pytest.raises(FaasError) as error:     # as a path, not as a header
        read_bundle(long_name(8192))
    assert "that no tar needs" not in str(error.value)
    refused(long_name(8193), "that no tar needs")


def test_an_old_sparse_file_that_ends_early_is_refused():
    block = bytearray(header(tarfile.GNUTYPE_SPARSE, 0))
    block[482] = 1                  # "more follows", and nothing does
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    refused(bytes(block), "the bundle")


def test_a_size_below_zero_is_refused():
    block = bytearray(header(b"0", 0))
    block[124:136] = b"\xff" * 11 + b"\x00"         # -256, in base 256
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(FaasError):
        read_bundle(bytes(block) + bytes(1024))


def mutants(data, seed, count, mend=lambda data: None):
    """Yield copies of `data` with one to four bytes changed."""
    chance = random.Random(seed)
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            copy[chance.randrange(len(copy))] = chance.choice(
                (0, 1, 0x7f, 0x80, 0xff, chance.randrange(256)))
        mend(copy)
        yield bytes(copy)


def mend_checksums(tar):
    """Make a tar's headers valid again, so that their fields are read."""
    for at in 0, 1024, 2048:
        tar[at + 148:at + 156] = b" " * 8
        tar[at + 148:at + 156] = b"%06o\0 " % sum(tar[at:at + 512])


def keep_within(files):
    for path in files:
        assert clean_path(path) == path and path


def test_a_zip_with_wrong_bytes_is_read_or_refused_and_nothing_else():
    whole = zip_with(("fn.py", b"x" * 20), ("l", "fn.py", LINK), ("d/e", b""))
    outcomes = set()
    for data in mutants(whole, seed=3, count=2000):
        try:
            keep_within(read_bundle(data))
            outcomes.add("read")
        except FaasError as error:
            outcomes.add(error.kind)
    assert outcomes >= {"read", "bad_input"}


@pytest.mark.parametrize("mend", [lambda tar: None, mend_checksums],
                         ids=["as it is", "with valid checksums"])
def test_a_tar_with_wrong_bytes_is_read_or_refused_and_nothing_else(mend):
    whole = tar_with(("a", REG, b"x" * 20), ("fn.py", REG, b"y" * 20),
                     ("l", SYM, "a"))
    outcomes = set()
    for data in mutants(whole[:4096], seed=4, count=2000, mend=mend):
        try:
            keep_within(read_bundle(data))
            outcomes.add("read")
        except FaasError as error:
            outcomes.add(error.kind)
    assert outcomes >= {"read", "bad_input"}


# A folder on our own disk


def test_a_folder_is_a_bundle_without_what_tools_leave_behind(tmp_path):
    for path in ("fn.py", "lib/a", ".git/HEAD", "__pycache__/fn.pyc",
                 "lib/.hidden", "node_modules/x/y", "venv/bin/python"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "lib" / "a").chmod(0o755)
    (tmp_path / "same").symlink_to("fn.py")
    assert read_folder(tmp_path) == {
        "fn.py": Item(b"fn.py"), "lib/a": Item(b"lib/a", True),
        "same": Item(b"fn.py")}


def test_a_folder_with_a_link_that_leaves_is_refused(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f2").write_text("not ours")
    (tmp_path / "f" / "l").symlink_to("../f2")
    with pytest.raises(FaasError, match="a link that leaves it: 'l'"):
        read_folder(tmp_path / "f")


def test_a_folder_with_a_pipe_is_refused_and_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FaasError, match="a device or a pipe: 'pipe'"):
        read_folder(tmp_path)


def test_a_folder_with_a_broken_link_is_refused(tmp_path):
    (tmp_path / "l").symlink_to("nothing")
    with pytest.raises(FaasError, match="the folder cannot be read"):
        read_folder(tmp_path)


def test_a_fingerprint_changes_with_every_edit(tmp_path):
    seen = [fingerprint(tmp_path)]
    (tmp_path / "fn.py").write_text("1")
    seen.append(fingerprint(tmp_path))
    os.utime(tmp_path / "fn.py", (1, 1))
    seen.append(fingerprint(tmp_path))
    (tmp_path / "fn.py").chmod(0o755)
    seen.append(fingerprint(tmp_path))
    (tmp_path / "fn.py").rename(tmp_path / "fn2.py")
    seen.append(fingerprint(tmp_path))
    assert len(set(seen)) == len(seen)
    assert fingerprint(tmp_path) == seen[-1]


# The digest


def test_the_digest_depends_on_tongue_names_bits_and_contents_only():
    files = {"a": Item(b"1"), "b": Item(b"2")}
    others = [("python3", files), ("binary", {"a": Item(b"1")}),
              ("binary", {"a": Item(b"2"), "b": Item(b"1")}),
              ("binary", {"a": Item(b"1", True), "b": Item(b"2")}),
              ("binary", {"a": Item(b"1"), "c": Item(b"2")}),
              ("binary", {"a": Item(b"1\0b\x0001\x002")}),
              ("binary", {})]
    digests = {digest_of(*one) for one in [("binary", files), *others]}
    assert len(digests) == len(others) + 1
    swapped = dict(reversed(files.items()))
    assert digest_of("binary", swapped) == digest_of("binary", files)


def test_the_digest_is_the_same_whatever_packed_the_bundle(tmp_path):
    (tmp_path / "fn.py").write_bytes(FILES["fn.py"].data)
    packed = [zip_with(("fn.py", FILES["fn.py"].data)),
              pack_tar({"fn.py": FILES["fn.py"]})]
    digests = {digest_of("python3", read_bundle(data)) for data in packed}
    assert digests == {digest_of("python3", read_folder(tmp_path))}


# 6.3 The shelf


@pytest.fixture
def shelf(tmp_path):
    shelf = Shelf(tmp_path.as_posix())
    yield shelf
    shelf.close()


def put(shelf, text, name="f"):
    """Place and publish a binary; give its number."""
    digest, folder = shelf.place(name, "binary", {"fn.sh": Item(text, True)})
    fn = Function(name, "binary", folder, digest=digest)
    return shelf.publish(fn, now=1.5).version


def on_disk(shelf, name="f"):
    try:
        return sorted(os.listdir(os.path.join(shelf.folder, name)))
    except FileNotFoundError:
        return []


def test_what_was_placed_is_in_a_folder_named_by_its_digest(shelf):
    digest, folder = shelf.place("f", "binary", FILES)
    assert folder == os.path.join(shelf.folder, "f", digest)
    assert digest == digest_of("binary", FILES)
    assert read_folder(folder) == FILES
    assert shelf.functions() == []          # nothing points to it yet


def test_a_failing_preparation_leaves_no_trace(shelf):
    def prepare(folder):
        assert os.path.exists(os.path.join(folder, "fn.py"))
        raise FaasError("bad_input", "no")
    with pytest.raises(FaasError, match="^no$"):
        shelf.place("f", "python3", FILES, prepare)
    assert os.listdir(shelf.folder) == []


def test_versions_are_counted_and_the_same_bytes_make_none(shelf):
    assert [put(shelf, text) for text in (b"1", b"2", b"2", b"1", b"3")] == [
        1, 2, 2, 1, 3]
    assert [(v.number, v.active) for v in shelf.versions("f")] == [
        (3, True), (2, False), (1, False)]
    assert len(on_disk(shelf)) == 3
    assert put(shelf, b"1", "g") == 1       # every function counts alone


def test_a_version_remembers_when_and_what_it_was(shelf):
    put(shelf, b"1")
    [version] = shelf.versions("f")
    assert (version.tongue, version.created) == ("binary", 1.5)
    assert [version.digest] == on_disk(shelf)


def test_activate_moves_the_pointer_and_nothing_else(shelf):
    put(shelf, b"1"), put(shelf, b"2")
    shelf.activate("f", 1)
    assert [(v.number, v.active) for v in shelf.versions("f")] == [
        (2, False), (1, True)]
    [fn] = shelf.functions("f")
    assert fn.version == 1 and read_folder(fn.folder)["fn.sh"].data == b"1"


@pytest.mark.parametrize("name, number", [("f", 2), ("f", 0), ("f", -1),
                                          ("g", 1)])
def test_what_is_not_there_cannot_be_activated(shelf, name, number):
    put(shelf, b"1")
    with pytest.raises(FaasError, match=f"{name} has no version {number}"):
        shelf.activate(name, number)
    assert shelf.functions("f")[0].version == 1


def test_the_shelf_is_the_same_after_a_restart(shelf, tmp_path):
    digest, folder = shelf.place("f", "binary", FILES)
    fn = Function("f", "binary", folder, digest=digest, threads=3,
                  env={"COLOUR": "red"}, source="folder", id="06f1",
                  settings=Settings("a label", "what it does", True, 7, True,
                                    "@daily"))
    fn = shelf.publish(fn._replace(limits=fn.limits._replace(timeout=7)), 0)
    shelf.annotate("f", "a note", "beef")
    again = Shelf(tmp_path.as_posix())
    assert again.functions() == [fn._replace(note="a note")]
    assert again.seen("f") == "beef"
    again.close()


def test_a_sweep_takes_what_no_row_knows_and_leaves_the_rest(shelf):
    put(shelf, b"1"), put(shelf, b"2")
    known = on_disk(shelf)
    shelf.place("f", "binary", {"fn.sh": Item(b"never published")})
    os.makedirs(os.path.join(shelf.folder, "f", ".new-1234", "lib"))
    os.makedirs(os.path.join(shelf.folder, "g", ".new-1234"))
    shelf.sweep()
    assert on_disk(shelf) == known and os.listdir(shelf.folder) == ["f"]


def test_remove_forgets_all_versions_and_their_files(shelf):
    put(shelf, b"1"), put(shelf, b"2"), put(shelf, b"1", "g")
    assert shelf.remove("f") and not shelf.remove("f")
    assert os.listdir(shelf.folder) == ["g"] and shelf.versions("f") == []
    assert put(shelf, b"9") == 1            # and it begins again


# Settings, and versions that go


def test_settings_are_kept_apart_from_versions(shelf, tmp_path):
    put(shelf, b"1"), put(shelf, b"2"), put(shelf, b"3")
    [fn] = shelf.functions("f")
    fn = fn._replace(env={"A": "1"}, settings=Settings("label", disabled=True))
    shelf.configure(fn)
    assert shelf.functions("f") == [fn]
    shelf.activate("f", 1)
    shelf.forget_version("f", 3)
    assert shelf.functions("f")[0].settings == fn.settings
    again = Shelf(tmp_path.as_posix())
    assert again.functions("f")[0].settings == fn.settings
    again.close()


@pytest.mark.parametrize("text, settings", [
    ("{}", Settings()), ('{"label": "a"}', Settings("a")),
    ('{"disabled": true, "colour": "red"}', Settings(disabled=True))])
def test_settings_of_another_faas_py_are_read_as_far_as_known(text, settings):
    assert settings_of(text) == settings


def test_a_version_is_forgotten_with_its_files(shelf):
    for text in b"1", b"2", b"3":
        put(shelf, text)
    put(shelf, b"1", "g")
    digests = {version.number: version.digest
               for version in shelf.versions("f")}
    shelf.forget_version("f", 2)
    assert [version.number for version in shelf.versions("f")] == [3, 1]
    assert on_disk(shelf) == sorted([digests[1], digests[3]])
    assert shelf.functions("f")[0].version == 3
    assert len(on_disk(shelf, "g")) == 1
    assert put(shelf, b"2") == 4            # The same bytes are new again.


def test_two_shelves_agree_about_the_id_of_a_function(shelf, tmp_path):
    """Two commands may take up the same folder at the same time."""
    again = Shelf(tmp_path.as_posix())
    digest, folder = shelf.place("f", "binary", {"fn.sh": Item(b"1")})
    fn = Function("f", "binary", folder, digest=digest)
    found = {one.publish(fn._replace(id=ident), now=1.5).id
             for one, ident in ((shelf, "first"), (again, "second"))}
    assert found == {again.known("f").id} == {"first"}
    again.close()


def test_a_number_that_was_forgotten_is_not_given_again(shelf, tmp_path):
    """The executions of that version still have it."""
    for text in b"1", b"2", b"3":
        put(shelf, text)
    shelf.activate("f", 1)
    shelf.forget_version("f", 3), shelf.forget_version("f", 2)
    again = Shelf(tmp_path.as_posix())
    assert again.number_of("f", "no such digest") == 4
    assert put(again, b"other") == 4 and put(again, b"1") == 1
    again.close()
    assert put(shelf, b"more") == 5


@pytest.mark.parametrize("name, number, kind", [
    ("f", 2, "bad_input"), ("f", 3, "not_found"), ("f", 0, "not_found"),
    ("g", 1, "not_found")])
def test_the_active_version_and_what_is_not_there_cannot_be_forgotten(
        shelf, name, number, kind):
    put(shelf, b"1"), put(shelf, b"2")
    before = on_disk(shelf)
    with pytest.raises(FaasError) as error:
        shelf.forget_version(name, number)
    assert error.value.kind == kind
    assert on_disk(shelf) == before and len(shelf.versions("f")) == 2


def test_the_shelf_knows_when_a_function_came(shelf):
    put(shelf, b"1")
    digest, folder = shelf.place("f", "binary", {"fn.sh": Item(b"2")})
    shelf.publish(Function("f", "binary", folder, digest=digest), now=99.0)
    assert shelf.created() == {"f": 1.5}    # the first time
    assert shelf.known("f").digest == digest and shelf.known("g") is None


# A data folder that an older faas.py has left, from before there were ids,
# settings and the statuses of answers.

OLD_TABLES = """
CREATE TABLE functions (
    name TEXT PRIMARY KEY, active INTEGER NOT NULL, threads INTEGER NOT NULL,
    env TEXT NOT NULL, timeout REAL NOT NULL, source TEXT NOT NULL,
    seen TEXT NOT NULL, note TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE versions (
    function TEXT NOT NULL REFERENCES functions ON DELETE CASCADE,
    number INTEGER NOT NULL, tongue TEXT NOT NULL, digest TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (function, number), UNIQUE (function, digest));
CREATE TABLE executions (
    id TEXT PRIMARY KEY, function TEXT NOT NULL, version INTEGER NOT NULL,
    trigger TEXT NOT NULL, started REAL NOT NULL, duration REAL NOT NULL,
    start TEXT NOT NULL, status TEXT NOT NULL, bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL, error TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX executions_of ON executions (function, id);
"""


@pytest.fixture
def old_home(tmp_path):
    """The home of an older platform, on which f was deployed twice."""
    data = tmp_path / "data"
    (data / "shelf").mkdir(parents=True)
    database = sqlite3.connect(data / "faas.db")
    database.executescript("PRAGMA journal_mode=WAL;" + OLD_TABLES)
    for name, source in ("f", "upload"), ("g", "upload"), ("h", "folder"):
        digests = []
        for number in 1, 2:
            files = {"fn.py": Item(f"def fn(input): return '{name}{number}'"
                                   .encode())}
            digests.append(digest_of("python3", files))
            folder = data / "shelf" / name / digests[-1]
            folder.mkdir(parents=True)
            (folder / "fn.py").write_bytes(files["fn.py"].data)
        with database:
            database.execute(
                "INSERT INTO functions VALUES (?,2,3,?,7.5,?,?,'',?)",
                (name, '{"COLOUR": "red"}', source, digests[1], 1e9))
            for number in 1, 2:
                database.execute(
                    "INSERT INTO versions VALUES (?,?,'python3',?,?)",
                    (name, number, digests[number - 1], 1e9 + number))
    yesterday = time.time() - 86400
    with database:
        database.execute("INSERT INTO executions VALUES (?,'f',2,'http',"
                         "?,0.5,'warm','crashed',1,2,'why')",
                         (new_id(yesterday), yesterday))
    database.close()
    return tmp_path.as_posix()


def test_what_an_older_faas_py_has_left_is_served_on(old_home):
    ids = []
    for start in range(2):                  # The second time, it is ours.
        with Platform(old_home) as platform:
            assert [ask(platform, name) for name in "fg"] == ["f2", "g2"]
            fn = platform.find("f").fn
            assert (fn.version, fn.threads, fn.env, fn.limits.timeout) == (
                2, 3, {"COLOUR": "red"}, 7.5)
            assert fn.settings == Settings() and fn.note == ""
            assert ask(platform, fn.id) == "f2"
            ids.append([one.id for one in platform.shelf.functions()])
            assert platform.rollback(fn.id, 1).version == 1
            assert ask(platform) == "f1"
            platform.rollback("f", 2)
    assert ids[0] == ids[1] and len(set(ids[0])) == 3
    assert all(len(one) == 20 for one in ids[0])


def test_what_an_older_faas_py_remembers_is_remembered_on(old_home):
    with Platform(old_home) as platform:
        assert ask(platform) == "f2"
        new, old = platform.journal.recent("f")
        assert (old.status, old.error, old.code) == ("crashed", "why", 200)
        assert (new.status, new.code) == ("ok", 200)
        found, detail = platform.journal.find(old.id)
        assert found == old and detail[1:] == ("", "", "")
        platform.store.set("f", "hits", "1")
        assert platform.store.get("f", "hits") == "1"


def test_what_an_older_faas_py_has_left_can_be_changed(old_home):
    with Platform(old_home) as platform:
        platform.configure("f", env={"COLOUR": "blue"}, label="old friend")
        assert deploy(platform, "new").version == 3
        assert ask(platform) == "new"
        platform.forget_version("f", 1)
        platform.delete("g")
    with Platform(old_home) as platform:
        fn = platform.find("f").fn
        assert (fn.version, fn.env, fn.settings.label) == (
            3, {"COLOUR": "blue"}, "old friend")
        assert [one.name for one in platform.shelf.functions()] == ["f", "h"]
        assert [one.number for one in platform.shelf.versions("f")] == [3, 2]


def test_a_folder_that_an_older_faas_py_took_up_is_not_taken_up_again(
        old_home):
    folder = os.path.join(old_home, "functions", "h")
    os.makedirs(folder)
    with open(os.path.join(folder, "fn.py"), "w") as file:
        file.write("def fn(input): return 'h2'")
    with Platform(old_home) as platform:
        assert ask(platform, "h") == "h2"
        assert [one.number for one in platform.shelf.versions("h")] == [2, 1]


# Deploys, through the platform


@pytest.fixture
def platform(tmp_path):
    with Platform(tmp_path.as_posix()) as platform:
        yield platform


def deploy(platform, answer, name="f", **rest):
    text = f"def fn(input): return {answer!r}"
    return platform.deploy(name, {"fn.py": Item(text.encode())}, **rest)


def ask(platform, name="f"):
    result = platform.invoke(Call(name))
    return result.body.decode() if result.kind == "ok" else result.kind


def test_a_deploy_serves_and_a_rollback_brings_back(platform):
    assert [deploy(platform, text).version for text in "abab"] == [1, 2, 1, 2]
    assert ask(platform) == "b"
    assert platform.rollback("f", 1).version == 1 and ask(platform) == "a"
    assert platform.invoke(Call("f")).version == 1
    with pytest.raises(FaasError, match="no version 3"):
        platform.rollback("f", 3)
    assert ask(platform) == "a"


def test_the_same_bytes_again_keep_the_same_worker(platform):
    text = b"import os\ndef fn(input): return os.getpid()"
    pids = []
    for _ in range(3):
        platform.deploy("f", {"fn.py": Item(text)})
        pids.append(platform.invoke(Call("f")).body)
    assert len(set(pids)) == 1


def test_the_same_bytes_with_another_environment_are_the_same_version(
        platform):
    text = b"import os\ndef fn(input): return os.environ['COLOUR']"
    for colour in "red", "blue":
        fn = platform.deploy("f", {"fn.py": Item(text)},
                             env={"COLOUR": colour})
        assert fn.version == 1 and ask(platform) == colour


@pytest.mark.parametrize("name", ["list", "upload", "health", "-"])
def test_names_that_are_paths_of_the_platform_are_refused(platform, name):
    with pytest.raises(FaasError) as error:
        deploy(platform, "hi", name)
    assert error.value.kind in ("conflict", "bad_input")


def test_a_function_without_a_timeout_of_its_own_follows_the_platforms(
        tmp_path):
    home = tmp_path.as_posix()
    with Platform(home) as platform:
        deploy(platform, "a"), deploy(platform, "b", "own", timeout=7)
        limits = platform.limits
    with Platform(home, limits=limits._replace(timeout=3)) as platform:
        assert [fn.limits.timeout for fn in
                (platform.find("f").fn, platform.find("own").fn)] == [3, 7]


def test_what_a_deploy_does_not_say_stays_as_it_was(platform):
    first = deploy(platform, "a", env={"A": "1"}, threads=2, timeout=7,
                   settings=Settings("label", keep_days=9))
    second = deploy(platform, "b")
    assert (second.version, second.id) == (2, first.id)
    for fn in second, platform.shelf.known("f"):
        assert (fn.env, fn.threads, fn.limits.timeout, fn.settings) == (
            {"A": "1"}, 2, 7, Settings("label", keep_days=9))
    third = deploy(platform, "c", env={}, threads=1, timeout=0)
    assert (third.env, third.threads) == ({}, 1)
    assert third.limits.timeout == platform.limits.timeout
    assert third.settings == second.settings


def test_a_deploy_may_bring_settings_and_they_are_on_disk(tmp_path):
    home = tmp_path.as_posix()
    with Platform(home) as platform:
        deploy(platform, "a", settings=Settings("first"))
        deploy(platform, "b", settings=Settings("second", disabled=True))
        assert platform.find("f").fn.settings.label == "second"
    with Platform(home) as platform:
        assert platform.find("f").fn.settings == Settings("second",
                                                          disabled=True)


def test_a_deploy_may_ask_for_a_name_that_nobody_has(platform):
    assert deploy(platform, "a", fresh=True).version == 1
    with pytest.raises(FaasError, match="f is taken") as error:
        deploy(platform, "b", fresh=True)
    assert error.value.kind == "conflict" and ask(platform) == "a"
    platform.delete("f")
    assert deploy(platform, "b", fresh=True).version == 1


def test_a_function_is_known_by_its_id_wherever_by_its_name(platform):
    ident = deploy(platform, "a").id
    deploy(platform, "b")
    assert ask(platform, ident) == "b"
    assert platform.find(ident).fn.name == "f"
    assert platform.name_of(ident) == "f" == platform.name_of("f")
    assert platform.rollback(ident, 1).version == 1 and ask(platform) == "a"
    assert platform.version(ident, 2)[1] == "def fn(input): return 'b'"
    platform.forget_version(ident, 2)
    assert platform.configure(ident, label="new").settings.label == "new"
    with pytest.raises(FaasError, match="is the id of f") as error:
        deploy(platform, "c", ident)
    assert error.value.kind == "conflict"
    platform.delete(ident)
    assert ask(platform, ident) == ask(platform) == "not_found"
    assert deploy(platform, "new").id != ident


def test_an_id_is_the_same_after_a_restart_and_new_after_a_delete(tmp_path):
    home, ids = tmp_path.as_posix(), []
    for start in range(3):
        with Platform(home) as platform:
            if start == 0:
                ids.append(deploy(platform, "a").id)
            ids.append(platform.find("f").fn.id)
            assert ask(platform, ids[0]) == "a"
            if start == 2:
                platform.delete("f")
                assert deploy(platform, "a").id not in ids
    assert len(set(ids)) == 1


def test_a_version_can_be_read_as_it_was(platform):
    for text in "a", "b":
        deploy(platform, text)
    fn, text = platform.version("f", 1)
    assert (fn.version, text) == (1, "def fn(input): return 'a'")
    for name, number in ("f", 3), ("g", 1):
        with pytest.raises(FaasError) as error:
            platform.version(name, number)
        assert error.value.kind == "not_found"


PID = ("import os\n"
       "def fn(input): return f'{os.getpid()} {os.environ.get(input)}'")


def test_new_variables_need_new_workers_and_no_new_version(platform):
    platform.deploy("f", {"fn.py": Item(PID.encode())}, env={"A": "old"})

    def look():
        return platform.invoke(Call("f", b"A")).body.decode().split()
    pid, value = look()
    assert value == "old"
    assert platform.configure("f", env={"A": "new"}).version == 1
    assert look()[1] == "new" and look()[0] != pid
    assert platform.shelf.known("f").env == {"A": "new"}
    assert len(platform.shelf.versions("f")) == 1


def test_settings_cost_no_worker(platform):
    platform.deploy("f", {"fn.py": Item(PID.encode())}, env={"A": "1"})
    before = platform.invoke(Call("f", b"A")).body
    fn = platform.configure("f", label="new", keep_days=7, keep_answers=True)
    assert fn.settings == Settings("new", "", False, 7, True)
    platform.configure("f", env={"A": "1"})         # the same as before
    result = platform.invoke(Call("f", b"A"))
    assert (result.start, result.body) == ("warm", before)
    assert platform.shelf.known("f").settings == fn.settings


def test_who_asks_for_its_variables_sees_new_ones_in_the_same_worker(
        platform):
    platform.deploy("f", {"main.py": Item(
        b"import os\ndef handler(ctx, event):\n"
        b"    return {'body': f'{os.getpid()} {ctx.env.get(\"A\")}'}")},
        env={"A": "old"})
    pid, value = platform.invoke(Call("f")).body.split()
    platform.configure("f", env={"A": "new"})
    assert platform.invoke(Call("f")).body.split() == [pid, b"new"]
    assert value == b"old"


def test_new_variables_may_be_made_of_the_old_ones_by_many_at_once(platform):
    deploy(platform, "a", env={"FIRST": "1"})

    def add(number):
        platform.configure("f", lambda env: {**env, f"V{number}": "x"})
    threads = [threading.Thread(target=add, args=[number])
               for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(platform.find("f").fn.env) == sorted(
        ["FIRST", *(f"V{number}" for number in range(12))])
    assert platform.shelf.known("f").env == platform.find("f").fn.env


def test_what_has_no_place_for_settings_refuses_them(platform):
    path = os.path.join(platform.functions, "script")
    with open(path, "w") as file:
        file.write("#!/bin/sh\n")
    for name, kind in ("script", "conflict"), ("nobody", "not_found"):
        with pytest.raises(FaasError) as error:
            platform.configure(name, label="x")
        assert error.value.kind == kind


def test_new_variables_that_a_text_does_not_bear_change_nothing(platform):
    platform.deploy("f", {"fn.py": Item(
        b"import os\nint(os.environ['A'])\n"
        b"def fn(input): return os.environ['A']")}, env={"A": "1"})
    with pytest.raises(FaasError, match="f does not start"):
        platform.configure("f", env={"A": "no number"})
    assert ask(platform) == "1"
    assert platform.shelf.known("f").env == {"A": "1"}
    assert len(platform.shelf.versions("f")) == 1


def test_a_delete_takes_along_all_that_a_function_had_and_did(platform):
    text = (b"def handler(ctx, event):\n    ctx.log.info('hi')\n"
            b"    return {'body': str(ctx.kv.increment('hits'))}")
    for name in "f", "g":
        platform.deploy(name, {"main.py": Item(text)}, env={"A": "1"})
        for _ in range(2):
            result = platform.invoke(Call(name))
    assert len(platform.journal.recent("f")) == 2
    ident = platform.find("f").fn.id
    assert platform.store.get(ident, "hits") == "2"
    platform.delete("f")
    assert platform.journal.recent("f") == []
    assert platform.store.get(ident, "hits") is None
    with pytest.raises(FaasError, match="No logs"):
        platform.logs.read("f")
    # The other one has all, and a new f begins anew.
    assert platform.journal.count("g") == 2
    assert platform.journal.find(result.id)[1].log == "[info] hi"
    assert platform.invoke(Call("g")).body == b"3"
    fn = platform.deploy("f", {"main.py": Item(text)})
    assert (fn.version, fn.env) == (1, {})
    assert platform.invoke(Call("f")).body == b"1"
    rows = platform.journal.read("SELECT count(*) FROM details", ())
    assert rows == [(4,)]       # of three calls of g, and one of the new f


# Every uploaded bundle that is refused leaves nothing.


def test_a_refused_upload_leaves_nothing_on_the_shelf(server):
    faas = server()
    bomb = zip_with(("fn.py", b"def fn(i): pass"), ("z", bytes(5_000_000)))
    for bundle, status in (
            (zip_of({"../../fn.py": ""}), 400), (bomb, 413),
            (zip_with(("fn.py", "/etc/passwd", LINK)), 400),
            (b"PK garbage", 400), (zip_of({"main.c": ""}), 400),
            (zip_of({"fn.py": "import nothing"}), 400),
            (zip_of({"fn.py": "def fn(i): pass", "a/" * 3000 + "x": ""}),
             400)):
        answer = faas.upload("bad", bundle)
        assert answer.status == status and answer.body
    assert list((faas.data / "shelf").iterdir()) == []
    assert not (faas.home / "fn.py").exists()
    assert faas.get("/list").body == b""


def test_versions_and_rollback_over_http(server):
    faas = server()
    for word in "one", "two":
        faas.upload("f", {"fn.py": f"def fn(input): return '{word}'"})
    answer = faas.post("/-/functions/f/rollback", b'{"version": 1}')
    assert answer.status == 200 and faas.post("/f").body == b"one"
    versions = json.loads(faas.get("/-/functions/f/versions").body)
    assert [(v["number"], v["active"]) for v in versions] == [(2, False),
                                                              (1, True)]
    faas.kill()                             # and it is on disk
    assert server(home=faas.home).post("/f").body == b"one"


# kill -9: a function of many files, each of which says the same number. The
# deployer says a number once it is deployed; who comes after a kill must find
# that one, or the one that was under way, and all files of one deploy.

DEPLOYER = """
import itertools, os, sys
sys.path.insert(0, sys.argv[1])
from faas import Call, Item, Platform
PY = b'''import pathlib
def fn(input): return " ".join(p.read_text() for p in
                               pathlib.Path().glob("part-*"))'''
SH = b'#!/bin/sh\\nfor part in part-*; do printf "%s " "$(cat $part)"; done'
def say(what):
    os.write(1, f"{what}\\n".encode())
with Platform(sys.argv[2]) as platform:
    platform.shelf.sweep()
    say(platform.invoke(Call("f")).body.decode())
    for number in itertools.count(int(sys.argv[3])):
        files = {f"part-{n}": Item(b"%d" % number) for n in range(6)}
        files.update({"fn.py": Item(PY)} if number % 2 else
                     {"fn.sh": Item(SH, True)})
        platform.deploy("f", files)
        say(number)
"""


def test_a_deploy_that_was_killed_leaves_the_old_version_or_the_new(
        tmp_path, server):
    chance, home, deployed = random.Random(5), tmp_path / "killed", 0
    for _ in range(15):
        deployer = subprocess.Popen(
            [sys.executable, "-c", DEPLOYER, ROOT, home, str(deployed + 1)],
            stdout=subprocess.PIPE, text=True)
        with deployer:
            found = deployer.stdout.readline().split()
            if deployed:
                assert len(found) == 6 and len(set(found)) == 1
                assert int(found[0]) in (deployed, deployed + 1)
            # The first deploy of each is let through; then, at any moment.
            deployed = int(deployer.stdout.readline())
            try:
                deployer.wait(chance.uniform(0, 0.08))
            except subprocess.TimeoutExpired:
                deployer.send_signal(signal.SIGKILL)
            said = deployer.stdout.read().split()
            deployed = int(said[-1]) if said else deployed
        assert deployer.returncode == -signal.SIGKILL
    faas = server(home=home)
    found = set(faas.post("/f").body.decode().split())
    assert found in ({str(deployed)}, {str(deployed + 1)})
    left = os.listdir(home / "data" / "shelf" / "f")
    versions = json.loads(faas.get("/-/functions/f/versions").body)
    assert sorted(left) == sorted(version["digest"] for version in versions)


def test_a_server_that_was_killed_in_an_upload_starts_clean(server):
    faas = server()
    faas.upload("f", {"fn.py": "def fn(input): return 'old'"})
    slow = {"fn.py": "def fn(input): return 'new'",
            "requirements.txt": "./slow"}
    # A setup.py that never ends holds the deploy where it hurts most.
    slow["slow/setup.py"] = "import time\ntime.sleep(60)"
    for _ in range(2):
        upload = subprocess.Popen(
            [sys.executable, "-c", "import sys, conftest\n"
             "faas = object.__new__(conftest.Server)\n"
             "faas.url = sys.argv[1]\n"
             f"faas.upload('f', {slow!r})", faas.url],
            cwd=ROOT / "tests", stderr=subprocess.DEVNULL)
        shelf = faas.data / "shelf" / "f"
        eventually(lambda: list(shelf.glob(".new-*")))
        faas.kill()
        upload.wait(20)
        faas = server(home=faas.home)
        assert faas.post("/f").body == b"old"
        assert not list(shelf.glob(".new-*")) and len(os.listdir(shelf)) == 1


# Folders that are edited


@pytest.fixture
def folder(platform):
    """functions/f, a folder; edit it by folder(answer)."""
    path = os.path.join(platform.functions, "f")
    os.mkdir(path)

    def folder(text):
        with open(os.path.join(path, "fn.py"), "w") as file:
            file.write(text)
        # Two edits within a tick of the disk's clock would look the same.
        folder.tick += 1
        os.utime(file.name, (folder.tick, folder.tick))
    folder.path, folder.tick = path, 0
    return folder


def says(answer):
    return f"def fn(input): return {answer!r}"


def test_an_edit_is_picked_up_at_the_next_call(platform, folder):
    for number, answer in enumerate(["one", "two", "three"], 1):
        folder(says(answer))
        assert ask(platform) == answer
        assert platform.find("f").fn.version == number
    folder(says("one"))                     # back to what was there before
    assert ask(platform) == "one" and platform.find("f").fn.version == 1


def test_a_touched_folder_makes_no_new_version(platform, folder):
    for _ in range(3):
        folder(says("one"))
        assert ask(platform) == "one"
    assert [v.number for v in platform.shelf.versions("f")] == [1]


def test_a_folder_that_never_loaded_says_why(platform, folder):
    folder("import no_such_module")
    result = platform.invoke(Call("f"))
    assert result.kind == "bad_input" and "no_such_module" in result.sentence
    folder(says("mended"))
    assert ask(platform) == "mended"


@pytest.mark.parametrize("edit", ["def fn(input: return 1", "1 / 0",
                                  "import no_such_module", "fn = 4"])
def test_an_edit_that_does_not_load_keeps_the_last_good_one(
        platform, folder, edit):
    folder(says("good"))
    assert ask(platform) == "good"
    folder(edit)
    assert [ask(platform), ask(platform)] == ["good", "good"]
    [fn] = platform.listing()
    assert fn.note.startswith("the newest edit does not work, version 1 goes")
    log = platform.logs.read("f").decode()
    assert log.count("the newest edit does not work") == 1
    folder(says("mended"))
    assert ask(platform) == "mended" and platform.listing()[0].note == ""


def test_a_bad_edit_that_is_taken_back_leaves_no_note(platform, folder):
    for text, note in (says("good"), ""), ("1 / 0", "the"), (says("good"), ""):
        folder(text)
        assert ask(platform) == "good"
        assert platform.listing()[0].note[:3] == note


def test_a_marker_that_vanishes_keeps_the_last_good_one(platform, folder):
    folder(says("good"))
    assert ask(platform) == "good"
    os.rename(folder.path + "/fn.py", folder.path + "/other.py")
    assert ask(platform) == "good"
    assert "it is no function of any tongue" in platform.listing()[0].note


def test_a_rollback_of_a_folder_holds_until_the_next_edit(tmp_path):
    home, folder = tmp_path.as_posix(), tmp_path / "functions" / "f"
    folder.mkdir(parents=True)

    def edit(answer):
        (folder / "fn.py").write_text(says(answer))
    with Platform(home) as platform:
        for answer in "one", "second":
            edit(answer)
            assert ask(platform) == answer
        platform.rollback("f", 1)
        assert ask(platform) == "one"
    with Platform(home) as platform:        # A restart is no edit.
        assert ask(platform) == "one"
        edit("the third")
        assert ask(platform) == "the third"


def test_a_rollback_clears_the_note_of_a_bad_edit(platform, folder):
    for text in says("one"), says("two"), "1 / 0":
        folder(text)
        ask(platform)
    platform.rollback("f", 1)
    assert ask(platform) == "one"
    assert "version 2 goes on" not in platform.listing()[0].note


def test_a_bad_edit_is_still_known_after_a_restart(tmp_path):
    home, folder = tmp_path.as_posix(), tmp_path / "functions" / "f"
    folder.mkdir(parents=True)
    (folder / "fn.py").write_text(says("good"))
    with Platform(home) as platform:
        assert ask(platform) == "good"
        (folder / "fn.py").write_text("1 / 0")
        assert ask(platform) == "good"
    with Platform(home) as platform:
        assert platform.listing()[0].note and ask(platform) == "good"


def test_a_folder_that_is_removed_is_a_404(platform, folder):
    folder(says("here"))
    assert ask(platform) == "here"
    shutil.rmtree(folder.path)
    assert ask(platform) == "not_found"


def test_what_cannot_be_called_is_not_listed(platform, folder):
    folder(says("here"))
    assert ask(platform) == "here" and len(platform.listing()) == 1
    shutil.rmtree(folder.path)
    assert ask(platform) == "not_found" and platform.listing() == []


def test_a_folder_that_comes_back_has_its_versions_still(platform, folder):
    for answer in "one", "second":
        folder(says(answer))
        assert ask(platform) == answer
    text = open(folder.path + "/fn.py").read()
    shutil.rmtree(folder.path)
    assert ask(platform) == "not_found"
    os.mkdir(folder.path)
    folder(text)
    assert ask(platform) == "second"
    numbers = {one.number for one in platform.shelf.versions("f")}
    assert numbers == {1, 2}


def test_a_folder_may_become_a_file_and_a_folder_again(platform, folder):
    folder(says("folder"))
    assert ask(platform) == "folder"
    text = open(folder.path + "/fn.py").read()
    shutil.rmtree(folder.path)
    with open(folder.path, "w") as file:
        file.write("#!/bin/sh\nprintf file")
    os.chmod(folder.path, 0o755)
    assert ask(platform) == "file"
    os.remove(folder.path)
    os.mkdir(folder.path)
    folder(text)
    assert ask(platform) == "folder"


def test_a_script_is_run_as_it_is_now(platform):
    path = os.path.join(platform.functions, "now.sh")
    for word in "one", "two":
        with open(path + ".new", "w") as file:
            file.write(f"#!/bin/sh\nprintf {word}\n")
        os.chmod(file.name, 0o755)
        os.replace(file.name, path)
        assert ask(platform, "now.sh") == word
    os.remove(path)
    assert ask(platform, "now.sh") == "not_found"


def test_settings_of_a_folder_outlive_its_edits_and_a_restart(tmp_path):
    home, folder = tmp_path.as_posix(), tmp_path / "functions" / "f"
    folder.mkdir(parents=True)
    (folder / "fn.py").write_text(
        "import os\ndef fn(input): return os.environ.get('A', 'none')")
    with Platform(home) as platform:
        assert ask(platform) == "none"
        platform.configure("f", env={"A": "red"}, label="mine")
        assert ask(platform) == "red"
        (folder / "fn.py").write_text(
            "import os\ndef fn(input): return os.environ['A'] + ' again'")
        assert ask(platform) == "red again"
        assert platform.find("f").fn.settings.label == "mine"
    with Platform(home) as platform:
        assert ask(platform) == "red again"
        assert platform.find("f").fn.settings.label == "mine"
        platform.configure("f", disabled=True)
        (folder / "fn.py").write_text("def fn(input): return 'edited'")
        assert ask(platform) == "denied"


def test_what_is_in_functions_can_be_neither_deployed_over_nor_deleted(
        platform, folder):
    folder(says("mine"))
    assert ask(platform) == "mine"
    for change in (lambda: deploy(platform, "theirs"),
                   lambda: platform.delete("f")):
        with pytest.raises(FaasError) as error:
            change()
        assert error.value.kind == "conflict"
    assert ask(platform) == "mine"


def test_the_command_line_lists_the_note(server):
    faas = server()
    folder = faas.functions / "f"
    folder.mkdir()
    (folder / "fn.py").write_text(says("good"))
    assert faas.post("/f").body == b"good"
    (folder / "fn.py").write_text("1 / 0  # so it does not load")
    assert faas.post("/f").body == b"good"
    listed = subprocess.run(
        [sys.executable, FAAS, "list", "--json", "--data", faas.data],
        capture_output=True, check=True, timeout=30).stdout
    [fn] = json.loads(listed)
    assert fn["note"].startswith("the newest edit does not work")
    assert "ZeroDivisionError" in fn["note"]
    assert b"the newest edit does not work" in faas.get("/logs/f").body


def test_a_version_gives_back_what_it_was_deployed_with(tmp_path):
    files = {"fn.sh": Item(b"date", True), ".data/a": Item(b"A"),
             "node_modules/k": Item(b"1")}
    with Platform(str(tmp_path)) as platform:
        fn = platform.deploy("f", files)
        (pathlib.Path(fn.folder) / "built").write_text("by a build")
        assert platform.shelf.bundle(fn) == files


def test_a_build_cannot_make_a_version_give_back_what_is_not_its_own(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("ours")
    with Platform(str(tmp_path)) as platform:
        fn = platform.deploy("f", {"fn.sh": Item(b"date", True),
                                   "a": Item(b"1")})
        changed = pathlib.Path(fn.folder) / "a"
        changed.unlink()
        for act in lambda: changed.symlink_to(secret), changed.unlink:
            act()
            with pytest.raises(FaasError, match="has taken 'a' away"):
                platform.shelf.bundle(fn)
