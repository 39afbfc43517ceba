"""Templates of `events` and `version` see Go's names for fields, as the real client's do."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from boxwood.cli.format import event_line, render_object, typed_object
from boxwood.cli.template import Template, TemplateError
from tests.integration.cli_opts.recorder import Recorder

EVENT = {
    "status": "start",
    "id": "ab" * 32,
    "from": "busybox",
    "Type": "container",
    "Action": "start",
    "Actor": {"ID": "ab" * 32, "Attributes": {"name": "web<x>", "image": "busybox"}},
    "scope": "local",
    "time": 1714557600,
    "timeNano": 1714557600000000123,
}
SERVER = {
    "Platform": {"Name": "Docker Engine"},
    "Components": [{"Name": "Engine", "Version": "1", "Details": {"a": "b"}}],
    "Version": "20.10",
    "ApiVersion": "1.50",
    "MinAPIVersion": "1.24",
    "GitCommit": "g",
    "GoVersion": "go",
    "Os": "linux",
    "Arch": "amd64",
    "KernelVersion": "6",
    "BuildTime": "2024-05-01T10:00:00.000000000+00:00",
}


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder({"/events": EVENT, "/version": SERVER}) as made:
        yield made


@pytest.mark.parametrize(
    "template",
    [
        "{{.Time}} {{.Status}} {{.ID}} {{.TimeNano}} {{.From}} {{.Scope}}",
        "{{.Actor.Attributes.name}} {{.Actor.ID}} {{.Type}}:{{.Action}}",
        "{{json .}} {{.}} {{.Actor}}",
        '{{index .Actor.Attributes "no"}}|',
        "{{.Nope}}",
        "{{.time}}",
    ],
)
def test_events(recorder: Recorder, template: str) -> None:
    done = recorder.docker("events", "--format", template)
    try:
        ours = Template(template).render(typed_object(EVENT, "event")) + "\n"
    except TemplateError as error:
        ours = f"Error parsing format: {error}\n"
    assert ours == done.stdout + done.stderr


def test_the_default_line_of_events(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        assert event_line(EVENT) + "\n" == recorder.docker("events").stdout
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "template",
    [
        "{{.Server.APIVersion}} {{.Server.Version}} {{.Client.APIVersion}}",
        "{{json .Server}}",
        "{{.Server}} {{.Server.Components}}",
        "{{range .Server.Components}}{{.Name}} {{.Details.a}}{{end}}",
        "{{.Server.Platform.Name}} {{.Server.MinAPIVersion}} {{.Server.Experimental}}",
        "{{.Nope}}",
        "{{.Server.Version.x}}",
    ],
)
def test_version(recorder: Recorder, template: str) -> None:
    done = recorder.docker("version", "-f", template)
    about = {"Client": {"ApiVersion": "1.50"}, "Server": SERVER}
    try:
        ours = render_object(template, about, kind="version")
    except TemplateError as error:
        # There the template has a name.
        ours = (
            str(error).replace(": :", ": version:").replace('executing ""', 'executing "version"')
        )
    assert ours == (done.stderr if done.returncode else done.stdout).strip()
