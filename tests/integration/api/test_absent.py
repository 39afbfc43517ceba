"""What this engine does not do yet: each client says so in one sentence, and nothing pretends."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.engine import Engine

pytestmark = [
    pytest.mark.root,
    # docker-py leaves sockets of answers it did not read to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

YET = "Error response from daemon: {} is not served by this engine yet"
# What is typed, and the operation that the answer names.
COMMANDS = {
    "top box": "GET /containers/{id}/top",
    "stats --no-stream box": "GET /containers/{id}/stats",
    "update --memory 64m box": "POST /containers/{id}/update",
    "build .": "POST /build",
}
SENTENCES = {command: YET.format(operation) for command, operation in COMMANDS.items()} | {
    "network create -d other mine": "Error response from daemon: could not find plugin other in v1 "
    "plugin registry: plugin not found",
    "network rm nobody": "Error response from daemon: network nobody not found",
}
# What clients say of themselves around the answer.
SAID = (
    "DEPRECATED: The legacy builder",
    "            Install the buildx",
    "            https://docs.docker.com/go/buildx/",
    "WARNING! Using --password via the CLI is insecure",
    "exit status 1",
    # Docker's, when the answer came before all of the context was sent.
    "time=",
)
PROGRESS = ("Sending build context to Docker daemon", "Using default tag: latest")


@pytest.fixture
def box(clean_engine: Engine) -> Engine:
    """The engine, with a container that runs."""
    clean_engine.docker(
        *("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000")
    )
    return clean_engine


@pytest.mark.parametrize("program", ["docker", "boxwood"])
def test_a_command(box: Engine, program: str, tmp_path: Path) -> None:
    """Status 1, the one sentence, nothing on the output, no file left behind."""
    run = box.docker if program == "docker" else box.cli
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.joinpath("Dockerfile").write_text("FROM busybox\n")
    own = {"DOCKER_CONFIG": str(tmp_path / "config"), "BOXWOOD_CONFIG": str(tmp_path / "config")}
    for command, sentence in SENTENCES.items():
        done = run(*shlex.split(command), check=False, cwd=folder, env=own)
        said = [line for line in done.stderr.splitlines() if line and not line.startswith(SAID)]
        shown = [
            line for line in done.stdout.splitlines() if line and not line.startswith(PROGRESS)
        ]
        assert (command, done.returncode, said, shown) == (command, 1, [sentence], [])
    assert [path.name for path in folder.iterdir()] == ["Dockerfile"]


@pytest.mark.parametrize("program", ["docker", "boxwood"])
def test_running_an_image_that_is_not_there(clean_engine: Engine, program: str) -> None:
    """125, with what keeps it from being pulled."""
    run = clean_engine.docker if program == "docker" else clean_engine.cli
    done = run("run", "--rm", "127.0.0.1:1/absent:here", "true", check=False)
    assert done.returncode == 125
    said = f"{program}: Error response from daemon: registry 127.0.0.1:1: cannot connect"
    assert any(line.startswith(said) for line in done.stderr.splitlines())
    assert clean_engine.docker("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    "command", ["swarm init", "service ls", "node ls", "secret ls", "stack ls"]
)
def test_swarm(engine: Engine, command: str) -> None:
    """Docker's client gets Docker's words; our own has no such command and says why."""
    done = engine.docker(*command.split(), check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error response from daemon: This node is not a swarm manager.")
    done = engine.cli(*command.split(), check=False)
    assert done.returncode == 1
    name = command.split(maxsplit=1)[0]
    assert done.stderr == f"boxwood {name}: not supported: swarm is out of scope\n"


@pytest.fixture
def client(box: Engine) -> Iterator[docker.DockerClient]:
    """docker-py on the engine."""
    made = docker.DockerClient(base_url=box.host, timeout=30)
    yield made
    made.close()


def test_docker_py(client: docker.DockerClient) -> None:
    """The library's exceptions carry 501 and the operation."""
    container = client.containers.get("box")
    calls = {
        "GET /containers/{id}/stats": lambda: container.stats(stream=False),
        "GET /containers/{id}/top": container.top,
        "POST /containers/{id}/update": lambda: container.update(mem_limit="64m"),
    }
    for operation, call in calls.items():
        with pytest.raises(docker.errors.APIError) as caught:
            call()
        answer = (caught.value.status_code, caught.value.explanation)
        assert answer == (501, f"{operation} is not served by this engine yet")
    with pytest.raises(docker.errors.NotFound, match="could not find plugin other"):
        client.networks.create("mine", driver="other")
