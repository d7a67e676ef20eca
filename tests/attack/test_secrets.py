"""Secrets under attack by who has a copy of the state directory: no byte of it confirms a guess once a tenant is erased."""

import json
from hashlib import sha256

from tests.api.small import FJORD, JOB, Small

PIN = "tulip-7391"
"""Digits alone would stand in a digest or a time of some journal by chance."""


def _stored(world: Small) -> bytes:
    return b"".join(
        path.read_bytes() for path in sorted(world.store.path.parent.rglob("*")) if path.is_file()
    )


def test_the_digest_of_a_submission_confirms_no_guess_of_its_secrets(world: Small) -> None:
    """A PIN has ten thousand values: a plain digest of the request that held it would tell which, erased or not."""
    body = json.dumps({"workloads": [JOB | {"secrets": {"PIN": PIN}}]}).encode()
    path, headers = f"/v1/tenants/{FJORD}/workloads", {"idempotency-key": "k"}
    first = world.ask("POST", path, body, headers=headers)
    again = world.ask("POST", path, body, headers=headers)
    assert (again.json["workloads"], again.json["repeated"]) == (first.json["workloads"], True)
    other = world.ask("POST", path, body.replace(PIN.encode(), b"tulip-7392"), headers=headers)
    assert other.codes == ["idempotency_mismatch"]
    yaml = b"kind: workload\nname: a\ntype: job\nproject: research\ncommands: [date]\nsecrets: {PIN: 'tulip-7391'}\n"
    given = {"content-type": "application/yaml", "idempotency-key": "another"}
    for pin, status in ((PIN.encode(), 200), (PIN.encode(), 200), (b"tulip-7392", 409)):
        applied = world.ask("POST", "/v1/apply", yaml.replace(PIN.encode(), pin), headers=given)
        assert applied.status == status, applied.body
    stored = _stored(world)
    assert PIN.encode() not in stored
    for guess in (body, body.replace(PIN.encode(), b"tulip-7392")):
        assert sha256(guess).hexdigest().encode() not in stored
        assert sha256(guess).digest() not in stored


def test_a_key_that_was_used_is_known_again_after_a_restart(world: Small) -> None:
    """Promise 3: the digest is the same as long as the tenant's key lives, whoever computes it."""
    body = json.dumps({"workloads": [JOB | {"secrets": {"PIN": PIN}}]}).encode()
    path, headers = f"/v1/tenants/{FJORD}/workloads", {"idempotency-key": "k"}
    first = world.ask("POST", path, body, headers=headers)
    world.control.recover()
    again = world.ask("POST", path, body, headers=headers)
    assert (again.json["workloads"], again.json["repeated"]) == (first.json["workloads"], True)


def test_no_error_repeats_a_secret(world: Small) -> None:
    """Whatever is wrong with a submission, what is told of it has no value of a secret or a variable in it."""
    wrong: list[dict[str, object]] = [
        {"secrets": {"PIN": [PIN + "-secret"]}},
        {"secrets": {PIN + "-secret": {"a": PIN + "-secret"}}, "env": {"X": "\0" + PIN + "-secret"}},
        {"secrets": {"PIN": "\0" + PIN + "-secret"}},
        {"secrets": {"PIN": PIN + "-secret"}, "env": {"PIN": PIN + "-secret"}},
        {"secrets": {"PIN": PIN + "-secret"}, "project": "nope"},
        {"secrets": {"PIN": PIN + "-secret"}, "site": "nope"},
        {"secrets": {"PIN": PIN + "-secret" * 10_000}},
        {"secrets": [PIN + "-secret"]},
        {"secrets": PIN + "-secret"},
        {"env": [PIN + "-secret"]},
    ]
    for one in wrong:
        answer = world.submit(JOB | one, token="member")
        assert answer.status in (400, 404), one
        told = (
            answer.body.decode()
            .replace(f"secrets/{PIN}-secret", "")
            .replace(f"'{PIN}-secret' can't name", "")
        )
        assert f"{PIN}-secret" not in told, told
