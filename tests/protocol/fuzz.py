"""make fuzz: a Runtime API that breaks HTTP in every way it can, and what the runtime makes of it.

    make fuzz                           10,000 cases from a seed that is printed
    make fuzz SEED=7 CASES=300          others
    make fuzz SEED=7 FIRST=121 CASES=4  what a failure prints to see it again

A case spoils one answer: to `next`, to a response, to an error, to a stream. What must hold:
every event that arrived whole is answered once, no event is made of a broken answer, and the process
goes on, or ends with one line on stderr and status 1; it never hangs and never prints a traceback.

Who says what is broken? Each spoiling below says what must come of it when it is the only one: that
needs the standard library alone, and `make test` runs some hundred such cases. `make fuzz` asks h11 as
well, an independent HTTP parser (the two judges have to agree), and has it alone judge cases in which
spoilings are heaped on each other and bytes are flipped. Where the runtime differs from h11 on purpose
stands in `soften` (more lenient) and `refused` (stricter).

Each answer is given to both of the runtime's parsers too: what the quick one takes, the strict one
has to take, with the same result.

Most runtimes are forks of this process (2 ms) that serve cases until one kills them; their sockets
receive and send a few bytes at a time. One in REAL is `bootstrap` itself.
"""

import _socket
import argparse
import asyncio  # noqa: F401 (the forks need not import it each)
import json
import os
import random
import re
import sys
import tempfile
import time
import traceback
import types
import urllib.parse
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
import runtime  # noqa: E402
from miniature.output import exit_with  # noqa: E402
from miniature.raw import ACCEPTED, Process, RawApi  # noqa: E402
from miniature.raw import event as plain_event  # noqa: E402

REAL = 25
LARGEST_HEAD, LARGEST_BODY = 1 << 20, 1 << 28  # what the runtime takes at most
HEAD_SLACK = 1 << 17  # it looks at the size before it receives more, not after
ONE_SEGMENT = 60_000  # bytes that arrive together

FUNCTION = """
def handler(event, context):
    do = event.get("do") if isinstance(event, dict) else None
    if do == "error":
        raise ValueError("as the event says")
    return stream(event, do) if do in ("stream", "late") else event

async def async_handler(event, context):
    return handler(event, context)

def stream(event, do):
    yield "first,"
    yield str(event.get("n"))
    if do == "late":
        raise ValueError("as the event says")
"""
exec(compile(FUNCTION, "function.py", "exec"))


# ---- answers and how to spoil them


class Answer:
    """An answer in parts: before + start + lines + body + after. `chance` makes the choices."""

    def __init__(self, chance, start, fields, content):
        self.chance, self.content = chance, content
        self.before = self.after = b""
        self.start, self.lines, self.eol = start, [f"{name}: {value}".encode() for name, value in fields], b"\r\n"
        self.frame(chance.choice(["length", "length", "chunked", "close"]))

    def frame(self, framing):
        """Frame the content anew: with its length, in chunks, or up to the end of the connection."""
        self.framing = framing
        self.lines = [line for line in self.lines if not re.match(rb"(?i)content-length|transfer-encoding", line)]
        self.body = self.content
        if framing == "length":
            self.add(b"Content-Length: %d" % len(self.content))
        elif framing == "chunked":
            self.add(b"Transfer-Encoding: chunked")
            self.chunks = cut(self.chance, self.content, 5)
            self.body = b"".join([chunk(piece) for piece in self.chunks]) + b"0\r\n\r\n"
        return self

    def add(self, line):
        self.lines.insert(self.chance.randint(0, len(self.lines)), line)

    def replace(self, name, line):
        """Replace the line of a field; None removes it."""
        kept = [other for other in self.lines if not other.lower().startswith(name + b":")]
        assert len(kept) < len(self.lines), name
        self.lines = kept
        if line is not None:
            self.add(line)

    def value(self, name):
        return next(line.partition(b": ")[2] for line in self.lines if line.lower().startswith(name))

    def head(self):
        return self.eol.join([self.start, *self.lines, b"", b""])

    def wire(self):
        return self.before + self.head() + self.body + self.after


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def cut(chance, data, most):
    """The data in up to `most` pieces, none of them empty."""
    cuts = sorted({chance.randrange(1, len(data)) for _ in range(chance.randrange(most))}) if len(data) > 1 else []
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)]) if start < end]


SAME, BROKEN, BROKEN_NOW, AGAIN = "same", "broken", "broken without a wait for more", "again"
SPOILINGS = []


def spoiling(verdict, only="any", times=4):
    """What must come of it. only="next": it means something else in the answer to a post. times: how often beside others."""

    def register(function):
        SPOILINGS.extend([(function, verdict, only)] * times)
        return function

    return register


@spoiling(SAME)
def nothing_at_all(chance, answer):
    pass


@spoiling(SAME)
def case_of_names(chance, answer):
    def swap(line):
        name, colon, value = line.partition(b":")
        return bytes(byte ^ 32 if chr(byte).isalpha() and chance.random() < 0.5 else byte for byte in name) + colon + value

    answer.lines = [swap(line) for line in answer.lines]


