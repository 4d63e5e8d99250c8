"""TLS towards upstreams: verified by the system's authorities or a configured one, unless switched off."""

import asyncio
import shutil
import ssl
import subprocess

import pytest

from ghostllm.errors import UpstreamConnectError
from ghostllm.net import loop
from ghostllm.net.address import Origin
from ghostllm.net.client import Client
from ghostllm.net.tls import client_context
from tests.net.peers import read_request
from tests.net.test_client import OK, ask

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="no openssl to make a certificate with"
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that is its own authority: (certificate, key)."""
    folder = tmp_path_factory.mktemp("tls")
    files = str(folder / "cert.pem"), str(folder / "key.pem")
    subject = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", *subject, "-out", files[0], "-keyout", files[1]],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return files


def outcome(certificate, host, **context):
    """What a call to a TLS upstream under `certificate` ends in."""

    async def handle(reader, writer):
        try:
            await read_request(reader)
            writer.write(OK)
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def main():
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(*certificate)
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        client = Client(Origin(True, host, port), "up", tls=client_context(**context))
        try:
            sink, _ = ask(client)
            return await sink.outcome, sink.body
        finally:
            await client.close()
            server.close()
            await asyncio.sleep(0.05)

    return loop.run(main())


def test_a_configured_authority_is_trusted(certificate):
    assert outcome(certificate, "127.0.0.1", ca_file=certificate[0]) == ("ended", b"ok")


def test_an_unknown_authority_is_not(certificate):
    error, _ = outcome(certificate, "127.0.0.1")
    assert isinstance(error, UpstreamConnectError)
    assert "certificate does not verify" in error.message


def test_the_name_counts(certificate):
    error, _ = outcome(certificate, "localhost", ca_file=certificate[0])
    assert isinstance(error, UpstreamConnectError)
    assert "certificate does not verify" in error.message


def test_verification_can_be_switched_off(certificate):
    assert outcome(certificate, "localhost", verify=False) == ("ended", b"ok")
