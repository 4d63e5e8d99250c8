"""Sources of backends, and files that the configuration names, change with it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Fakes
from tests.e2e.reloads import CONFIG, applied, base, changed, event, logged, reload
from tests.e2e.traffic import backend, backends, model, whole
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway, Settings, toml

WHOLE = "".join(TEXT)


def names(gateway: Gateway) -> list[str]:
    return sorted(one["name"] for one in backends(gateway))


def listed(path: Path, **fakes: object) -> str:
    """Writes a file of backends, and gives its path."""
    path.write_text(toml({"backends": [backend(name, fake) for name, fake in fakes.items()]}))  # type: ignore[arg-type]
    return str(path)


def test_a_source_comes_changes_and_goes(fakes: Fakes, tmp_path: Path) -> None:
    settings: Settings = base(fakes)
    one = listed(tmp_path / "one.toml", found=fakes.vllm)
    two = listed(tmp_path / "two.toml", found=fakes.llamacpp, more=fakes.lmstudio)
    with Gateway(settings) as gateway:

        def looking(file: str, **more: object) -> Settings:
            models = [*settings["models"], model("anything", "found")]
            return changed(settings, discovery={"file": file, **more}, models=models)

        applied(gateway, looking(one))
        until(lambda: names(gateway) == ["found", "primary", "second"], "it is found")
        assert gateway.chat("anything").headers["x-ghostllm-backend"] == "found"
        calls = len(fakes.vllm.calls)
        assert calls == 1
        applied(gateway, changed(looking(one), log={"access": False}))
        assert names(gateway) == ["found", "primary", "second"], "a source that is as it was is left alone"
        applied(gateway, looking(two))
        until(lambda: names(gateway) == ["found", "more", "primary", "second"], "the other file is read")
        assert gateway.chat("anything").status == 200 and len(fakes.vllm.calls) == calls
        applied(gateway, settings)
        assert names(gateway) == ["primary", "second"], "what it had found is gone with it"
        assert not event(gateway, "discovery fails")


def test_what_was_found_is_configured(fakes: Fakes, tmp_path: Path) -> None:
    file = listed(tmp_path / "one.toml", found=fakes.vllm)
    settings = changed(base(fakes), discovery={"file": file}, models=[model("vllm", "found")])
    with Gateway(settings) as gateway:
        until(lambda: "found" in names(gateway), "it is found")
        mine = [*settings["backends"], backend("found", fakes.vllm, weight=2.0)]
        applied(gateway, changed(settings, backends=mine))
        rows = {one["name"]: one for one in backends(gateway)}
        assert rows["found"]["weight"] == 2.0, "the configuration wins"
        applied(gateway, settings)
        rows = {one["name"]: one for one in backends(gateway)}
        assert rows["found"]["weight"] == 1.0, "the source's claim holds again"
        assert whole(gateway.chat("vllm")) == WHOLE


def certificate(folder: Path, name: str) -> str:
    path = folder / name
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-out", str(path), "-keyout", str(folder / "key.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(path)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_of_another_content(fakes: Fakes, tmp_path: Path) -> None:
    authority = certificate(tmp_path, "ca.pem")
    tls = {"name": "tls", "kind": "openai", "url": "https://127.0.0.1:1", "tls_ca": authority}
    settings = changed(base(fakes), backends=[backend("primary", fakes.primary), tls])
    settings["models"] = [model("m", "primary")]
    with Gateway(settings) as gateway:
        assert reload(gateway).json()["applied"] is False
        shutil.copy(certificate(tmp_path, "other.pem"), authority)
        expected = {"path": "backends.tls.tls_ca", "change": "changed", "before": authority,
                    "after": f"{authority} (another content)"}  # fmt: skip
        assert gateway.ask("GET", f"{CONFIG}/diff").json()["changes"] == [expected]
        told = reload(gateway).json()
        assert told["applied"] is True and told["changes"] == [expected]
        assert reload(gateway).json()["applied"] is False
        Path(authority).write_text("nothing")
        problems = reload(gateway).json()["error"]["problems"]
        assert len(problems) == 1 and problems[0].startswith("backends.tls: cannot be used")
        assert whole(gateway.chat("m")) == WHOLE


def test_the_list_of_models_is_asked_for_as_often_as_is_configured(fakes: Fakes) -> None:
    settings = changed(base(fakes), models=[])
    with Gateway(settings) as gateway:
        routing = {"refresh": 0.05, "health": {"interval": 0.05, "load": 0}}
        applied(gateway, changed(settings, routing=routing))
        fakes.primary.models("brand-new")
        until(lambda: "brand-new" in gateway.ask("GET", "/v1/models").body.decode(), "it is listed")
        fakes.second.listen(False)
        assert logged(gateway, "backend is away")[0]["backend"] == "second"
        fakes.second.listen(True)
        fakes.primary.models("m")