@spoiling(SAME)
def order_of_fields(chance, answer):
    chance.shuffle(answer.lines)


@spoiling(SAME)
def space_around_values(chance, answer):
    space = [b"", b" ", b"\t", b"  \t "]
    parts = [line.partition(b": ") for line in answer.lines]
    answer.lines = [name + b":" + chance.choice(space) + value + chance.choice(space) for name, _, value in parts]


@spoiling(SAME)
def lines_end_in_lf(chance, answer):
    """RFC 9112, 2.2: a recipient may take LF alone for a line's end."""
    answer.eol = b"\n"


@spoiling(SAME)
def folded_field(chance, answer):
    """RFC 9112, 5.2."""
    answer.add(b"X-Folded: one%b%b two" % (answer.eol, chance.choice([b" ", b"\t", b"   "])))


@spoiling(SAME)
def more_fields(chance, answer):
    for number in range(chance.choice([1, 10, 300])):
        answer.add(b"X-%d: %b" % (number, bytes(chance.choices(range(33, 127), k=chance.randrange(50)))))


@spoiling(SAME, times=1)
def long_field(chance, answer):
    answer.add(b"X-Long: " + b"x" * chance.randrange(100_000, 900_000))


@spoiling(SAME)
def bytes_over_127(chance, answer):
    answer.add(b"X-Bytes: " + bytes(chance.choices(range(128, 256), k=20)))


@spoiling(SAME)
def control_characters(chance, answer):
    """RFC 9110, 5.5: "field values containing other CTL characters" may be kept."""
    answer.add(b"X-Control: a%bb" % bytes(chance.choices([*range(1, 9), 11, 12, *range(14, 32), 127], k=3)))


@spoiling(SAME)
def reason_phrase(chance, answer):
    answer.start = answer.start[:12] + chance.choice([b"", b" ", b" \xc3\xa9", b" 500 Nothing"])


@spoiling(SAME)
def answers_that_go_before(chance, answer):
    """RFC 9110, 15.2: a client takes any number of 1xx answers."""
    kinds = [b"100 Continue", b"102 Processing", b"103 Early Hints\r\nLink: </x>", b"199 Odd"]
    kinds.append(b"103 Early Hints\r\nLambda-Runtime-Aws-Request-Id: invented")
    answer.before = b"".join([b"HTTP/1.1 %b\r\n\r\n" % chance.choice(kinds) for _ in range(chance.choice([1, 2, 30]))])


@spoiling(SAME)
def length_said_twice(chance, answer):
    """RFC 9110, 8.6: identical values of Content-Length are one."""
    length = answer.frame("length").value(b"content-length")
    if chance.random() < 0.5:
        answer.add(b"content-length: " + length)
    else:
        answer.replace(b"content-length", b"Content-Length: %b, %b" % (length, length))


@spoiling(SAME)
def length_with_zeros(chance, answer):
    answer.frame("length").replace(b"content-length", b"Content-Length: %010d" % len(answer.content))


@spoiling(SAME)
def chunks_of_all_kinds(chance, answer):
    """RFC 9112, 7.1: extensions, upper case, leading zeros, trailers; and 2.2: LF alone where fields end."""
    answer.frame("chunked")
    sizes = [b"%x", b"%X", b"%08x", b"%x;name=value", b'%x;a;b="; c"', b"%x ;a"]
    answer.body = b"".join([chance.choice(sizes) % len(piece) + b"\r\n" + piece + b"\r\n" for piece in answer.chunks])
    answer.body += chance.choice([b"0", b"000", b"0;last"]) + b"\r\n"
    trailers = chance.choice([b"", b"X-Trailer: 1\r\n", b"Lambda-Runtime-Aws-Request-Id: invented\r\nX: \r\n"]) + b"\r\n"
    answer.body += trailers.replace(b"\r\n", chance.choice([b"\r\n", b"\r\n", b"\n"]))


@spoiling(SAME)
def upper_case_coding(chance, answer):
    answer.frame("chunked").replace(b"transfer-encoding", b"Transfer-Encoding: CHUNKED")


@spoiling(SAME)
def http_1_0(chance, answer):
    answer.frame(chance.choice(["length", "close"])).start = answer.start.replace(b"1.1", b"1.0")


@spoiling(SAME)
def connection_closes(chance, answer):
    answer.add(b"Connection: " + chance.choice([b"close", b"Close", b"keep-alive, close"]))


@spoiling(SAME)
def something_follows(chance, answer):
    """Bytes that come when nothing was asked answer nothing: not even an answer that looks whole."""
    answer.frame(chance.choice(["length", "chunked"]))
    if len(answer.body) < ONE_SEGMENT - 30_000:
        answer.after = chance.choice([b"\r\n", b"\0" * 100, b"x" * 20_000, plain_event("invented", b"{}"), ACCEPTED])


