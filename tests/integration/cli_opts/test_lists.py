"""Lists in all their forms look as the real client draws them."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from boxwood.cli.format import (
    container_row,
    container_template_needs_size,
    event_line,
    history_row,
    image_rows,
    network_row,
    print_list,
    volume_row,
)
from boxwood.cli.template import TemplateError
from tests.integration.cli_opts.recorder import Recorder

NOW = int(time.time())
PORTS = [
    {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
    {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
    {"PrivatePort": 53, "Type": "udp"},
    {"PrivatePort": 54, "Type": "udp"},
    {"IP": "0.0.0.0", "PrivatePort": 90, "PublicPort": 90, "Type": "tcp"},
    {"IP": "0.0.0.0", "PrivatePort": 91, "PublicPort": 91, "Type": "tcp"},
    {"IP": "0.0.0.0", "PrivatePort": 93, "PublicPort": 93, "Type": "tcp"},
    {"IP": "::", "PrivatePort": 90, "PublicPort": 90, "Type": "tcp"},
]
CONTAINERS: list[dict[str, Any]] = [
    {
        "Id": "ab" * 32,
        "Names": ["/other/alias", "/web"],
        "Image": "repo/app:1@sha256:" + "cd" * 32,
        "ImageID": "sha256:" + "ee" * 32,
        "Command": "sh -c 'echo <hello> \"you\" and more'",
        "Created": NOW - 3 * 3600,
        "Ports": PORTS,
        "Labels": {"z": "1", "a": "2", "com.x.my-key": "v"},
        "State": "running",
        "Status": "Up 3 hours",
        "SizeRw": 1234,
        "SizeRootFs": 56789012,
        "NetworkSettings": {"Networks": {"none": {}}},
        "Mounts": [
            {"Type": "volume", "Name": "avolumewithalongname", "Driver": "local"},
            {"Type": "bind", "Source": "/srv/data"},
        ],
    },
    {
        "Id": "cd" * 32,
        "Names": ["/größe-ラ"],
        "Image": "sha256:" + "ee" * 32,
        "ImageID": "sha256:" + "ee" * 32,
        "Command": "/bin/true",
        "Created": NOW - 40 * 86400,
        "Ports": [],
        "Labels": {},
        "State": "exited",
        "Status": "Exited (0) 5 weeks ago",
        "NetworkSettings": {"Networks": {}},
        "Mounts": [],
    },
    {"Id": "ef" * 32, "Names": ["/n"], "Image": "", "Command": "", "Created": NOW - 90},
]
IMAGES: list[dict[str, Any]] = [
    {
        "Id": "sha256:" + "ee" * 32,
        "RepoTags": ["a/b:1", "a/b:2", "host:5000/x:y"],
        "RepoDigests": ["a/b@sha256:" + "cd" * 32],
        "Created": NOW - 90000,
        "Size": 123456,
        "Containers": -1,
        "SharedSize": -1,
    },
    {"Id": "sha256:" + "ff" * 32, "RepoTags": [], "RepoDigests": [], "Created": 0, "Size": 999999},
    {
        "Id": "sha256:" + "dd" * 32,
        "RepoTags": [],
        "RepoDigests": ["only@sha256:" + "12" * 32],
        "Created": NOW - 330,
        "Size": 0,
        "Containers": 2,
        "SharedSize": 10,
    },
]
VOLUMES = [
    {"Name": "v1", "Driver": "local", "Labels": {"k": "v"}, "Scope": "local", "Mountpoint": "/m"},
    {"Name": "x" * 40, "Driver": "a-driver-with-a-name", "Labels": None, "Scope": "local"},
]
NETWORKS = [
    {
        "Id": "ef" * 32,
        "Name": "bridge",
        "Driver": "bridge",
        "Scope": "local",
        "Created": "2024-05-01T10:00:00.120000000Z",
        "Labels": {"b": "1"},
        "EnableIPv4": True,
    }
]
HISTORY = [
    {
        "Id": "sha256:" + "ee" * 32,
        "Created": NOW - 80,
        "CreatedBy": '/bin/sh -c #(nop)\tCMD ["a"] some long thing that is cut somewhere',
        "Size": 12345,
        "Comment": "c",
    },
    {"Id": "<missing>", "Created": NOW - 7200, "CreatedBy": "ADD file", "Size": 0, "Comment": ""},
]

PS = (
    r"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
)
HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "CreatedAt": "CREATED AT",
    "Status": "STATUS",
    "State": "STATE",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
TEMPLATES = [
    None,
    "table",
    "json",
    "raw",
    "{{.ID}}",
    "{{json .}}",
    r"table {{.ID}}\t{{.Label `com.x.my-key`}}\t{{.Names}}",
    r"table {{upper .Image}}\t{{json .Names}}\t{{pad .ID 2 3}}\t{{truncate .ID 3}}|{{len .Names}}",
    r"table {{.Names}}: {{.Labels}}\t{{.Mounts}}\t{{.LocalVolumes}}\t{{.Networks}}\t{{.Size}}",
    r"table {{.CreatedAt}}\t{{.State}}",
    r"{{.Names}}\t{{.Ports}}\n--",
    '{{if eq .State "running"}}{{.Names}}{{end}}',
    '{{.Label "a"}}|{{.Label "nope"}}|{{.Platform}}',
    "{{range $i, $x := split .Ports `, `}}{{$i}} {{$x}};{{end}}",
    "{{.Nope}}",
    "{{.ID",
    "table {{.ID",
    "{{.Label}}",
    "{{.ID.x}}",
    "tablex",
    "",
]


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    answers = {
        "/containers/json": CONTAINERS,
        "/images/json": IMAGES,
        "/volumes": {"Volumes": VOLUMES},
        "/networks": NETWORKS,
        "/history": HISTORY,
        "/none/": [],
    }
    with Recorder(answers) as made:
        yield made


def shown(
    rows: list[Any], table: str, headers: Mapping[str, str], template: str | None, quiet: str | None
) -> str:
    out = io.StringIO()
    try:
        print_list(
            rows,
            template=template,
            default_table=table,
            headers=headers,
            quiet_field=quiet,
            out=out,
        )
    except TemplateError as error:
        return str(error)
    return out.getvalue()


def asked(recorder: Recorder, *args: str) -> str:
    done = recorder.docker(*args)
    return done.stderr.strip() if done.returncode else done.stdout


@pytest.mark.parametrize("template", TEMPLATES)
def test_ps(recorder: Recorder, template: str | None) -> None:
    flags = [] if template is None else ["--format", template]
    rows = [container_row(container) for container in CONTAINERS]
    try:
        if template:
            container_template_needs_size(template)
        ours = shown(rows, PS, HEADERS, template, None)
    except TemplateError as error:
        ours = str(error)
    assert ours == asked(recorder, "ps", *flags)


def test_templates_that_need_sizes() -> None:
    assert container_template_needs_size(r"table {{.ID}}\t{{.Size}}")
    assert container_template_needs_size("{{with .}}{{.Size}}{{end}}")
    assert not container_template_needs_size("{{.ID}} .Size {{json .}}")


@pytest.mark.parametrize("flags", [["--no-trunc"], ["-q"], ["-s"], ["-q", "--no-trunc"]])
def test_ps_flags(recorder: Recorder, flags: list[str]) -> None:
    full = "--no-trunc" in flags
    rows = [container_row(each, no_trunc=full, size="-s" in flags) for each in CONTAINERS]
    table = PS + (r"\t{{.Size}}" if "-s" in flags else "")
    quiet = "ID" if "-q" in flags else None
    assert shown(rows, table, HEADERS, None, quiet) == asked(recorder, "ps", *flags)


IMAGE_TABLE = r"table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
DIGEST_TABLE = (
    r"table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
)
IMAGE_HEADERS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
}


@pytest.mark.parametrize(
    "flags", [[], ["--digests"], ["--no-trunc"], ["--format", "json"], ["--format", "raw"]]
)
def test_images(recorder: Recorder, flags: list[str]) -> None:
    digests = "--digests" in flags
    rows = [
        row
        for image in IMAGES
        for row in image_rows(image, no_trunc="--no-trunc" in flags, digests=digests)
    ]
    template = flags[1] if "--format" in flags else None
    table = DIGEST_TABLE if digests else IMAGE_TABLE
    ours = shown(rows, table, IMAGE_HEADERS, template, None)
    docker = asked(recorder, "images", *flags)
    # Docker's order of one image's repositories is that of a Go map: none.
    assert sorted(ours.splitlines()) == sorted(docker.splitlines())


SMALL: list[tuple[list[str], Callable[[], list[Any]], str, dict[str, str]]] = [
    (
        ["volume", "ls"],
        lambda: [volume_row(each) for each in VOLUMES],
        r"table {{.Driver}}\t{{.Name}}",
        {"Driver": "DRIVER", "Name": "VOLUME NAME"},
    ),
    (
        ["network", "ls"],
        lambda: [network_row(each) for each in NETWORKS],
        r"table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
        {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE"},
    ),
    (
        ["history", "x"],
        lambda: [history_row(each) for each in HISTORY],
        r"table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
        {
            "ID": "IMAGE",
            "CreatedSince": "CREATED",
            "CreatedBy": "CREATED BY",
            "Size": "SIZE",
            "Comment": "COMMENT",
        },
    ),
]


@pytest.mark.parametrize("template", [None, "json", "raw", "{{json .}}", "{{.Nope}}"])
@pytest.mark.parametrize(("command", "rows", "table", "headers"), SMALL)
def test_small_lists(
    recorder: Recorder,
    template: str | None,
    command: list[str],
    rows: Callable[[], list[Any]],
    table: str,
    headers: dict[str, str],
) -> None:
    flags = [] if template is None else ["--format", template]
    ours = shown(rows(), table, headers, template, None)
    if template == "raw" and command[0] == "history":
        assert asked(recorder, *command[:1], *flags, *command[1:]) == "raw\nraw\n"  # has none
    assert ours == asked(recorder, command[0], *command[1:], *flags)


def test_event_line() -> None:
    event = {
        "Type": "container",
        "Action": "exec_create: sh",
        "Actor": {"ID": "abc", "Attributes": {"name": "web", "image": "busybox"}},
        "time": 1714557600,
        "timeNano": 1714557600000000123,
    }
    line = event_line(event)
    assert line.endswith(" container exec_create: sh abc (image=busybox, name=web)")
    assert ".000000123" in line.split(" ")[0]
