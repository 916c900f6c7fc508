"""Drives the fakes of providers with `requests`, by what the providers' references say.

Every expectation here holds for the real provider as well: point PROVIDER_URL at it and
PROVIDER_ADMIN at a login that may make keys, in an account that is for tests alone.
"""

import os
import sys
import uuid

import requests

URL = os.environ["PROVIDER_URL"]
ADMIN = os.environ["PROVIDER_ADMIN"]


def call(method, path, status, **named):
    """The call must be answered with this status; gives the answer."""
    answer = requests.request(method, URL + path, timeout=10, allow_redirects=False, **named)
    assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
    return answer


def resend():
    bearer = lambda token: {"Authorization": f"Bearer {token}"}
    admin = bearer(ADMIN)
    assert call("GET", "/api-keys", 401).json()["name"] == "missing_api_key"
    assert call("GET", "/api-keys", 400, headers=bearer("re_wrong")).json()["message"] == "API key is invalid"
    for wrong in [{}, {"name": "x" * 51}, {"name": "x", "permission": "root"}, {"name": "x", "nme": "y"}]:
        call("POST", "/api-keys", 400 if len(wrong.get("name", "")) > 50 else 422, json=wrong, headers=admin)

    mark = uuid.uuid4().hex
    made = []
    for number in range(5):
        scope = "sending_access" if number else "full_access"
        body = {"name": f"test-{number}-{mark}", "permission": scope}
        answer = call("POST", "/api-keys", 201, json=body, headers=admin).json()
        assert {"id", "token"} <= set(answer)
        made.append(answer)

    seen, after = [], {}
    while True:
        page = call("GET", "/api-keys", 200, params={"limit": 2, **after}, headers=admin).json()
        assert page["object"] == "list" and len(page["data"]) <= 2
        seen += page["data"]
        if not page["has_more"]:
            break
        after = {"after": page["data"][-1]["id"]}
    ours = [key for key in seen if key["name"].endswith(mark)]
    assert {key["id"] for key in ours} == {key["id"] for key in made}
    assert all("token" not in key for key in seen), "a secret is shown twice"
    call("GET", "/api-keys", 422, params={"limit": 101}, headers=admin)

    full, sending = made[0]["token"], made[1]["token"]
    call("GET", "/domains", 200, headers=bearer(full))
    refused = call("GET", "/domains", 401, headers=bearer(sending)).json()
    assert refused["name"] == "restricted_api_key" and refused["statusCode"] == 401
    call("POST", "/emails", 200, json={}, headers=bearer(sending))

    for key in made:
        call("DELETE", f"/api-keys/{key['id']}", 200, headers=admin)
    assert call("DELETE", f"/api-keys/{made[0]['id']}", 404, headers=admin).json()["name"] == "not_found"
    refused = call("POST", "/emails", 400, json={}, headers=bearer(sending)).json()
    assert refused["message"] == "API key is invalid"


{"resend": resend}[sys.argv[1]]()
print("all as expected")