@spoiling(SAME)
def odd_context(chance, answer):
    """Headers that only the context holds cannot make an event unanswerable."""
    name = chance.choice(["Deadline-Ms", "Trace-Id", "Invoked-Function-Arn", "Aws-Tenant-Id"])
    value = chance.choice(["", "0", "-1", "²", "١٢٣", "soon", "1e9", "9" * 30, "é", "%s%n", "a" * 10_000])
    answer.lines = [line for line in answer.lines if name.encode() not in line]
    answer.add(f"Lambda-Runtime-{name}: {value}".encode())


@spoiling(AGAIN)
def no_content(chance, answer):
    answer.start, answer.content = b"HTTP/1.1 204 No Content", b""
    answer.frame(chance.choice(["length", "close"]))
    answer.framing = "none"  # RFC 9112, 6.3: it has no body, whatever its header fields say


@spoiling(BROKEN)
def not_http(chance, answer):
    lines = [b"", b"HTTP", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 2", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1  200 OK"]
    lines += [b"http/1.1 200 OK", b"HTTP/1.1 -20 OK", b"HTTP/1.1 2\xc2\xb20 OK", b"HTTP/1.1 \xd9\xa2\xd9\xa0\xd9\xa0 OK", b"ICY 200 OK"]
    lines += [b"HTTP/1.1\t200 OK", b" HTTP/1.1 200 OK", b"HTTP/1.1 0x2 OK", b"HTTP/1.1 099 OK", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1"]
    lines += [b"HTTP/1.1 2 0 OK", b"HTTP/11 200 OK", b"HTTP/1,1 200 OK", b"XHTTP/1.1 200 OK", b"HTTP/1.1 +20 OK", b"HTTP/1.1 200OK"]
    answer.start = chance.choice(lines)


@spoiling(BROKEN)
def other_versions(chance, answer):
    """The runtime speaks 1.1 and understands 1.0; what comes after it nobody can know."""
    answer.start = answer.start.replace(b"1.1", chance.choice([b"2.0", b"1.2", b"0.9", b"9.9", b"1.x"]))


@spoiling(BROKEN)
def switching_protocols(chance, answer):
    """Nobody asked to (RFC 9110, 15.2.2)."""
    answer.before = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"


@spoiling(BROKEN)
def bad_lengths(chance, answer):
    """RFC 9112, 6.3: an invalid Content-Length is an unrecoverable error."""
    lengths = [b"", b"-1", b"+5", b"0x5", b"5.0", b"1e1", b"five", b"5 5", b"5,", b",5", b"5;", b"5, 6", b"\xd9\xa5", b"\xc2\xb2", b"1_0"]
    answer.frame("length").replace(b"content-length", b"Content-Length: " + chance.choice(lengths))


@spoiling(BROKEN)
def lengths_that_differ(chance, answer):
    answer.frame("length").add(b"Content-Length: %d" % chance.choice([0, len(answer.content) + 1, 10**9]))


@spoiling(BROKEN_NOW)
def gigabytes(chance, answer):
    """More than any event has: refused at once, and no memory taken for it."""
    size = chance.choice([LARGEST_BODY + 1, 1 << 31, 1 << 32, 1 << 63, 10**19, 10**25])
    if chance.random() < 0.5:
        answer.frame("length").replace(b"content-length", b"Content-Length: %d" % size)
    else:
        answer.frame("chunked").body = b"%x\r\n%b" % (size, answer.content)


@spoiling(BROKEN)
def length_and_coding(chance, answer):
    """RFC 9112, 6.3: such a message "ought to be handled as an error"."""
    answer.frame("chunked").add(b"Content-Length: %d" % chance.choice([0, len(answer.content), len(answer.body)]))


@spoiling(BROKEN)
def unknown_codings(chance, answer):
    values = [b"", b"gzip", b"identity", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"xchunked", b"chunked;q=1"]
    answer.frame("chunked").replace(b"transfer-encoding", b"Transfer-Encoding: " + chance.choice(values))


@spoiling(BROKEN)
def coding_said_twice(chance, answer):
    answer.frame("chunked").add(b"Transfer-Encoding: " + chance.choice([b"chunked", b"gzip"]))


@spoiling(BROKEN)
def bad_chunk_sizes(chance, answer):
    """All of these at the place of the first chunk's size."""
    answer.frame("chunked")
    size = b"%x" % (len(answer.chunks[0]) if answer.chunks else 0)
    bad = [b"", b"-" + size, b"+" + size, b"0x" + size, b" " + size, b"x", b"\xd9\xa1", size + b"_", b";" + size, size + b"\0", b"0" * 99 + size]
    answer.body = chance.choice(bad) + answer.body[len(size) :]


@spoiling(BROKEN)
def chunk_longer_or_shorter(chance, answer):
    answer.frame("chunked")
    answer.chunks = answer.chunks or [b"x"]
    number = chance.randrange(len(answer.chunks))
    sizes = [len(piece) for piece in answer.chunks]
    sizes[number] += chance.choice([-1, 1]) if sizes[number] > 1 else 1
    answer.body = b"".join([b"%x\r\n%b\r\n" % parts for parts in zip(sizes, answer.chunks)]) + b"0\r\n\r\n"


@spoiling(BROKEN)
def no_line_break_after_chunk(chance, answer):
    answer.frame("chunked")
    pieces = [chunk(piece) for piece in answer.chunks] or [chunk(b"x")]
    number = chance.randrange(len(pieces))
    pieces[number] = pieces[number][:-2] + chance.choice([b"\n\n", b"\r\r", b"xx", b"\n\r"])
    answer.body = b"".join(pieces) + b"0\r\n\r\n"


@spoiling(BROKEN)
def bad_trailers(chance, answer):
    trailers = [b"no colon", b"Name : x", b": x", b"a b: x", b"X: \0", b"X: a\rb"]
    answer.frame("chunked").body = answer.body[:-2] + chance.choice(trailers) + b"\r\n\r\n"


@spoiling(BROKEN)
def bad_field_names(chance, answer):
    answer.add(chance.choice([b"no colon", b"Name : x", b": x", b"a b: x", b"\xc3\xa9: x", b"a(b): x", b"a\0b: x", b"\x7f: x", b"a\x01: x", b'"a": x']))


@spoiling(BROKEN)
def nul_or_bare_cr(chance, answer):
    """RFC 9110, 5.5: "invalid and dangerous"."""
    answer.add(chance.choice([b"X: a\0b", b"X: \0", b"X: a\rb", b"X: a\r", b"\rX: a", b"X: a\rLambda-Runtime-Aws-Request-Id: invented"]))


@spoiling(BROKEN, times=1)
def endless_head(chance, answer):
    size = LARGEST_HEAD + 2 * HEAD_SLACK
    if chance.random() < 0.5:
        answer.add(b"X-Long: " + b"x" * size)
    else:
        answer.lines += [b"X-%d: %b" % (number, b"x" * 5000) for number in range(size // 5000)]


@spoiling(BROKEN, times=16)
def cut_off(chance, answer):
    """Anywhere but where the rest would not be missed."""
    answer.frame(chance.choice(["length", "chunked"]))
    whole = answer.wire()
    whole = whole[: chance.randrange(1, len(whole))] if chance.random() < 0.7 else whole[: -chance.randrange(1, 8)]
    answer.before, answer.start, answer.lines, answer.eol, answer.body = whole, b"", [], b"", b""


@spoiling(BROKEN, only="next")
def no_request_id(chance, answer):
    name = b"lambda-runtime-aws-request-id"
    answer.replace(name, chance.choice([None, b"Lambda-Runtime-Aws-Request-Id:", b"Lambda-Runtime-Aws-Request-Id: \t", b"Request-Id: x"]))


@spoiling(BROKEN, only="next")
def another_status(chance, answer):
    answer.start = b"HTTP/1.1 %d X" % chance.choice([201, 202, 206, 301, 304, 400, 403, 404, 410, 413, 429, 500, 502, 503, 599, 999])


@spoiling(BROKEN, only="post")
def container_error(chance, answer):
    answer.start = b"HTTP/1.1 %d X" % chance.choice([500, 502, 503, 599])


@spoiling(SAME, only="post")
def refusal(chance, answer):
    answer.start = b"HTTP/1.1 %d X" % chance.choice([200, 201, 300, 308, 400, 403, 404, 413, 429])


def flip_bytes(chance, wire):
    """Bytes changed, lost, doubled, moved or put in, mostly in the head."""
    tokens = [b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\t", b",", b"0\r\n\r\n", b"\r\n\r\n", b"\xff", b"\x0b"]
    tokens += [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204\r\n\r\n"]
    for _ in range(chance.choice([1, 1, 2, 5])):
        at = chance.randrange(min(len(wire), chance.choice([20, 500, 10**9])) + 1)
        end = at + chance.choice([0, 1, 1, 2, 10, 100])
        action = chance.randrange(5)
        if action == 0:
            wire = wire[:at] + bytes([chance.randrange(256)]) + wire[at + 1 :]
        elif action == 1:
            wire = wire[:at] + wire[end:]
        elif action == 2:
            wire = wire[:end] + wire[at:]
        elif action == 3:
            wire = wire[:at] + chance.choice(tokens) + wire[at:]
        else:
            wire = wire[:at] + wire[end : end + 10] + wire[at:end] + wire[end + 10 :]
    return wire


# ---- h11's judgement, and where the runtime differs from it


def soften(wire):
    """The wire as h11 would have to see it to be as lenient as the runtime.

    Control characters in values and in the reason phrase may be kept (RFC 9110, 5.5; never NUL and CR): here
    they become question marks. A folded line is joined, after the status line too (RFC 9112, 2.2 and 5.2).
    The length of an answer that has no body by its status is not looked at (RFC 9112, 6.3, rule 1).
    There may be space before a chunk extension (RFC 9112, 7.1.1: "a recipient MUST parse" it).
    """
    heads, rest = split_heads(wire)
    for number, head in enumerate(heads):
        lines = re.sub(rb"\r?\n[ \t]", b" ", head).split(b"\n")
        if re.match(rb"HTTP/1\.[01] (1..|204|304)", head):
            lines = [line for line in lines if not re.fullmatch(rb"(?i)(content-length|transfer-encoding):[^\r\0]*\r?", line)]
        for at, line in enumerate(lines):
            start = line.find(b":") if at else 12
            if start > 0:
                lines[at] = line[:start] + re.sub(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]", b"?", line[start:])
        heads[number] = b"\n".join(lines)
    if heads and re.search(rb"(?im)^transfer-encoding:", heads[-1]):
        rest = re.sub(rb"(?im)^([0-9a-f]+)[ \t]+;", rb"\1;", rest)
    return b"".join(heads) + rest


def split_heads(wire):
    """The heads at the beginning, all but the last of 1xx answers, and what follows."""
    heads = []
    while not heads or re.match(rb"HTTP/1\.[01] 1", heads[-1]):
        end = re.search(rb"\n\r?\n", wire)
        if not end:
            break
        heads.append(wire[: end.end()])
        wire = wire[end.end() :]
    return heads, wire


def refused(response, heads):
    """Whether the runtime refuses what is well-formed: True, False, or None where either will do."""
    fields = dict(response.headers)
    if response.http_version not in (b"1.0", b"1.1") or response.status_code == 101:
        return True
    if b"transfer-encoding" in fields and b"content-length" in fields and response.status_code not in (204, 304):
        return True
    if int(fields.get(b"content-length", 0)) > LARGEST_BODY:
        return True
    largest = max(map(len, heads))
    return None if LARGEST_HEAD < largest <= LARGEST_HEAD + HEAD_SLACK else largest > LARGEST_HEAD


class Verdict:
    """What may come of an answer: `outcomes` out of AGAIN, BROKEN, "nothing" and "whole"; and what it says if whole."""

    def __init__(self, *outcomes, status=0, fields=(), body=b"", needs_end=True, follows=b""):
        self.outcomes, self.status, self.fields, self.body = set(outcomes), status, dict(fields), body
        self.needs_end = needs_end  # only the end of the connection tells
        self.follows = follows  # bytes that are no part of it

    def __repr__(self):
        return f"{' or '.join(sorted(self.outcomes))} {self.status} {self.body[:100]!r}{' at the end' if self.needs_end else ''}"


def judge(wire, method):
    import h11

    soft = soften(wire)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=10_000_000)
    headers = [("Host", "x")] + [("Content-Length", "0")] * (method == "POST")
    connection.send(h11.Request(method=method, target="/", headers=headers))
    connection.send(h11.EndOfMessage())
    connection.receive_data(soft)
    heads, response, body, ended = split_heads(wire)[0], None, b"", False
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(b"")
                ended = True
            elif isinstance(event, h11.InformationalResponse):
                if event.http_version not in (b"1.0", b"1.1") or event.status_code == 101:
                    return Verdict(BROKEN)
            elif isinstance(event, h11.Response):
                response = event
                if refused(response, heads):
                    return Verdict(BROKEN)
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                outcomes = {"whole"} if refused(response, heads) is False else {"whole", BROKEN}
                fields = {}
                for name, value in response.headers:  # a field that comes twice is a list (RFC 9110, 5.3)
                    fields[name] = fields[name] + b", " + value if name in fields else value
                follows = connection.trailing_data[0]
                return Verdict(*outcomes, status=response.status_code, fields=fields, body=body, needs_end=ended, follows=follows)
            else:
                return Verdict(BROKEN)
    except h11.RemoteProtocolError:
        return Verdict(BROKEN)


# ---- runtimes


class Sipping(_socket.socket):
    """A socket that receives and sends a few bytes at a time, at first: segmentation as bad as it can be."""

    sip, sips = 1, 400

    def some(self):
        Sipping.sips -= 1
        return Sipping.sip if Sipping.sips > 0 else 1 << 30

    def recv(self, size, flags=0):
        return super().recv(min(size, self.some()), flags)

    def recv_into(self, buffer, size=0, flags=0):
        return super().recv_into(buffer, min(size or len(buffer), self.some()), flags & ~_socket.MSG_WAITALL)

    def sendmsg(self, parts, ancillary=(), flags=0):
        return super().sendmsg([memoryview(part)[: self.some()] for part in parts][:1], ancillary, flags)


# The runtime tells the kernel's errors from those of signal handlers by whose code is on top: these stand for the kernel.
for name in "recv", "recv_into", "sendmsg":
    method = getattr(Sipping, name)
    setattr(Sipping, name, types.FunctionType(method.__code__, vars(runtime), name, method.__defaults__, method.__closure__))


def fork(api, handler, sip):
    """A runtime in a fork of this process, through `runtime.run()`."""
    api.forget()
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return api.attach(Process(pid, read))
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(write, 2)
        os.closerange(3, 100)
        os.environ["AWS_LAMBDA_RUNTIME_API"] = api.address
        if sip:
            Sipping.sip = sip
            _socket.socket = Sipping
        try:
            runtime.run(handler)
        except SystemExit as exit:
            status = exit.code
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    os._exit(status)


class Failure(Exception):
    pass


class Received:
    """A socket on which all has come that will come."""

    def __init__(self):
        self.rest = b""

    def recv(self, size):
        data, self.rest = self.rest[:size], self.rest[size:]
        return data

    def recv_into(self, buffer, size=0, flags=0):
        data = self.recv(size or len(buffer))
        buffer[: len(data)] = data
        return len(data)


def compare_parsers(wire):
    """Whether the quick parser takes a whole answer; Failure if the strict one would refuse it, or find something else.

    The strict one comes first, so that the quick one knows all names that ever were sound: here, and in the forks.
    """
    connection = runtime._Connection("127.0.0.1:1")
    connection.sock = Received()
    try:
        strict = runtime._run_blocking(connection.read_reply(wire))
    except runtime._ApiError as error:
        strict = error
    usual = runtime._parse_usual_head(wire)
    if usual is None or len(wire) > runtime._RECEIVE:  # never does so much arrive at once
        return False
    status, headers, rest = usual
    try:
        head = runtime._parse_head(runtime._run_blocking(connection._take_lines(bytearray(wire))))
    except runtime._ApiError as error:
        head = error
    if head != (status, True, headers):
        raise Failure(f"the quick parser takes {usual}, the strict one {head}")
    body = runtime._take_usual_body(headers, rest)
    if body is not None and (strict != (status, headers, body) or not connection.is_usable):
        raise Failure(f"the quick parser takes {body!r}, the strict one {strict}, is_usable={connection.is_usable}")
    return body is not None


class Fuzzer:
    def __init__(self, seed, with_h11):
        self.seed, self.with_h11 = seed, with_h11
        self.api = RawApi()
        self.process, self.polling, self.sip = None, False, 0
        self.folder = tempfile.TemporaryDirectory()
        Path(self.folder.name, "function.py").write_text(FUNCTION)
        self.counts = dict.fromkeys(["events answered", "asked again", "posts accepted", "refused", "sent again", "taken by the quick parser"], 0)
        self.starts = 0

    def close(self):
        self.stop()
        self.api.__exit__()
        self.folder.cleanup()

    def stop(self):
        if self.process:
            self.process.close()
        self.process, self.polling = None, False

    def start(self, chance, number, may_sip):
        self.starts += 1
        self.started = number
        name = chance.choice(["handler", "async_handler"])
        self.sip = chance.choice([0, 1, 2, 7, 100]) if may_sip and number % REAL else 0
        if number % REAL == 0:
            self.process = self.api.start(self.folder.name, "function." + name)
        else:
            self.process = fork(self.api, globals()[name], self.sip)

    def case(self, number):
        """Run one case; Failure says what went wrong."""
        chance = random.Random(f"{self.seed} {number}")
        self.did = []
        target = chance.choice(["next"] * 6 + ["value", "error", "stream", "late"])
        try:
            answer = event_answer(chance, number) if target == "next" else Answer(chance, b"HTTP/1.1 202 Accepted", [], b'{"status":"OK"}')
            wire, verdict = self.spoil(chance, answer, "GET" if target == "next" else "POST")
            self.counts["taken by the quick parser"] += compare_parsers(wire)
            if verdict.follows and self.sip:
                self.stop()  # who sips stops where the answer ends, and cannot know what follows
            if self.process is None:
                self.start(chance, number, may_sip=not verdict.follows)
            self.process.read()
            self.process.errors = b""
            if not self.polling:
                self.expect("next")
            if target == "next":
                self.answer_next(chance, wire, verdict)
            else:
                self.answer_post(chance, number, target, wire, verdict)
            if self.process.status is not None:
                self.stop()
            else:
                self.process.read()
                self.check_lines(self.process.errors)
        except (Failure, AssertionError) as error:
            self.stop()
            raise Failure(
                f"case {number}: {error}\n    " + "\n    ".join(self.did) +
                f"\n    again: make fuzz SEED={self.seed} FIRST={self.started} CASES={number - self.started + 1}"
            ) from None

    def expect(self, kind):
        request = self.api.request()
        if request is None or request.kind != kind:
            raise Failure(f"{kind} expected, not {request or self.how_it_ended()}")
        self.polling = kind == "next"
        return request

    def how_it_ended(self):
        return f"an end with status {self.process.status}, stderr {self.process.errors.decode(errors='replace')[-1500:]!r}"

    def check_lines(self, errors):
        for line in errors.splitlines():
            if not line.startswith(b"runtime: "):
                raise Failure(f"stderr {errors.decode(errors='replace')[-1500:]!r}")

    def check_end(self):
        """The process ends with one line and a status that is not 0."""
        if self.process.status != 1 or self.process.errors.count(b"\n") != 1:
            raise Failure(f"one line and status 1 expected, not {self.how_it_ended()}")
        self.check_lines(self.process.errors)

    def spoil(self, chance, answer, method):
        """The spoilt answer's bytes and the verdict on them."""
        choices = [each for each in SPOILINGS if each[2] in ("any", "next" if method == "GET" else "post")]
        if self.with_h11 and chance.random() < 0.5:
            for function, _, _ in chance.choices(choices, k=chance.choice([1, 2, 2, 3])):
                if function is not cut_off:  # for it nothing remains to spoil
                    self.did.append(function.__name__)
                    try:
                        function(chance, answer)
                    except (AssertionError, StopIteration):  # what it would change is no longer there
                        self.did[-1] += " (not possible)"
            wire = answer.wire()
            if chance.random() < 0.6:
                self.did.append("flip_bytes")
                wire = flip_bytes(chance, wire)
            verdict = judge(wire, method) if wire else Verdict("nothing")
            if verdict.follows and len(wire) > ONE_SEGMENT:
                wire, verdict.follows = wire[: -len(verdict.follows)], b""
            return wire, verdict
        if chance.random() < 0.03:
            self.did.append("closed without an answer")
            return b"", Verdict("nothing")
        function, verdict, _ = chance.choice(choices)
        self.did.append(function.__name__)
        fields = headers_of(answer)
        function(chance, answer)
        wire = answer.wire()
        needs_end = answer.framing == "close" or verdict == BROKEN
        status = int(answer.start[9:12]) if verdict in (SAME, AGAIN) else 0
        mine = Verdict(BROKEN if verdict in (BROKEN, BROKEN_NOW) else "whole", status=status, needs_end=needs_end)
        mine.fields, mine.body, mine.follows = fields, b"" if verdict == AGAIN else answer.content, answer.after
        if self.with_h11:
            other = judge(wire, method)
            if function in (no_request_id, another_status, container_error):
                pass  # well-formed, and refused for what it says
            elif mine.outcomes != other.outcomes or "whole" in mine.outcomes and (mine.status, mine.body) != (other.status, other.body):
                raise Failure(f"the judges disagree: {mine}; h11: {other}; {wire[:800]!r}")
        return wire, mine

    def serve(self, chance, wire, verdict):
        """Send an answer in pieces, and say that it ends where the runtime may have to know."""
        self.did.append(f"{verdict}; {len(wire)} bytes: {wire[:800]!r}")
        self.polling = False
        pieces = [wire]
        if not verdict.follows:  # or what follows might come after the runtime's next request, and look like its answer
            if chance.random() < 0.4:
                pieces = cut(chance, wire, 6)
            elif len(wire) < 500 and chance.random() < 0.1:
                pieces = [bytes([byte]) for byte in wire]
        self.api.send(*pieces)
        if verdict.needs_end:
            if verdict.outcomes == {BROKEN} and chance.random() < 0.3:
                self.api.hang_up(reset=True)
            elif "nothing" in verdict.outcomes:
                self.api.hang_up()
            else:
                self.api.end()

    def answer_next(self, chance, wire, verdict):
        kept, connected = self.api.used, self.api.connected
        self.serve(chance, wire, verdict)
        if verdict.outcomes == {"nothing"}:
            # A kept connection may have been closed while it was idle: asked once more, on another.
            request = self.api.request()
            if request is None:
                if kept:
                    raise Failure(f"asked again expected, not {self.how_it_ended()}")
                self.check_end()
            elif request.kind != "next":
                raise Failure(f"nothing was said, and the answer is {request}")
            self.polling = request is not None
            self.counts["sent again"] += 1
            return
        if "whole" in verdict.outcomes:
            if verdict.status == 204:
                verdict.outcomes = verdict.outcomes - {"whole"} | {AGAIN}
            elif verdict.status != 200 or not verdict.fields.get(b"lambda-runtime-aws-request-id"):
                verdict.outcomes = {BROKEN}
        request = self.api.request()
        if request is None:
            if BROKEN not in verdict.outcomes:
                raise Failure(f"{verdict} expected, not {self.how_it_ended()}")
            self.check_end()
            self.counts["refused"] += 1
        elif request.kind == "next":
            if AGAIN not in verdict.outcomes:
                raise Failure(f"{verdict} expected, and it asks again")
            self.polling = True
            self.counts["asked again"] += 1
        elif "whole" not in verdict.outcomes:
            raise Failure(f"{verdict} expected, not {request}")
        else:
            check_answer(request, verdict.fields, verdict.body)
            if verdict.follows and self.api.connected == connected:
                raise Failure("the connection is used again, on which too much had come")
            self.api.send(ACCEPTED)
            self.expect("next")
            self.counts["events answered"] += 1

    def answer_post(self, chance, number, target, wire, verdict):
        request_id, event = f"case-{number}", {"do": target, "n": number}
        self.polling = False
        self.api.send(plain_event(request_id, json.dumps(event).encode()))
        first = self.expect("error" if target == "error" else "response")
        fields = {b"lambda-runtime-aws-request-id": request_id.encode(), b"content-type": b"application/json"}
        check_answer(first, fields, json.dumps(event).encode())
        self.serve(chance, wire, verdict)
        request = self.api.request()
        if verdict.outcomes == {"nothing"} and target in ("value", "error"):
            if request is None or (request.path, request.body) != (first.path, first.body):
                raise Failure(f"the same post expected again, not {request or self.how_it_ended()}")
            self.counts["sent again"] += 1
            self.api.send(ACCEPTED)
            self.expect("next")
            return
        if "whole" in verdict.outcomes and verdict.status >= 500:
            verdict.outcomes = {BROKEN}
        if request is None:
            if BROKEN not in verdict.outcomes:
                raise Failure(f"{verdict} expected, not {self.how_it_ended()}")
            self.check_end()
            self.counts["refused"] += 1
        elif request.kind != "next" or verdict.outcomes == {BROKEN}:
            raise Failure(f"{verdict} expected, not {request}")
        else:
            self.polling = True
            self.counts["posts accepted"] += 1


def event_answer(chance, number):
    """A whole answer to `next`, with an event for FUNCTION."""
    request_id = f"case-{number}-{chance.randrange(10**6)}"
    event = {"do": chance.choice(["value", "value", "error", "stream", "late"]), "n": number}
    event["text"] = "é\"\\\n\u2028x"[: chance.randrange(7)] * chance.choice([1, 1, 1, 10, 10, 10, 30_000])
    body = json.dumps(event if chance.random() < 0.9 else [event], ensure_ascii=False).encode()
    fields = [
        ("Content-Type", chance.choice(["application/json", "application/json", "Application/JSON; charset=utf-8", "text/plain"])),
        ("Lambda-Runtime-Aws-Request-Id", request_id),
        ("Lambda-Runtime-Deadline-Ms", "4102444800000"),
        ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:function"),
        ("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"),
    ]
    if chance.random() < 0.3:
        fields.append(("Lambda-Runtime-Invocation-Id", "invocation-" + request_id))
    return Answer(chance, b"HTTP/1.1 200 OK", fields, body)


def headers_of(answer):
    parts = [line.partition(b": ") for line in answer.lines]
    return {name.lower(): value for name, _, value in parts}


def check_answer(request, fields, body):
    """Whether the post answers that event, as FUNCTION must."""

    def mark(data):
        return re.sub(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]", b"?", data)

    got = mark(urllib.parse.unquote_to_bytes(request.request_id))
    if got != fields[b"lambda-runtime-aws-request-id"]:
        raise Failure(f"an answer to {fields[b'lambda-runtime-aws-request-id']} expected, not to {got}: {request}")
    invocation_id = fields.get(b"lambda-runtime-invocation-id", b"")
    if re.fullmatch(rb"[!->@-~]+", invocation_id) and request.headers.get("lambda-runtime-invocation-id") != invocation_id.decode():
        raise Failure(f"invocation id {invocation_id} expected, not {request.headers}")
    content_type = fields.get(b"content-type")
    if content_type is not None and content_type.partition(b";")[0].rstrip().lower() != b"application/json":
        event = body
    else:
        try:
            event = json.loads(body.decode().strip("\ufeff \t\r\n"), parse_constant=int)
        except ValueError:
            event = None
            if request.headers.get("lambda-runtime-function-error-type") != "Runtime.UnmarshalError":
                raise Failure(f"Runtime.UnmarshalError expected, not {request}") from None
            return
    do = event.get("do") if isinstance(event, dict) else None
    if do == "error":
        right = request.kind == "error" and json.loads(request.body)["errorType"] == "ValueError"
    elif do in ("stream", "late"):
        right = request.kind == "response" and request.body == f"first,{event.get('n')}".encode()
        right = right and ("lambda-runtime-function-error-type" in request.trailers) == (do == "late")
    else:
        right = request.kind == "response"
        right = right and (request.body == event if isinstance(event, bytes) else json.loads(request.body) == event)
    if not right:
        raise Failure(f"an answer to the event {str(event)[:200]!r} expected, not {request}")


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--h11", action="store_true", help="ask h11 too, and heap spoilings on each other")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    began, done, failures = time.monotonic(), 0, 0
    fuzzer = Fuzzer(options.seed, options.h11)
    try:
        for done in range(1, options.cases + 1):
            try:
                fuzzer.case(options.first + done - 1)
            except Failure as failure:
                failures += 1
                print(failure, flush=True)
                if failures == 5:
                    break
    finally:
        fuzzer.close()
    counts = ", ".join(f"{count} {what}" for what, count in fuzzer.counts.items())
    print(f"{done} cases in {time.monotonic() - began:.0f} s, {fuzzer.starts} processes: {counts}; {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    exit_with(main, sys.argv[1:])
