"""asgi() and wsgi() with real frameworks, beside real servers: whatever the front end, clients get what they get of those.

    one request -> event of a front end -> bootstrap -> its answer -> status, headers, body
                -> uvicorn or wsgiref                              -> status, headers, body
"""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import sys
import unittest

import mcp

import test_cargo_lambda
from emulator import BOOTSTRAP, Emulator, Program, free_port
from handlers import test_web as web
from miniature import REPO, SPLIT, Fault, Lambda, function

HOST = web.HOST["function URL"]
HEADERS = {"host": HOST, "cookie": "; ".join(web.COOKIES), "x-forwarded-proto": "https"}
QUERY = "x=1&x=2&y=+"  # in the form and the order in which it comes of an event of format 1.0
# Where the client's URL begins with the host, and all of the query arrives.
FRONT_ENDS = ["function URL", "HTTP API", "REST API, own domain", "ALB, multi-value"]
OF_THE_SERVER = {"date", "server", "connection", "transfer-encoding", "content-length"}


def whole(status, headers, body):
    """A response in a form that can be compared: repeated fields are one, except for cookies."""
    fields, cookies = {}, []
    for name, value in headers:
        name = name.lower()
        if name == "set-cookie":
            cookies.append(value)
        elif name not in OF_THE_SERVER:
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return status, fields, cookies, body


def through_lambda(aws, front_end, method, path, headers=(), body=None):
    """The response that the client of a front end gets, and the runtime's answer."""
    sent = web.event(front_end, method, path, body, list(headers))
    for fields, value in (sent.get("headers"), HOST), (sent.get("multiValueHeaders"), [HOST]):
        for name in {"host", "Host"} & (fields or {}).keys():
            fields[name] = value
    if "rawQueryString" in sent:
        sent["rawQueryString"] = QUERY
    elif front_end.startswith("ALB"):
        sent["multiValueQueryStringParameters"]["y"] = ["+"]
    answer = aws.invoke(sent)
    if answer.kind != "response":
        raise AssertionError(f"{answer.body}\n{aws.log}\n{aws.stderr}")
    metadata, body = web.split(answer) if answer.streaming else (answer.json, web.body_of(answer))
    fields = [(name, value) for name, value in metadata.get("headers", {}).items()]
    fields += [(name, value) for name, values in metadata.get("multiValueHeaders", {}).items() for value in values]
    fields += [("set-cookie", value) for value in metadata.get("cookies", [])]
    return whole(metadata["statusCode"], fields, body), answer


class Beside(unittest.TestCase):
    """Plays requests through Lambda and through a server."""

    maxDiff = None
    SERVER = [sys.executable, "-m", "uvicorn", "--no-access-log", "--log-level=error", "function:app"]

    @contextlib.contextmanager
    def both(self, source):
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(function(function=source))
            port = free_port()
            command = [*self.SERVER, f"--port={port}"]
            server = stack.enter_context(Program(command, root, {**os.environ, "PYTHONPATH": f"{root}:{REPO}"}))
            server.wait_for_port(port)
            aws = stack.enter_context(Lambda(root))

            def compare(method, path, headers=(), body=None, front_ends=FRONT_ENDS):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                with contextlib.closing(connection):
                    connection.request(method, f"{path}?{QUERY}", body, {**HEADERS, **dict(headers)})
                    response = connection.getresponse()
                    expected = whole(response.status, response.getheaders(), response.read())
                for front_end in front_ends:
                    with self.subTest(f"{method} {path}", front_end=front_end):
                        given, answer = through_lambda(aws, front_end, method, path, headers, body)
                        self.assertEqual(given, expected)
                        self.assertEqual(answer.streaming, front_end == "function URL")
                return expected

            yield aws, compare


