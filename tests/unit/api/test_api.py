"""Routing, versions, queries and errors of the API, without an engine."""

from __future__ import annotations

import json

import msgspec
import pytest

from boxwood.api import compat, coverage, query, versions
from boxwood.api import server as server_module
from boxwood.api.http.listen import open_unix
from boxwood.api.http.message import json_response
from boxwood.api.operations import OPERATIONS
from boxwood.api.routes import all_routes
from boxwood.api.routing import NOT_YET, SERVED, Router
from boxwood.api.server import ApiServer
from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.manager import load_manager
from boxwood.errors import AlreadyExists, InvalidArgument, PermissionDenied
from tests.support.paths import ROOT
from tests.unit.api.openapi import document
from tests.unit.api.serving import read_response, serving


class NoEngine:
    """An engine of which nothing may be asked: what is answered here needs none."""


@pytest.fixture
def plugins():
    return []


@pytest.fixture
def server(tmp_path, plugins):
    extensions = load_manager("extension")
    for plugin, name in zip(plugins, ("mine", "second"), strict=False):
        extensions.register(plugin, name=name)
    api = ApiServer(NoEngine(), extensions=extensions, server_version="9.9")
    with serving(api.handle, tmp_path / "s") as running:
        yield running


@pytest.fixture
def ask(server):
    with server.connect() as sock, sock.makefile("rb") as stream:

        def call(method, target, content=b"", **headers):
            lines = "".join(
                f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items()
            )
            head = f"{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}"
            sock.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            if method == "HEAD":
                status = int(stream.readline().split()[1])
                while stream.readline() != b"\r\n":
                    pass
                return status, {}, b""
            return read_response(stream)

        yield call


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.43", f"/v1.{versions.NEWEST}"])
def test_ping_in_every_version(ask, prefix):
    status, headers, body = ask("GET", prefix + "/_ping")
    assert (status, body) == (200, b"OK")
    assert headers["builder-version"] == "1"
    assert headers["swarm"] == "inactive"
    assert headers["cache-control"] == "no-cache, no-store, must-revalidate"
    assert ask("HEAD", prefix + "/_ping")[0] == 200


def test_versions_that_are_not_served(ask):
    status, headers, body = ask("GET", "/v1.23/info")
    assert status == 400
    assert headers["content-type"].startswith("text/plain")
    assert body.startswith(
        b"client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade "
        b"your client to a newer version"
    )
    status, _, body = ask("GET", f"/v1.{versions.NEWEST + 1}/info")
    assert status == 400
    assert json.loads(body)["message"] == (
        f"client version 1.{versions.NEWEST + 1} is too new. Maximum supported API version is "
        f"1.{versions.NEWEST}"
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nonsense"), ("PUT", "/info"), ("HEAD", "/info"), ("POST", "/v1.43"), ("GET", "/")],
)
def test_unknown_paths_and_methods(ask, method, path):
    status, _, body = ask(method, path)
    assert status == 404
    if method != "HEAD":
        assert json.loads(body) == {"message": "page not found"}


def test_options_is_always_fine(ask):
    assert ask("OPTIONS", "/anything")[0] == 200


def test_what_is_not_there_says_so(ask):
    for operation, state in coverage.states().items():
        method, _, path = operation.partition(" ")
        if method == "HEAD" or state == SERVED:
            continue
        if path.startswith("/networks"):
            continue  # answered by the service, with its own reasons
        status, _, body = ask(method, path.replace("{", "").replace("}", ""))
        message = json.loads(body)["message"]
        if operation == "GET /plugins/{name}/json":  # `docker inspect NAME` asks here last
            assert (status, message) == (404, 'plugin "name" not found')
        elif path[1:].partition("/")[0] in ("swarm", "nodes", "services", "tasks", "secrets"):
            assert status == 503
            assert message.startswith("This node is not a swarm manager. ")
        elif not path.startswith("/configs"):
            assert status == 501, operation
            assert "is not served by this engine" in message
        if state == NOT_YET:
            assert operation in message


def test_docker_s_plugins_are_an_empty_list(ask):
    assert ask("GET", "/plugins")[2] == b"[]\n"


