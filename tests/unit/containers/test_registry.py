"""What a registry is asked, and what is said when it answers otherwise than hoped."""

import base64
import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurmeval.containers.reference import Reference
from slurmeval.containers.registry import Named, Registry
from slurmeval.errors import SlurmevalError, UserError
from tests.stand_ins.stand_in_registry import StandInRegistry

FRUIT = {"bin/apple": "#!/bin/sh\necho ripe\n"}
LOGIN = ("me", "a-secret-password")
Ask = Callable[..., Registry]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without logins, and no other either."""
    for program in ("APPTAINER", "SINGULARITY"):
        for name in ("DOCKER_USERNAME", "DOCKER_PASSWORD", "NOHTTPS", "NO_HTTPS", "CONFIGDIR"):
            monkeypatch.delenv(f"{program}_{name}", raising=False)
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def registry(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInRegistry]:
    monkeypatch.setenv("APPTAINER_NOHTTPS", "true")
    with StandInRegistry() as running:
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def ask(registry: StandInRegistry, waits: list[float]) -> Ask:
    """A question about an image of the registry; no time passes while it waits."""

    def about(name: str = "acme/fruit:1.0") -> Registry:
        reference = Reference.parse(f"{registry.host}/{name}")
        return Registry("image fruit", reference, lambda _: None, waits.append)

    return about


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nvcr.io/nvidia/eval-factory/bfcl:26.03", "nvcr.io/nvidia/eval-factory/bfcl:26.03"),
        ("docker://nvcr.io/a/b:1", "nvcr.io/a/b:1"),
        ("python", "docker.io/library/python:latest"),
        ("vllm/vllm-openai:v0.32.0", "docker.io/vllm/vllm-openai:v0.32.0"),
        ("docker.io/vllm/vllm-openai:v1", "docker.io/vllm/vllm-openai:v1"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        ("localhost/a:b", "localhost/a:b"),
        (f"q.io/a@sha256:{'0' * 64}", f"q.io/a@sha256:{'0' * 64}"),
    ],
)
def test_names_are_read_as_registries_have_them(text: str, full: str) -> None:
    assert str(Reference.parse(text)) == full


@pytest.mark.parametrize("text", ["", "UPPER/case", "a b", "nvcr.io/", "x@sha256:12", "oras://x/y"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="names no image"):
        Reference.parse(text)


def test_a_tag_is_resolved_to_the_digest_of_one_image(registry: StandInRegistry, ask: Ask) -> None:
    digest = registry.push("acme/fruit", "1.0", FRUIT)
    assert ask().named() == Named(digest, ("amd64",))
    assert ask().digest() == digest


def test_a_tag_is_resolved_to_the_digest_of_an_index(registry: StandInRegistry, ask: Ask) -> None:
    digest = registry.push("acme/fruit", "1.0", FRUIT, architectures=("amd64", "arm64"))
    assert ask().named() == Named(digest, ("amd64", "arm64"))


def test_layers_are_those_of_the_architecture(registry: StandInRegistry, ask: Ask) -> None:
    digest = registry.push("acme/fruit", "1.0", FRUIT, architectures=("amd64", "arm64"))
    sizes = {architecture: ask().layers(digest, architecture) for architecture in ("amd64", "arm64")}
    assert sizes["amd64"][0] != sizes["arm64"][0]
    assert sizes["amd64"][1].size == len(json.dumps(FRUIT))


@pytest.mark.parametrize("index", [True, False])
def test_wrong_architecture_names_what_there_is(registry: StandInRegistry, ask: Ask, index: bool) -> None:
    digest = registry.push("acme/fruit", "1.0", FRUIT, architectures=("arm64",), index=index)
    with pytest.raises(UserError, match=r"is not made for amd64, .* there is: arm64$"):
        ask().layers(digest, "amd64")


def test_missing_tag_names_others(registry: StandInRegistry, ask: Ask) -> None:
    for tag in ("26.01", "26.03", "nightly"):
        registry.push("acme/fruit", tag, FRUIT)
    with pytest.raises(UserError, match=r"has no tag 26\.04; there are 3 others, such as 26\.0"):
        ask("acme/fruit:26.04").named()


def test_digest_that_is_gone_is_said(registry: StandInRegistry, ask: Ask) -> None:
    registry.push("acme/fruit", "1.0", FRUIT)
    with pytest.raises(UserError, match="no such digest of acme/fruit"):
        ask().layers(f"sha256:{'0' * 64}", "amd64")


def test_an_altered_manifest_is_not_believed(registry: StandInRegistry, ask: Ask) -> None:
    registry.push("acme/fruit", "1.0", FRUIT)
    registry.faults.lie = True
    with pytest.raises(SlurmevalError, match="sent something else than sha256:"):
        ask().named()


def test_a_token_is_had_without_a_login(registry: StandInRegistry, ask: Ask) -> None:
    digest = registry.push("acme/fruit", "1.0", FRUIT)
    registry.faults.token_for_all = True
    assert ask().named().digest == digest
    assert registry.count("/token") == 1


def log_in(home: Path, content: object, folder: str = ".docker", name: str = "config.json") -> None:
    file = home / folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def auth(login: tuple[str, str] = LOGIN) -> dict[str, str]:
    return {"auth": base64.b64encode(":".join(login).encode()).decode()}


@pytest.mark.parametrize("kind", ["basic", "bearer"])
@pytest.mark.parametrize(
    ("folder", "name"), [(".docker", "config.json"), (".apptainer", "docker-config.json")]
)
def test_the_login_of_the_standard_files_is_used(
    registry: StandInRegistry, ask: Ask, home: Path, kind: str, folder: str, name: str
) -> None:
    digest = registry.push("acme/fruit", "1.0", FRUIT)
    registry.faults.login, registry.faults.kind = LOGIN, kind
    log_in(home, {"auths": {"other.example": auth(("x", "y")), registry.host: auth()}}, folder, name)
    assert ask().named().digest == digest


def test_the_login_of_the_variables_is_used(
    registry: StandInRegistry, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = registry.push("acme/fruit", "1.0", FRUIT)
    registry.faults.login = LOGIN
    monkeypatch.setenv("APPTAINER_DOCKER_USERNAME", LOGIN[0])
    monkeypatch.setenv("APPTAINER_DOCKER_PASSWORD", LOGIN[1])
    assert ask().named().digest == digest


@pytest.mark.parametrize("key", ["credHelpers", "credsStore"])
@pytest.mark.parametrize("user", ["me", "<token>"])
def test_the_login_of_a_helper_is_used(
    registry: StandInRegistry,
    ask: Ask,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    user: str,
) -> None:
    digest = registry.push("acme/fruit", "1.0", FRUIT)
    registry.faults.login = LOGIN
    helper = tmp_path / "bin" / "docker-credential-vault"
    helper.parent.mkdir()
    answer = json.dumps({"Username": user, "Secret": LOGIN[1]})
    helper.write_text(f'#!/bin/sh\n[ "$1 $(cat)" = "get {registry.host}" ] && echo \'{answer}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    log_in(home, {key: {registry.host: "vault"} if key == "credHelpers" else "vault"})
    assert ask().named().digest == digest


def test_without_a_login_it_says_how_to_log_in(registry: StandInRegistry, ask: Ask) -> None:
    registry.push("acme/fruit", "1.0", FRUIT)
    registry.faults.login = LOGIN
    with pytest.raises(UserError, match=r"\(401\): log in with `apptainer registry login --username NAME"):
        ask().named()


def test_a_refused_login_is_named_by_its_place_and_not_shown(
    registry: StandInRegistry, ask: Ask, home: Path
) -> None:
    registry.push("acme/fruit", "1.0", FRUIT)
    registry.faults.login = LOGIN
    log_in(home, {"auths": {registry.host: auth(("someone", "another-password"))}})
    with pytest.raises(UserError, match=r"with the login of .*config.json") as caught:
        ask().named()
    shown = f"{caught.value!r} {ask()!r}"
    assert "someone" not in shown
    assert "another-password" not in shown


def test_a_broken_login_file_is_not_shown(registry: StandInRegistry, ask: Ask, home: Path) -> None:
    registry.faults.login = LOGIN
    file = home / ".docker" / "config.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"auths": "a-secret-password')
    with pytest.raises(UserError, match="is no JSON") as caught:
        ask().named()
    assert "a-secret-password" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_registry_is_asked_again_when_it_says(
    registry: StandInRegistry, ask: Ask, waits: list[float], status: int
) -> None:
    digest = registry.push("acme/fruit", "1.0", FRUIT)
    registry.faults.busy, registry.faults.busy_status, registry.faults.retry_after = 2, status, "7"
    assert ask().digest() == digest
    assert waits == [7, 7]


def test_without_retry_after_the_waits_grow(registry: StandInRegistry, ask: Ask, waits: list[float]) -> None:
    registry.push("acme/fruit", "1.0", FRUIT)
    registry.faults.busy, registry.faults.retry_after = 4, None
    ask().digest()
    assert [round(wait / expected) for wait, expected in zip(waits, [1, 2, 4, 8], strict=True)] == [1] * 4


def test_a_registry_that_stays_busy_is_given_up(registry: StandInRegistry, ask: Ask) -> None:
    registry.faults.busy = 100
    with pytest.raises(SlurmevalError, match="answers 429 again and again: try later, or log in"):
        ask().digest()


def test_a_registry_that_wants_an_hour_is_not_waited_for(
    registry: StandInRegistry, ask: Ask, waits: list[float]
) -> None:
    registry.faults.busy, registry.faults.retry_after = 100, "3600"
    with pytest.raises(SlurmevalError, match="answers 429"):
        ask().digest()
    assert waits == []


def test_a_registry_that_is_down_is_said_in_one_line(home: Path, waits: list[float]) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        reference = Reference.parse(f"localhost:{taken.getsockname()[1]}/acme/fruit:1.0")
        with pytest.raises(SlurmevalError, match=r"cannot be reached .*Connection refused") as caught:
            Registry("image fruit", reference, lambda _: None, waits.append).named()
    assert "\n" not in str(caught.value)
    assert len(waits) == 3


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of localhost that nobody vouches for, with its key beside it."""
    file = tmp_path / "certificate.pem"
    argv = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    argv += [
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        str(tmp_path / "key.pem"),
        "-out",
        str(file),
    ]
    subprocess.run(argv, check=True, capture_output=True)
    return file


@pytest.fixture
def safe_registry(home: Path, certificate: Path) -> Iterator[StandInRegistry]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with StandInRegistry(context) as running:
        yield running


def test_an_untrusted_certificate_says_what_to_set(safe_registry: StandInRegistry) -> None:
    reference = Reference.parse(f"{safe_registry.host}/acme/fruit:1.0")
    with pytest.raises(UserError, match=r"is not trusted .*: set SSL_CERT_FILE"):
        Registry("image fruit", reference, lambda _: None).named()


def test_the_authority_of_ssl_cert_file_is_trusted(
    safe_registry: StandInRegistry, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    digest = safe_registry.push("acme/fruit", "1.0", FRUIT)
    safe_registry.faults.token_for_all = True
    reference = Reference.parse(f"{safe_registry.host}/acme/fruit:1.0")
    assert Registry("image fruit", reference, lambda _: None).named().digest == digest