def form(**fields):
    """Header and body of a multipart form; a value of bytes is an uploaded file."""
    parts = []
    for name, value in fields.items():
        is_file = isinstance(value, bytes)
        more = '; filename="file.bin"\r\nContent-Type: application/octet-stream' if is_file else ""
        parts.append(f'--limit\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + (value if is_file else value.encode()))
    return [("content-type", "multipart/form-data; boundary=limit")], b"\r\n".join([*parts, b"--limit--\r\n"])


UPLOAD = form(name="Ädä", file=bytes(range(256)) * 300)
JSON = [("content-type", "application/json")]

FASTAPI = """
    import asyncio, contextlib, threading
    from fastapi import BackgroundTasks, FastAPI, File, Form, HTTPException, Request, Response, UploadFile
    from fastapi.middleware.cors import CORSMiddleware
    from fastapi.middleware.gzip import GZipMiddleware
    from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse
    from fastapi.staticfiles import StaticFiles
    from starlette.middleware.base import BaseHTTPMiddleware
    import runtime

    @contextlib.asynccontextmanager
    async def lifespan(app):
        app.state.ready = True
        yield {"pool": ["of the lifespan"]}

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(GZipMiddleware, minimum_size=500)
    app.add_middleware(CORSMiddleware, allow_origins=["https://example.com"])

    @app.middleware("http")
    async def middleware(request, call_next):
        response = await call_next(request)
        response.headers["x-middleware"] = request.url.path
        return response

    @app.get("/items/{item}")
    async def item(item: int, x: list[int], request: Request): pass

    @app.get("/echo/{word:path}")
    async def echo(word: str, request: Request, y: str):
        return {"word": word, "y": y, "x": request.query_params.getlist("x"), "cookies": request.cookies, "url": str(request.url),
                "pool": request.state.pool, "ready": app.state.ready}

    @app.get("/number/{number}")
    async def number(number: int): return number

    @app.get("/sync")
    def sync(): return "in a thread"

    @app.get("/thread")
    def thread(): return threading.get_native_id()

    @app.post("/json")
    async def body(value: dict, response: Response):
        response.status_code = 201
        return value

    @app.post("/upload")
    async def upload(file: UploadFile, name: str = Form()):
        return [name, file.filename, (await file.read()).hex()[:1000], file.size]

    @app.get("/cookies")
    async def cookies(response: Response):
        response.set_cookie("a", "1", httponly=True)
        response.set_cookie("b", "2 3")
        response.headers.append("vary", "x")
        response.headers.append("vary", "y")

    @app.get("/stream")
    async def stream():
        async def numbers():
            for n in range(5):
                yield f"data: {n}\\n\\n"
                await asyncio.sleep(0)
        return StreamingResponse(numbers(), media_type="text/event-stream")

    @app.get("/waits")
    async def waits():
        async def tokens():
            try:
                yield "the first"
                await asyncio.Event().wait()
            finally:
                print("the client is gone")
        return StreamingResponse(tokens())

    @app.get("/sync_stream")
    def sync_stream(): return StreamingResponse(iter(["a", "b"]), media_type="text/plain")

    @app.get("/binary")
    async def binary(): return Response(bytes(range(256)), media_type="application/octet-stream")

    @app.get("/large")
    async def large(): return Response("é" * 100_000, media_type="text/plain; charset=utf-8")

    @app.get("/file")
    async def file(): return FileResponse(__file__, headers={"last-modified": "-", "etag": "-"})

    @app.get("/redirect")
    async def redirect(): return RedirectResponse("/elsewhere")

    @app.get("/nothing", status_code=204)
    async def nothing(): pass

    @app.get("/later")
    async def later(tasks: BackgroundTasks):
        tasks.add_task(print, "background task")
        return "now"

    @app.get("/teapot")
    async def teapot(): raise HTTPException(418, "short and stout", {"x-pot": "tea"})

    @app.get("/broken")
    async def broken(): raise LookupError("no é")

    @app.get("/late")
    async def late():
        async def numbers():
            yield "begun"
            raise LookupError("in the stream")
        return StreamingResponse(numbers())

    @app.get("/fails_later")
    async def fails_later(tasks: BackgroundTasks):
        def fail(): raise LookupError("in the background")
        tasks.add_task(fail)
        return "now"

    @app.get("/url_for")
    async def url_for(request: Request): return str(request.url_for("echo", word="a"))

    sub = FastAPI()
    app.mount("/sub", sub)

    @sub.get("/echo")
    async def sub_echo(request: Request): return [request.url.path, request.scope["root_path"]]

    @app.get("/aws")
    async def aws(request: Request): return [request.scope["aws.event"]["requestContext"].get("stage"), request.scope["aws.context"].aws_request_id]

    handler = runtime.asgi(app)
"""


class FastAPI(Beside):
    """And Starlette, which does most of it."""

    def test_beside_uvicorn(self):
        with self.both(FASTAPI) as (aws, compare):
            for path in (
                "/echo/a%20b/%C3%A9/c", "/number/7", "/sync", "/cookies", "/stream", "/sync_stream", "/binary", "/large", "/file", "/redirect",
                "/nothing", "/teapot", "/url_for", "/sub/echo", "/missing", "/number/seven", "/docs", "/openapi.json", "/echo/a/",
            ):
                compare("GET", path)
            self.assertEqual(compare("GET", "/echo/a")[0], 200)
            self.assertEqual(compare("GET", "/cookies")[2][1], 'b="2 3"; Path=/; SameSite=lax')
            compare("HEAD", "/number/7")
            compare("GET", "/large", [("accept-encoding", "gzip")])
            compare("GET", "/file", [("range", "bytes=3-9")])
            compare("OPTIONS", "/sync", [("origin", "https://example.com"), ("access-control-request-method", "GET")])
            compare("DELETE", "/sync")
            self.assertEqual(compare("POST", "/json", JSON, '{"é": [1, null]}'.encode())[0], 201)
            self.assertEqual(compare("POST", "/json", JSON, b"not JSON")[0], 422)
            status, _, _, body = compare("POST", "/upload", *UPLOAD)
            self.assertEqual((status, json.loads(body)[0], json.loads(body)[3]), (200, "Ädä", 76800))
            self.assertEqual((aws.log, aws.stderr), ("", ""))
            self.assertEqual(compare("GET", "/later")[3], b'"now"')
            self.assertEqual(aws.log, "background task\n" * len(FRONT_ENDS))

    def test_exceptions(self):
        with self.both(FASTAPI) as (aws, compare):
            for path, status in ("/broken", 500), ("/fails_later", 200), ("/late", 200):
                self.assertEqual(compare("GET", path)[0], status)
                answer = through_lambda(aws, "function URL", "GET", path)[1]
                self.assertEqual(answer.error_type, "LookupError")
            self.assertEqual(aws.log.count("[ERROR] LookupError"), 3 * (len(FRONT_ENDS) + 1))

    def test_hang_up_while_a_stream_waits(self):
        with function(function=FASTAPI) as root, Lambda(root) as aws:
            aws.answers("response", Fault(0, after=3))
            self.assertFalse(aws.invoke(web.event(path="/waits")).complete)
            self.assertEqual(through_lambda(aws, "function URL", "GET", "/number/7")[0][3], b"7")
            self.assertEqual(aws.log, "the client is gone\n")

    def test_threads_are_kept(self):
        """anyio's, in which what is not async is called: behind a server they live as long as it does."""
        with function(function=FASTAPI) as root, Lambda(root) as aws:
            threads = [through_lambda(aws, "HTTP API", "GET", "/thread")[0][3] for _ in range(3)]
            self.assertEqual(len({*threads}), 1)
            aws.wait_for_next()
            aws.signal(signal.SIGTERM)
            self.assertEqual(aws.wait(), 0)

    def test_stages(self):
        with function(function=FASTAPI) as root, Lambda(root) as aws:
            for front_end in web.FRONT_ENDS:
                with self.subTest(front_end):
                    stage = web.STAGE.get(front_end, "")
                    answer = aws.invoke(web.event(front_end, path="/url_for"))
                    body = web.split(answer)[1] if answer.streaming else web.body_of(answer)
                    self.assertEqual(json.loads(body), f"https://{web.HOST[front_end]}{stage}/echo/a")
                    answer = aws.invoke(web.event(front_end, path="/sub/echo"))
                    body = web.split(answer)[1] if answer.streaming else web.body_of(answer)
                    self.assertEqual(json.loads(body), [f"{stage}/sub/echo", f"{stage}/sub"])

    def test_event_and_context(self):
        with function(function=FASTAPI) as root, Lambda(root) as aws:
            answer = aws.invoke(web.event("HTTP API", path="/aws"))
            self.assertEqual(json.loads(web.body_of(answer)), ["$default", answer.request_id])


LITESTAR = """
    from litestar import Litestar, Request, Response, get, post
    from litestar.datastructures import Cookie
    from litestar.exceptions import NotAuthorizedException
    from litestar.response import Redirect, Stream
    import runtime

    async def start(app): app.state.pool = ["of the lifespan"]

    @get("/echo/{word:str}")
    async def echo(word: str, y: str, request: Request) -> dict:
        return {"word": word, "y": y, "cookies": request.cookies, "url": str(request.url), "pool": request.app.state.pool}

    @get("/cookies")
    async def cookies() -> Response: return Response("", cookies=[Cookie("a", "1"), Cookie("b", "2")])

    @get("/stream")
    async def stream() -> Stream:
        async def numbers():
            for n in range(5): yield f"{n}\\n"
        return Stream(numbers())

    @get("/redirect")
    async def redirect() -> Redirect: return Redirect("/echo/a")

    @get("/refused")
    async def refused() -> None: raise NotAuthorizedException("no")

    @get("/broken")
    async def broken() -> None: raise LookupError("no é")

    @post("/upload")
    async def upload(request: Request) -> list:
        form = await request.form()
        return [form["name"], (await form["file"].read()).hex()[:1000]]

    app = Litestar([echo, cookies, stream, redirect, refused, broken, upload], on_startup=[start])
    handler = runtime.asgi(app)
"""


class Litestar(Beside):
    def test_beside_uvicorn(self):
        with self.both(LITESTAR) as (aws, compare):
            for path in "/echo/a%20%C3%A9", "/cookies", "/stream", "/redirect", "/refused", "/broken", "/missing":
                compare("GET", path)
            self.assertEqual(compare("GET", "/echo/a")[0], 200)
            compare("HEAD", "/echo/a")
            self.assertEqual(compare("POST", "/upload", *UPLOAD)[0], 201)


DJANGO = """
    import asyncio
    from django.conf import settings
    settings.configure(DEBUG=False, SECRET_KEY="k", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, FORCE_SCRIPT_NAME=None,
                       SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"), USE_X_FORWARDED_HOST=False, MIDDLEWARE=[
                           "django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"])
    import django
    django.setup()
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
    from django.shortcuts import redirect
    from django.urls import path
    import runtime

    def echo(request, word):
        return JsonResponse({"word": word, "y": request.GET["y"], "x": request.GET.getlist("x"), "cookies": request.COOKIES,
                             "url": request.build_absolute_uri(), "method": request.method})

    def cookies(request):
        response = HttpResponse("é")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    def stream(request):
        async def numbers():
            for n in range(5): yield f"{n}\\n"
        return StreamingHttpResponse(numbers() if IS_ASYNC else (f"{n}\\n" for n in range(5)))

    def upload(request):
        return JsonResponse([request.POST["name"], request.FILES["file"].read().hex()[:1000], request.FILES["file"].size], safe=False)

    def broken(request): raise LookupError("no é")

    urlpatterns = [
        path("echo/<path:word>", echo), path("cookies", cookies), path("stream", stream), path("upload", upload), path("broken", broken),
        path("redirect", lambda request: redirect("/echo/a")),
        path("aws", lambda request: JsonResponse([request.META["aws.context"].aws_request_id], safe=False)),
    ]
    IS_ASYNC = ASYNC
    app = get_asgi_application() if IS_ASYNC else get_wsgi_application()
    handler = runtime.asgi(app) if IS_ASYNC else runtime.wsgi(app)
    if not IS_ASYNC:
        from wsgiref.validate import validator
        handler = runtime.wsgi(validator(app))
"""
WSGI_SERVER = [sys.executable, "-c", """
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server
from function import app

class Quiet(WSGIRequestHandler):
    def get_environ(self):
        return {**super().get_environ(), "wsgi.url_scheme": "https"}
    def log_message(self, *arguments): pass

def behind_tls(environ, start_response):
    environ.update({"wsgi.url_scheme": "https", "SERVER_PORT": "443"})
    return app(environ, start_response)

make_server("127.0.0.1", int(sys.argv[1].partition("=")[2]), behind_tls, handler_class=Quiet).serve_forever()
"""]


class DjangoAsgi(Beside):
    SOURCE = DJANGO.replace("IS_ASYNC = ASYNC", "IS_ASYNC = True")

    def test_beside_a_server(self):
        with self.both(self.SOURCE) as (aws, compare):
            for path in "/echo/a%20b/%C3%A9", "/cookies", "/stream", "/redirect", "/missing", "/broken":
                compare("GET", path)
            self.assertEqual(compare("GET", "/echo/a")[0], 200)
            compare("HEAD", "/echo/a")
            status, _, _, body = compare("POST", "/upload", *UPLOAD)
            self.assertEqual((status, json.loads(body)[2]), (200, 76800))

    def test_without_content_length(self):
        """A REST API does not tell it."""
        with function(function=self.SOURCE) as root, Lambda(root) as aws:
            (status, _, _, body), _ = through_lambda(aws, "REST API", "POST", "/upload", *UPLOAD)
            self.assertEqual((status, json.loads(body)[0]), (200, "Ädä"))


class DjangoWsgi(DjangoAsgi):
    SERVER = WSGI_SERVER
    SOURCE = DJANGO.replace("IS_ASYNC = ASYNC", "IS_ASYNC = False")

    def test_event_and_context(self):
        with function(function=self.SOURCE) as root, Lambda(root) as aws:
            answer = aws.invoke(web.event("HTTP API", path="/aws"))
            self.assertEqual(json.loads(web.body_of(answer)), [answer.request_id])


FLASK = """
    from flask import Flask, Response, jsonify, make_response, redirect, request, url_for
    from wsgiref.validate import validator
    import runtime

    app = Flask(__name__)

    @app.route("/echo/<path:word>")
    def echo(word):
        return jsonify(word=word, y=request.args["y"], x=request.args.getlist("x"), cookies=request.cookies, url=request.url)

    @app.route("/cookies")
    def cookies():
        response = make_response("é")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @app.route("/stream")
    def stream(): return Response((f"{n}\\n" for n in range(5)), mimetype="text/plain")

    @app.route("/upload", methods=["POST"])
    def upload():
        return jsonify(request.form["name"], request.files["file"].read().hex()[:1000])

    @app.route("/json", methods=["POST"])
    def body(): return request.get_json(), 201

    @app.route("/redirect")
    def go(): return redirect(url_for("echo", word="a"))

    @app.route("/broken")
    def broken(): raise LookupError("no é")

    @app.route("/binary")
    def binary(): return Response(bytes(range(256)), mimetype="application/octet-stream")

    handler = runtime.wsgi(validator(app))
"""


class Flask(Beside):
    SERVER = WSGI_SERVER

    def test_beside_a_server(self):
        with self.both(FLASK) as (aws, compare):
            for path in "/echo/a%20b/%C3%A9", "/cookies", "/stream", "/redirect", "/missing", "/binary", "/broken":
                compare("GET", path)
            self.assertEqual(compare("GET", "/echo/a")[0], 200)
            compare("HEAD", "/echo/a")
            self.assertEqual(compare("POST", "/upload", *UPLOAD)[0], 200)
            self.assertEqual(compare("POST", "/json", JSON, b'{"k": 1}')[0], 201)

    def test_as_asgi(self):
        """asgiref's adapter between the two specifications; also for applications of ASGI 2."""
        source = FLASK.replace("handler =", "from asgiref.wsgi import WsgiToAsgi\n    handler = runtime.asgi(WsgiToAsgi(app)) or") + """
    from asgiref.compatibility import guarantee_single_callable
    class Old:
        def __init__(self, scope): self.scope = scope
        async def __call__(self, receive, send):
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": self.scope["method"].encode()})
    old = runtime.asgi(guarantee_single_callable(Old), streaming=False)
"""
        with function(function=source) as root:
            with Lambda(root) as aws:
                (status, _, _, body), _ = through_lambda(aws, "function URL", "POST", "/json", JSON, b'{"k": 1}')
                self.assertEqual((status, json.loads(body)), (201, {"k": 1}))
                self.assertEqual(through_lambda(aws, "HTTP API", "GET", "/stream")[0][3], b"0\n1\n2\n3\n4\n")
            with Lambda(root, "function.old") as aws:
                self.assertEqual(through_lambda(aws, "HTTP API", "GET", "/")[0][3], b"GET")


TYPED = """
    import runtime, typing
    from asgiref import typing as asgi

    def check(value, kind, where):
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if typing.is_typeddict(kind):
            hints = typing.get_type_hints(kind)
            missing = {name for name, hint in hints.items() if typing.get_origin(hint) is not typing.NotRequired} - value.keys()
            assert not missing, f"{where}: no {missing}"
            for name, item in value.items():
                if name in hints: check(item, hints[name], f"{where}.{name}")
        elif origin is typing.Literal: assert value in arguments, f"{where}: {value!r}"
        elif origin is typing.NotRequired: check(value, arguments[0], where)
        elif origin in (typing.Union, types.UnionType):
            errors = []
            for argument in arguments:
                try: return check(value, argument, where)
                except AssertionError as error: errors.append(error)
            raise errors[0]
        elif origin is tuple:
            assert isinstance(value, (tuple, list)) and len(value) == len(arguments), f"{where}: {value!r}"
            for item, argument in zip(value, arguments): check(item, argument, where)
        elif origin is not None and issubclass(origin, typing.Mapping.__origin__): assert isinstance(value, dict), f"{where}: {value!r}"
        elif origin is not None:
            assert not isinstance(value, (str, bytes)), f"{where}: {value!r}"
            for item in value: check(item, arguments[0], where)
        elif kind is None or kind is type(None): assert value is None, f"{where}: {value!r}"
        elif kind not in (typing.Any, object): assert isinstance(value, kind), f"{where}: {value!r}"

    import types

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            check(scope, asgi.LifespanScope, "scope")
            check(await receive(), asgi.LifespanStartupEvent, "startup")
            await send({"type": "lifespan.startup.complete"})
            check(await receive(), asgi.LifespanShutdownEvent, "shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            print("sound")
            return
        check({"extensions": None, **scope}, asgi.HTTPScope, "scope")
        check(await receive(), asgi.HTTPRequestEvent, "request")
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})
        check(await receive(), asgi.HTTPDisconnectEvent, "disconnect")

    handler = runtime.asgi(app)
"""


class Specification(unittest.TestCase):
    def test_scope_and_messages(self):
        """Have the types that asgiref gives them."""
        with function(function=TYPED) as root, Lambda(root) as aws:
            for front_end in web.FRONT_ENDS:
                with self.subTest(front_end):
                    answer = aws.invoke(web.event(front_end, "POST", body=b"body"))
                    self.assertEqual((answer.kind, answer.error_type), ("response", None), answer.body)
            aws.wait_for_next()
            aws.signal(15)
            self.assertEqual((aws.wait(), aws.log), (0, "sound\n"))


MCP = """
    import contextlib, runtime
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.transport_security import TransportSecuritySettings

    @contextlib.asynccontextmanager
    async def lifespan(server):
        print("lifespan begins")
        yield {"calls": []}

    server = MCPServer("shop", lifespan=lifespan)

    @server.tool()
    async def add(a: int, b: int, context: Context) -> str:
        await context.report_progress(1, 2)
        return f"{a + b}"

    app = server.streamable_http_app(
        stateless_http=STATELESS, json_response=False, transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False))
    handler = runtime.asgi(app, streaming=True)
"""


class Mcp(test_cargo_lambda.Emulated):
    """The official SDK's client and server, with cargo-lambda's emulator between them, which passes streams on as they come."""

    FUNCTION = MCP.replace("STATELESS", "True")

    def test_warm_invocations(self):
        async def talk():
            async with mcp.Client(f"http://127.0.0.1:{self.port}/mcp") as client:
                names = [tool.name for tool in (await client.list_tools()).tools]
                results = [(await client.call_tool("add", {"a": 1, "b": n})).content[0].text for n in range(3)]
                return names, results

        for _ in range(3):
            self.assertEqual(asyncio.run(asyncio.wait_for(talk(), 30)), (["add"], ["1", "2", "3"]))
        self.assertNotIn("Traceback", self.runtime.log)


class UnderAnEmulator(unittest.TestCase):
    def test_aws(self):
        """The Runtime Interface Emulator gives the whole answer to whoever invokes."""
        with function(function=FASTAPI) as root, Emulator(root, BOOTSTRAP, "function.handler") as emulator:
            for _ in range(2):
                status, body = emulator.invoke(web.event("HTTP API", path="/number/7"))
                self.assertEqual((status, json.loads(body)["body"]), (200, "7"))
                metadata, body = emulator.invoke(web.event(path="/stream"))[1].split(SPLIT)
                self.assertEqual((json.loads(metadata)["statusCode"], body.count(b"data:")), (200, 5))
                status, body = emulator.invoke(web.event("REST API", path="/echo/a"))
                self.assertEqual(json.loads(json.loads(body)["body"])["pool"], ["of the lifespan"])


if __name__ == "__main__":
    unittest.main()
