"""A client's mistake is a 4xx whose message says what to do."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import quote

import httpx
import pydantic
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from crestline.wire.codec import camelize
from harness.gateway import RunningGateway

JOBS = "/compute/local/jobs"
SCRIPT = "#!/bin/sh\ntrue\n"


@pytest.fixture(scope="module")
def http(gateway: RunningGateway) -> Any:
    with gateway.http() as client:
        yield client


def work(gateway: RunningGateway) -> str:
    return f"{gateway.home}/files"


def submission(gateway: RunningGateway, **fields: Any) -> dict[str, Any]:
    return {"job": {"workingDirectory": work(gateway), "script": SCRIPT, **fields}}


def assert_refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"errorType", "message", "causedBy", "data", "user"}
    for word in words:
        assert word in body["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["body"]),
        (b'{"job":', ["not JSON"]),
        (b"\xff\xfe", ["not JSON"]),
        (b"null", ["object"]),
        (b"[]", ["object"]),
        (b"{}", ["job"]),
        (b'{"job": {}}', ["workingDirectory"]),
        (b'{"job": {"workingDirectory": 3}}', ["job.workingDirectory"]),
        (b'{"job": {"workingDirectory": "/tmp", "script": "#!/bin/sh", "env": 1}}', ["job.env"]),
        (b'{"job": {"workingDirectory": "/tmp", "script": "#!/bin/sh", "env": {"A": {}}}}', ["job.env"]),
    ],
)
def test_malformed_submissions(http: httpx.Client, body: bytes, words: list[str]) -> None:
    answer = http.post(JOBS, content=body, headers={"Content-Type": "application/json"})
    assert_refused(answer, 400, *words)
    assert answer.json()["errorType"] == "validation"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"script": None}, "script"),
        ({"script": "echo no interpreter\n"}, "#!"),
        ({"scriptPath": "/tmp/also"}, "script"),
        ({"script": None, "scriptPath": "/no/such/script"}, "No such file"),
        ({"workingDirectory": "/no/such/directory"}, "/no/such/directory"),
        ({"workingDirectory": "relative"}, "absolute"),
        ({"partition": "nosuch"}, "nosuch"),
        ({"script": "#!/bin/sh\n#SBATCH --nodes=100000\ntrue\n"}, "node"),
        ({"script": "#!/bin/sh\n#SBATCH --time=soon\ntrue\n"}, "time"),
        ({"script": "#!/bin/sh\n#SBATCH --array=9-1\ntrue\n"}, "array"),
        ({"script": "#!/bin/sh\n#SBATCH --dependency=afterok:x\ntrue\n"}, "dependency"),
        ({"env": {"BAD NAME=": "x"}}, "BAD NAME"),
    ],
)
def test_jobs_that_cannot_be(http: httpx.Client, gateway: RunningGateway, fields: dict[str, Any], word: str) -> None:
    assert_refused(http.post(JOBS, json=submission(gateway, **fields)), 400, word)


def test_a_name_of_300_characters(http: httpx.Client, gateway: RunningGateway) -> None:
    assert_refused(http.get(JOBS, params={"name": "n" * 300}), 400, "name")
    answer = http.post(JOBS, json=submission(gateway, name="n" * 300))
    if answer.status_code == 201:  # then it is listed under that name
        jobs = http.get(f"{JOBS}/{answer.json()['jobId']}").json()["jobs"]
        assert jobs[0]["name"] == "n" * 300
    else:
        assert_refused(answer, 400, "name")
    path = f"{work(gateway)}/{'f' * 300}"
    assert_refused(http.post("/filesystem/local/ops/mkdir", json={"path": path}), 400, "name")


@pytest.mark.parametrize("job_id", ["999999", "abc", "12_3", "1;id", "%00", "..", "a" * 65, "%2e%2e"])
@pytest.mark.parametrize("call", ["GET", "DELETE", "metadata", "attach"])
def test_jobs_that_are_not_there(http: httpx.Client, job_id: str, call: str) -> None:
    url = f"{JOBS}/{job_id}"
    match call:
        case "metadata":
            answer = http.get(f"{url}/metadata")
        case "attach":
            answer = http.put(f"{url}/attach", json={"command": "true"})
        case method:
            answer = http.request(method, url)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["message"]


@pytest.mark.parametrize(
    "path",
    ["relative", "", "/", "/etc/passwd", f"{{work}}{'/..' * 8}/etc/passwd", "{work}/\x00", "{work}/../private"],
)
@pytest.mark.parametrize("call", ["ls", "view", "stat", "download", "checksum", "tail", "rm", "mkdir", "upload"])
def test_paths_outside_the_file_systems(http: httpx.Client, gateway: RunningGateway, call: str, path: str) -> None:
    path = path.replace("{work}", work(gateway))
    url = f"/filesystem/local/ops/{call}"
    if call == "mkdir":
        answer = http.post(url, json={"path": path})
    elif call == "upload":
        answer = http.post(url, params={"path": path}, files={"file": ("x", b"x")})
    elif call == "rm":
        answer = http.delete(url, params={"path": path})
    else:
        answer = http.get(url, params={"path": path})
    assert answer.status_code in (400, 403), answer.text
    assert "root:" not in answer.text


def test_a_link_does_not_lead_outside(http: httpx.Client, gateway: RunningGateway) -> None:
    link = gateway.home / "files" / "escape"
    link.symlink_to("/etc")
    assert http.get("/filesystem/local/ops/view", params={"path": f"{link}/passwd"}).status_code in (400, 403)


def test_the_gateways_own_secrets_are_not_served(http: httpx.Client, gateway: RunningGateway) -> None:
    for name in ("client.json", "private/signing_key.json", "private"):
        for call in ("view", "ls", "download", "stat"):
            answer = http.get(f"/filesystem/local/ops/{call}", params={"path": f"{gateway.home}/{name}"})
            assert answer.status_code in (400, 403), (name, call, answer.text)


def test_unknown_places(http: httpx.Client) -> None:
    assert_refused(http.get("/compute/nowhere/jobs"), 404, "System not found", "local")
    assert_refused(http.get("/no/such/route"), 404)
    assert http.patch(JOBS).status_code == 405


def test_names_match_in_any_case(http: httpx.Client) -> None:
    assert http.get("/Compute/LOCAL/Jobs").status_code == 200
    assert http.get("/STATUS/Local/NODES").status_code == 200


def test_oversize_bodies(http: httpx.Client, gateway: RunningGateway) -> None:
    answer = http.post(JOBS, content=b"x" * (65 * 1024 * 1024), headers={"Content-Type": "application/json"})
    assert_refused(answer, 413)
    answer = http.post(
        "/filesystem/local/ops/upload", params={"path": work(gateway)}, files={"file": ("x", b"x" * (5 * 1024**2 + 1))}
    )
    assert_refused(answer, 413, "File to upload is too large.")


def b64(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))


def header_of(token: str) -> dict[str, Any]:
    head = token.split(".")[0]
    return dict(json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))))


def forged(gateway: RunningGateway) -> dict[str, str]:
    """Tokens that must not pass, by what is wrong with them."""
    good = gateway.token()
    head, claims = header_of(good), claims_of(good)
    other = RSAKey.generate_key(2048, private=True)
    public = httpx.get(f"{gateway.url}/oauth2/jwks").json()["keys"][0]
    tampered = good.split(".")
    return {
        "garbage": "garbage",  # no hexadecimal digits alone, which a request id could hold
        "dots": "a.b.c",
        "another user": ".".join([tampered[0], b64(claims | {"preferred_username": "mallory"}), tampered[2]]),
        "no signature": ".".join([*tampered[:2], ""]),
        "alg none": f"{b64(head | {'alg': 'none'})}.{tampered[1]}.",
        "another key": jwt.encode({"alg": "RS256", "kid": head["kid"]}, claims, other),
        "unknown kid": jwt.encode({"alg": "RS256", "kid": "nosuch"}, claims, other),
        "public key as secret": jwt.encode(
            {"alg": "HS256", "kid": head["kid"]}, claims, OctKey.import_key(json.dumps(public)), algorithms=["HS256"]
        ),
    }


def signed(gateway: RunningGateway, **claims: Any) -> str:
    """A token with the gateway's own key, as a leak of another audience's token would be."""
    key = RSAKey.import_key(json.loads((gateway.home / "private" / "signing_key.json").read_text()))
    key.ensure_kid()
    return str(jwt.encode({"alg": "RS256", "kid": key.kid}, claims_of(gateway.token()) | claims, key))


def test_forged_tokens(gateway: RunningGateway) -> None:
    for what, token in forged(gateway).items():
        answer = httpx.get(f"{gateway.url}/status/systems", headers={"Authorization": f"Bearer {token}"})
        assert_refused(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer", what
        assert token not in answer.text + str(answer.headers), what


@pytest.mark.parametrize(
    ("claims", "status", "words"),
    [
        ({"lives": -10}, 401, "Access token expired"),
        ({"lives": 20}, 401, "expires too soon"),
        ({"aud": "another"}, 401, "Access token is invalid"),
        ({"iss": "https://elsewhere"}, 401, "Access token is invalid"),
        ({"preferred_username": None}, 400, "preferred_username"),
    ],
)
def test_tokens_that_have_no_use_here(gateway: RunningGateway, claims: dict[str, Any], status: int, words: str) -> None:
    if "lives" in claims:
        claims = {"exp": int(time.time()) + claims["lives"]}
    token = signed(gateway, **claims)
    answer = httpx.get(f"{gateway.url}/status/systems", headers={"Authorization": f"Bearer {token}"})
    assert_refused(answer, status, words)


@pytest.mark.parametrize("header", [{}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}])
def test_no_token(gateway: RunningGateway, header: dict[str, str]) -> None:
    assert_refused(httpx.get(f"{gateway.url}{JOBS}", headers=header), 401, "Not authenticated")
    # Who may not come in does not learn what the body lacks.
    assert_refused(httpx.post(f"{gateway.url}{JOBS}", headers=header, json={}), 401, "Not authenticated")


def test_liveness_and_keys_are_open_and_nothing_else_is(gateway: RunningGateway) -> None:
    document = httpx.get(f"{gateway.url}/docs/openapi.json").json()
    refused = []
    for path, operations in document["paths"].items():
        for method in operations:
            url = gateway.url + path.replace("{system_name}", "local").replace("{job_id}", "1")
            answer = httpx.request(method, url)
            if answer.status_code != 401:
                refused.append((method, path))
    open_to_all = ("/oauth2", "/.well-known", "/status/liveness", "/status/readiness", "/transfers")
    assert [each for each in refused if not each[1].startswith(open_to_all)] == []


@pytest.mark.parametrize("path", ["ls", "stat", "head", "tail", "view", "checksum", "file", "download", "tar"])
def test_a_missing_parameter_is_named(http: httpx.Client, path: str) -> None:
    assert_refused(http.get(f"/filesystem/local/ops/{path}"), 400, "path", "required")


@pytest.mark.parametrize(
    ("query", "name"), [("ls?path=/tmp&showHidden=no-bool", "showHidden"), ("head?path=/tmp/x&bytes=many", "bytes")]
)
def test_a_wrong_parameter_has_its_name_in_the_request(http: httpx.Client, query: str, name: str) -> None:
    answer = http.get(f"/filesystem/local/ops/{query}")
    assert_refused(answer, 400, f"{name}: ")
    assert [field["name"] for field in answer.json()["data"]["fields"]] == [name]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (bool, "true True TRUE 1 0 yes YES on On off t T f y n no 2 -1 1.0 01 wrong"),
        (int, "5 +5 -5 05 1_000 1__0 _1 5.0 5.5 0x10 true five"),
    ],
)
def test_words_of_a_query_are_taken_as_by_firecrest(http: httpx.Client, kind: type, words: str) -> None:
    """FirecREST's parameters are read by pydantic."""
    parameters = {
        bool: [
            *(f"/filesystem/local/ops/ls?path=/nowhere&{name}=" for name in ("showHidden", "show_hidden", "recursive")),
            "/filesystem/local/ops/stat?path=/nowhere&dereference=",
            "/filesystem/local/ops/tail?path=/nowhere&lines=1&skipHeading=",
            f"{JOBS}?allusers=",
            "/status/local/partitions?show_hidden=",
        ],
        int: [
            "/filesystem/local/ops/head?path=/nowhere&bytes=",
            "/filesystem/local/ops/tail?path=/nowhere&lines=",
            "/filesystem/local/ops/view?path=/nowhere&offset=",
        ],
    }[kind]
    differing = []
    for word in [*words.split(), "", " 5", "5 ", "\u0665"]:
        try:
            pydantic.TypeAdapter(kind).validate_python(word)
            is_valid = True
        except pydantic.ValidationError:
            is_valid = False
        for parameter in parameters:
            answer = http.get(parameter + quote(word))
            name = parameter.rpartition("&")[2].rpartition("?")[2].removesuffix("=")
            named = answer.json().get("data") or {}
            refused = {camelize(field["name"]) for field in named.get("fields") or ()}
            if (camelize(name) not in refused) is not is_valid:
                differing.append((parameter, word, answer.text))
    assert differing == []


