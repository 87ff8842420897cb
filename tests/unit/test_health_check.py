"""The health check of the images: what it asks, and that it says why."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from shared.health_check import main, own_url
from tests.support import free_port


class Service(HTTPServer):
    """Answers every path but /healthz with 404, and /healthz as it is told to."""

    def __init__(self, status, body):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                found = self.path == "/healthz"
                self.send_response(status if found else 404)
                self.end_headers()
                self.wfile.write(body if found else b"no such path")

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def serve():
    running = []

    def start(status=200, body=b"{}"):
        server = Service(status, body)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        running.append((server, thread))
        return server.server_address[1]

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        pytest.param({}, "http://127.0.0.1:9000/healthz", id="nothing said"),
        pytest.param({"HOST": "0.0.0.0", "PORT": "9000"}, "http://127.0.0.1:9000/healthz", id="everywhere"),
        pytest.param({"HOST": "::", "PORT": "9001"}, "http://[::1]:9001/healthz", id="everywhere, IPv6"),
        pytest.param({"HOST": "172.17.0.1", "PORT": "9002"}, "http://172.17.0.1:9002/healthz", id="one address"),
        pytest.param({"HOST": "", "PORT": ""}, "http://127.0.0.1:9000/healthz", id="empty is not set"),
    ],
)
def test_it_asks_where_the_environment_says_that_the_service_listens(environ, url):
    assert own_url({f"CRYPTOFLOW_METRICS__{name}": value for name, value in environ.items()}) == url


def test_a_service_that_makes_progress_is_healthy(serve, capsys):
    port = serve()
    assert main([], {"CRYPTOFLOW_METRICS__PORT": str(port)}) == 0
    assert capsys.readouterr().out == f"http://127.0.0.1:{port}/healthz: healthy\n"


def test_a_service_that_stands_still_is_not_and_its_own_words_say_since_when(serve, capsys):
    port = serve(503, b'{"ok": false, "idle_seconds": 61.2}')
    assert main([], {"CRYPTOFLOW_METRICS__PORT": str(port)}) == 1
    assert capsys.readouterr().out.endswith('503 {"ok": false, "idle_seconds": 61.2}\n')


def test_one_that_does_not_listen_is_not_and_the_reason_is_named(capsys):
    assert main([], {"CRYPTOFLOW_METRICS__PORT": str(free_port())}) == 1
    assert "does not answer: ConnectionRefusedError" in capsys.readouterr().out


def test_another_url_can_be_named(serve):
    port = serve()
    assert main([f"http://127.0.0.1:{port}/healthz"], {}) == 0
    assert main([f"http://127.0.0.1:{port}/_sim/health"], {}) == 1


def test_it_loads_none_of_the_libraries_that_a_service_needs():
    code = "import sys, shared.health_check; print(*(set(sys.modules) & {'aiohttp', 'pydantic', 'asyncio', 'yaml'}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "\n"
