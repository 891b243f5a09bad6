"""The Runtime API of the Lambda in miniature: it judges the runtime in all other tests, so it must notice what is wrong."""

import socket
import time
import unittest

from miniature import Fault, Lambda

BASE = b"/2018-06-01/runtime/"
NEXT = b"GET " + BASE + b"invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"


def post(path, headers, body):
    return b"POST " + BASE + path + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n" + body


class Client:
    """A runtime that the test plays itself, byte by byte."""

    def __init__(self, aws):
        host, port = aws.address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The next answer: (status, headers in lower case, body); None at the end of the connection."""
        line = self.file.readline()
        if not line:
            return None
        headers = {}
        for field in iter(self.file.readline, b"\r\n"):
            name, value = field.decode().split(":", 1)
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers, self.file.read(int(headers.get("content-length", 0)))

    def ask(self, data):
        self.send(data)
        return self.receive()


class RuntimeApi(unittest.TestCase):
    def api(self):
        return Lambda(".", start=False)

    def test_an_invocation(self):
        with self.api() as aws, Client(aws) as client:
            request_id = aws.send({"k": 1}, headers={"Lambda-Runtime-Trace-Id": None, "content-type": "text/x", "X": "é"})
            status, headers, body = client.ask(NEXT)
            self.assertEqual((status, body), (200, b'{"k": 1}'))
            self.assertEqual(headers["lambda-runtime-aws-request-id"], request_id)
            self.assertEqual(headers["content-type"], "text/x")
            self.assertEqual(headers["x"], "é")
            self.assertNotIn("lambda-runtime-trace-id", headers)
            path = f"invocation/{request_id}/response".encode()
            self.assertEqual(client.ask(post(path, b"Content-Length: 2\r\n", b"42"))[0], 202)
            self.assertEqual(aws.answer(request_id).json, 42)
            self.assertEqual(client.ask(post(path, b"Content-Length: 2\r\n", b"43"))[0], 403)
            self.assertEqual(aws.answer(request_id).json, 42)
            self.assertEqual(client.ask(post(b"invocation/other/error", b"Content-Length: 0\r\n", b""))[0], 400)

    def test_what_is_not_http_or_not_the_api_fails_the_test(self):
        length, chunked = b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"
        for data in (
            NEXT.replace(b"HTTP/1.1", b"HTTP/1.0"),
            NEXT.replace(b"Host: x", b"Host : x"),
            NEXT.replace(b"Host: x\r\n", b""),
            NEXT.replace(b"Host: x\r\n", b"Host: x\n"),
            NEXT.replace(b"Host: x", b"Host: x\r\n folded"),
            NEXT.replace(b"Host: x", b"Host: \x00"),
            NEXT.replace(b"Host: x", b"Host: x\rInjected: y"),
            NEXT.replace(b"next", b"previous"),
            NEXT.replace(b"GET", b"POST"),
            post(b"init/error", b"", b""),
            post(b"init/error", length + length, b""),
            post(b"init/error", length + chunked, b"0\r\n\r\n"),
            post(b"init/error", b"Content-Length: +1\r\n", b"x"),
            post(b"init/error", chunked, b"1 \r\nx\r\n0\r\n\r\n"),
            post(b"init/error", chunked, b"1\r\nxyz0\r\n\r\n"),
            post(b"init/error", chunked, b"0\r\nTrailing: unannounced\r\n\r\n"),
        ):
            with self.subTest(data), self.assertRaisesRegex(AssertionError, "not of the Runtime API"):
                with self.api() as aws, Client(aws) as client:
                    self.assertEqual(client.ask(data)[0], 400)

    def test_a_header_of_a_megabyte(self):
        with self.api() as aws, Client(aws) as client:
            cause = b"x" * 1_000_000
            client.ask(post(b"init/error", b"Content-Length: 2\r\nLambda-Runtime-Function-XRay-Error-Cause: " + cause + b"\r\n", b"{}"))
            self.assertEqual(len(aws.init_error.headers["lambda-runtime-function-xray-error-cause"]), 1_000_000)

    def test_a_stream_is_recorded_as_it_arrives(self):
        headers = b"Transfer-Encoding: chunked\r\nTrailer: A, B\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n"
        with self.api() as aws, Client(aws) as client:
            request_id = aws.send()
            client.ask(NEXT)
            client.send(post(f"invocation/{request_id}/response".encode(), headers, b"1\r\na\r\n"))
            answer = aws.answer(request_id, whole=False)
            self.assertEqual(answer.wait_chunks(1), [b"a"])
            self.assertTrue(answer.streaming)
            self.assertFalse(answer.done)
            before = time.monotonic()
            client.send(b"2\r\nbc\r\n0\r\nB: end\r\n\r\n")
            self.assertEqual(b"".join(answer.stream()), b"abc")
            self.assertEqual(client.receive()[0], 202)
            self.assertEqual([data for _, data in answer.chunks], [b"a", b"bc"])
            self.assertTrue(answer.complete)
            self.assertGreaterEqual(answer.ended, before)
            self.assertEqual(dict(answer.trailers), {"B": "end"})

    def test_a_stream_that_is_cut(self):
        with self.api() as aws:
            with Client(aws) as client:
                request_id = aws.send()
                client.ask(NEXT)
                client.send(post(f"invocation/{request_id}/response".encode(), b"Transfer-Encoding: chunked\r\n", b"2\r\na"))
            answer = aws.answer(request_id)
            self.assertTrue(answer.done)
            self.assertFalse(answer.complete)

    def test_a_stream_that_an_error_has_outrun(self):
        with self.api() as aws, Client(aws) as client, Client(aws) as other:
            request_id = aws.send()
            client.ask(NEXT)
            path = f"invocation/{request_id}/".encode()
            other.send(post(path + b"error", b"Content-Length: 2\r\n", b"{"))
            aws.wait_for(lambda: request_id in aws.posts)
            client.send(post(path + b"response", b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n"))
            aws.wait_for(lambda: aws.requests[-1].chunks)
            other.send(b"}")
            self.assertEqual((other.receive()[0], aws.answer(request_id).kind), (202, "error"))
            client.send(b"0\r\n\r\n")
            self.assertEqual(client.receive()[0], 403)

    def test_of_two_posts_at_once_one_is_taken(self):
        with self.api() as aws, Client(aws) as client, Client(aws) as other:
            request_id = aws.send()
            client.ask(NEXT)
            path = f"invocation/{request_id}/".encode()
            client.send(post(path + b"response", b"Content-Length: 2\r\n", b"4"))
            aws.wait_for(lambda: request_id in aws.posts)
            self.assertEqual(other.ask(post(path + b"error", b"Content-Length: 2\r\n", b"{}"))[0], 202)
            client.send(b"2")
            self.assertEqual((client.receive()[0], aws.answer(request_id).kind), (403, "error"))

    def test_faults(self):
        with self.api() as aws, Client(aws) as client:
            client.send(NEXT)
            aws.wait_for_next()
            aws.answers("next", 204, 500)
            self.assertEqual([client.receive()[0], client.ask(NEXT)[0]], [204, 500])
            aws.answers("next", Fault(close=True))
            request_id = aws.send()
            self.assertEqual(client.ask(NEXT)[1]["connection"], "close")
            self.assertIsNone(client.receive())
            path, length = f"invocation/{request_id}/response".encode(), b"Content-Length: 1\r\n"
            aws.answers("response", Fault(0), Fault(0, taken=True))
            for body in (b"1", b"2"):
                with Client(aws) as other:
                    self.assertIsNone(other.ask(post(path, length, body)))
            with Client(aws) as other:
                aws.answers("response", 204, None)
                other.send(post(path, length, b"3") * 2)
                self.assertEqual([other.receive()[0], other.receive()[0]], [204, 403])  # no body is between them
            self.assertEqual(aws.answer(request_id).json, 2)

    def test_hanging_up_on_a_stream(self):
        with self.api() as aws, Client(aws) as client:
            request_id = aws.send()
            client.ask(NEXT)
            aws.answers("response", Fault(0, after=1))
            chunked = post(f"invocation/{request_id}/response".encode(), b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n")
            self.assertIsNone(client.ask(chunked))
            self.assertFalse(aws.answer(request_id).complete)

    def test_an_event_goes_over_the_wire_as_the_test_wants(self):
        with self.api() as aws, Client(aws) as client:
            aws.send({}, wire=lambda fields, body: [b"HTTP/1.1 200 OK\r\n", b"content-length:2\r\n\r\n" + body, None])
            self.assertEqual(client.ask(NEXT), (200, {"content-length": "2"}, b"{}"))
            self.assertIsNone(client.receive())

    def test_a_poll_whose_process_has_gone_gets_no_event(self):
        with self.api() as aws, Client(aws) as alive:
            with Client(aws) as dead:
                dead.send(NEXT)
                aws.wait_for_next()
            aws.send()
            self.assertEqual(alive.ask(NEXT)[0], 200)

    def test_restore(self):
        with self.api() as aws, Client(aws) as client:
            client.send(b"GET " + BASE + b"restore/next HTTP/1.1\r\nHost: x\r\n\r\n")
            aws.restore()
            self.assertEqual(client.receive()[0], 200)

    def test_extensions(self):
        register = b"POST /2020-01-01/extension/register HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n%s\r\n{}"
        event = b"GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: x\r\nLambda-Extension-Identifier: %s\r\n\r\n"
        with self.api() as aws, Client(aws) as client, Client(aws) as extension:
            self.assertEqual(extension.ask(register % b"")[0], 403)
            self.assertEqual(extension.ask(event % b"unheard of")[0], 403)
            status, headers, _ = extension.ask(register % b"Lambda-Extension-Name: x\r\n")
            self.assertEqual(status, 200)
            extension.send(event % headers["lambda-extension-identifier"].encode())  # never answered
            aws.send()
            client.ask(NEXT)
            self.assertEqual(client.ask(register % b"Lambda-Extension-Name: y\r\n")[0], 403)


if __name__ == "__main__":
    unittest.main()