def test_filters_of_the_job_list(http: httpx.Client, gateway: RunningGateway) -> None:
    """As FirecREST and Slurm: an empty filter is none, several values are alternatives."""
    made = {}
    for name, account in [("filter-a", "one"), ("filter-b", "two"), ("filter,c", "three")]:
        answer = http.post(JOBS, json=submission(gateway, name=name, account=account))
        made[answer.json()["jobId"]] = name

    def listed(**query: str) -> set[str]:
        jobs = http.get(JOBS, params=query).json()["jobs"]
        return {made[job["jobId"]] for job in jobs if job["jobId"] in made}

    everything = set(made.values())
    assert listed(name="", account="") == everything
    assert listed(name="filter-a,filter-b") == {"filter-a", "filter-b"}
    assert listed(name="filter,c") == {"filter,c"}
    assert listed(account="two,three") == {"filter-b", "filter,c"}
    assert listed(name="filter-a", account="two") == set()


def test_options_names_every_method_of_a_path(gateway: RunningGateway) -> None:
    expected = {
        "/compute/local/jobs": "GET, OPTIONS, POST",
        "/compute/local/jobs/1": "DELETE, GET, OPTIONS",
        "/filesystem/local/ops/content": "GET, HEAD, OPTIONS, PUT",
        "/filesystem/LOCAL/ops/tar": "GET, OPTIONS, POST, PUT",
        "/keys": "GET, OPTIONS, POST",
        "/oauth2/token": "OPTIONS, POST",
        "/": "GET, OPTIONS",
    }
    found = {path: httpx.options(f"{gateway.url}{path}") for path in expected}
    assert {path: answer.headers["Allow"] for path, answer in found.items()} == expected
    assert {answer.status_code for answer in found.values()} == {204}
    assert httpx.options(f"{gateway.url}/nowhere").status_code == 404