def test_a_body_of_another_type_is_refused(ask):
    status, _, body = ask("POST", "/volumes/create", b"{}", Content_Type="text/plain")
    assert status == 400
    assert json.loads(body)["message"] == (
        "unsupported Content-Type header (text/plain): must be 'application/json'"
    )
    assert ask("POST", "/containers/create", b"{}")[0] == 400


def test_a_json_body_has_a_limit(server):
    with server.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(
            b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 5000000\r\n\r\n"
        )
        assert read_response(stream)[0] == 413


@pytest.mark.parametrize(
    "target", ["/plugins?filters={", "/%ff", "/info?a=%ff", "/containers/json?limit=x"]
)
def test_garbage_in_the_target(ask, target):
    assert ask("GET", target)[0] in (400, 404)


def test_start_with_a_body(ask):
    status, _, body = ask("POST", "/containers/x/start", b"{      }")
    assert status == 400
    assert b"non-empty request body" in body


def test_an_error_of_ours_is_told_and_logged_without_its_text(ask, caplog):
    status, _, body = ask("GET", "/info")
    assert status == 500
    assert "AttributeError" not in body.decode()
    assert any(record.exc_info for record in caplog.records)


def test_a_slow_body_times_out(server, monkeypatch):
    monkeypatch.setattr(server_module, "BODY_TIMEOUT", 0.1)
    with server.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{")
        assert read_response(stream)[0] == 408


# Routes.


def find(method, path):
    router = Router()
    for route in all_routes():
        router.add(route)
    found = router.find(method, path)
    return found and (found[0].pattern, found[1])


@pytest.mark.parametrize(
    ("method", "path", "pattern", "params"),
    [
        ("GET", "/containers/json", "/containers/json", {}),
        ("GET", "/containers/a/json", "/containers/{id}/json", {"id": "a"}),
        ("GET", "/images/json", "/images/json", {}),
        (
            "GET",
            "/images/localhost:5000/a/b:1/json",
            "/images/{name}/json",
            {"name": "localhost:5000/a/b:1"},
        ),
        ("GET", "/images/json/json", "/images/{name}/json", {"name": "json"}),
        ("DELETE", "/images/a/b", "/images/{name}", {"name": "a/b"}),
        ("POST", "/images/a/tag/tag", "/images/{name}/tag", {"name": "a/tag"}),
        ("GET", "/images/get", "/images/get", {}),
        ("GET", "/volumes/prune", "/volumes/{name}", {"name": "prune"}),
        ("POST", "/volumes/prune", "/volumes/prune", {}),
        ("GET", "/containers/a/attach/ws", "/containers/{id}/attach/ws", {"id": "a"}),
    ],
)
def test_routes(method, path, pattern, params):
    assert find(method, path) == (pattern, params)


def test_a_route_is_added_once():
    router = Router()
    route = all_routes()[0]
    router.add(route)
    with pytest.raises(AlreadyExists):
        router.add(route)


# Queries and filters.


@pytest.mark.parametrize("text", ["", "0", "no", "false", "none", "False", "NONE", " no "])
def test_false_words(text):
    assert not query.flag(text)


@pytest.mark.parametrize("text", ["1", "true", "yes", "anything", "2", "off"])
def test_every_other_word_is_true(text):
    assert query.flag(text)


def test_filters_in_both_forms():
    want = {"label": ("a=b", "c"), "status": ("running",)}
    assert query.filters('{"label":["a=b","c"],"status":["running"]}') == want
    assert query.filters('{"label":{"a=b":true,"c":true,"d":false},"status":["running"]}') == want
    assert query.filters("") == query.filters("null") == query.filters("{}") == {}


@pytest.mark.parametrize("text", ["{", "[]", '"a"', '{"a":1}', '{"a":[1]}', '{"a":{"b":1}}'])
def test_filters_that_are_none(text):
    with pytest.raises(InvalidArgument, match="invalid filter"):
        query.filters(text)


@pytest.mark.parametrize("text", ["", "x", "1.5", "1_0", "٣", "99999999999", "-1"])
def test_numbers(text):
    with pytest.raises(InvalidArgument):
        query.number("h", text, 0, 2**32 - 1)


# Versions.


def test_the_table_of_legacy_fields():
    event = {"Type": "container", "Action": "start", "Actor": {"ID": "1", "Attributes": {}}}
    assert compat.wrap("event", 51, dict(event)).keys() >= {"status", "id", "from"}
    assert compat.wrap("event", 52, dict(event)) == event
    image = {"RepoTags": [], "RepoDigests": [], "Size": 7}
    old = compat.wrap("image summary", 42, dict(image))
    assert old["RepoTags"] == ["<none>:<none>"]
    assert old["VirtualSize"] == 7
    assert compat.wrap("image summary", 51, dict(image)) == image
    assert compat.hidden(45, "image", "create")
    assert not compat.hidden(46, "image", "create")


def test_every_row_has_a_shape_that_is_used():
    assert {row.shape for row in compat.TABLE} == {
        "container", "image", "image summary", "event", "network"
    }  # fmt: skip


# Coverage.


def test_the_list_of_operations_is_docker_s():
    paths = document()["paths"]
    methods = ("get", "post", "put", "delete", "head")
    assert set(OPERATIONS) == {
        f"{method.upper()} {path}"
        for path, ways in paths.items()
        for method in ways
        if method in methods
    }


def test_the_coverage_document_is_up_to_date():
    path = ROOT / "docs" / "api-coverage.md"
    assert path.read_text() == coverage.render(), "run `python -m boxwood.api.coverage`"


# Extensions.


class Refuses:
    @hookimpl
    def admit(self, request):
        if request.action == "volume.list":
            return
        assert request.peer.pid > 0
        raise PermissionDenied(f"not you: {request.action} {request.object}")


class Renames:
    """Changes what is asked for; is asked before the one that was registered first."""

    @hookimpl
    def admit(self, request):
        return msgspec.structs.replace(request, object="renamed")


class Crashes:
    @hookimpl
    def admit(self, request):
        raise ZeroDivisionError


class Swaps:
    @hookimpl
    def admit(self, request):
        return msgspec.structs.replace(request, value="no such body")


class Extends:
    @hookimpl
    def register_routes(self, api):
        async def hello(call):
            return json_response({"hello": call.params["name"]})

        api.add("get", "/ext/mine/{name}", hello)
        with pytest.raises(AlreadyExists):
            api.add("GET", "/ext/mine/{name}", hello)
        with pytest.raises(InvalidArgument):
            api.add("GET", "/containers/json", hello)


@pytest.mark.parametrize("plugins", [[Refuses()], [Refuses(), Extends()]])
def test_a_plugin_refuses(ask, plugins):
    status, _, body = ask("POST", "/containers/abc/kill")
    assert status == 403
    assert json.loads(body)["message"] == "not you: container.kill abc"
    assert ask("GET", "/_ping")[0] == 200
    status, _, body = ask(
        "POST", "/volumes/create", b'{"Name":"v"}', Content_Type="application/json"
    )
    assert (status, json.loads(body)["message"]) == (403, "not you: volume.create v")


@pytest.mark.parametrize("plugins", [[Refuses(), Renames()]])
def test_plugins_are_asked_in_turn(ask, plugins):
    message = json.loads(ask("POST", "/containers/abc/kill")[2])["message"]
    assert message == "not you: container.kill renamed"


@pytest.mark.parametrize("plugins", [[Crashes()], [Swaps()]])
def test_a_plugin_that_fails_lets_nothing_through(ask, plugins):
    status, _, body = ask("POST", "/containers/abc/kill")
    assert status == 500
    assert json.loads(body)["message"].startswith("admit: container.kill: ")


@pytest.mark.parametrize("plugins", [[Extends()]])
def test_a_plugin_adds_a_route(ask, plugins):
    assert ask("GET", "/v1.43/ext/mine/world")[2] == b'{"hello":"world"}\n'


# Sockets.


def test_a_stale_socket_is_replaced_a_living_one_is_not(tmp_path):
    path = tmp_path / "s"
    first = open_unix(path)
    with pytest.raises(AlreadyExists):
        open_unix(path)
    first.socket.close()
    second = open_unix(path)
    assert path.stat().st_mode & 0o777 == 0o660
    second.socket.close()


def test_a_file_is_not_replaced(tmp_path):
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(AlreadyExists):
        open_unix(path)
    assert path.read_text() == "precious"
