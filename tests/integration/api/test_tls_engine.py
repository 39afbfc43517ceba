"""The stock client over TCP with mutual TLS: its hijacked connections are relayed."""

from __future__ import annotations

import os
import socket

import pytest
import trustme

pytestmark = pytest.mark.root


@pytest.fixture
def over_tls(make_engine, tmp_path):
    """Return a function that runs `docker` against an engine that listens on TCP."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(tmp_path / "server-key.pem")
    server.cert_chain_pems[0].write_to_path(tmp_path / "server-cert.pem")
    client = authority.issue_cert("client@example.org", common_name="alice")
    client.private_key_pem.write_to_path(tmp_path / "key.pem")
    client.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host = f"tcp://127.0.0.1:{port}"
    engine = make_engine(
        "-H",
        host,
        "--tlsverify",
        f"--tlscacert={tmp_path / 'ca.pem'}",
        f"--tlscert={tmp_path / 'server-cert.pem'}",
        f"--tlskey={tmp_path / 'server-key.pem'}",
    )
    environment = {
        "DOCKER_HOST": host, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)
    }  # fmt: skip
    return lambda *words, **more: engine.run("docker", *words, env=environment, **more)


def test_run_and_exec(over_tls):
    assert "Boxwood" in over_tls("version").stdout
    done = over_tls("run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; exit 3",
                    check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "out\n")
    over_tls("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "100")
    assert over_tls("exec", "box", "echo", "inside").stdout == "inside\n"
    data = os.urandom(500_000).hex()
    # The end of input has to arrive, or cat would never end.
    assert over_tls("exec", "-i", "box", "cat", input=data).stdout == data
    assert over_tls("logs", "box").stdout == ""
    over_tls("rm", "-f", "box")


def test_a_client_that_nobody_vouches_for(over_tls, tmp_path):
    stranger = trustme.CA().issue_cert("client@example.org")
    stranger.private_key_pem.write_to_path(tmp_path / "key.pem")
    stranger.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    done = over_tls("ps", check=False)
    assert done.returncode == 1
    assert "tls" in done.stderr.lower()
