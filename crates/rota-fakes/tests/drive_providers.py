"""Drives the fakes of providers with `requests`, by what the providers' references say.

Every expectation here holds for the real provider as well: point PROVIDER_URL at it and
PROVIDER_ADMIN at a login that may make keys, in an account that is for tests alone.
"""

import email.utils
import json
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


def twilio():
    pair = json.loads(ADMIN)
    account = os.environ.get("TWILIO_ACCOUNT", "AC0123456789abcdef0123456789abcdef")
    admin = (pair["username"], pair["password"])
    keys = f"/2010-04-01/Accounts/{account}/Keys"
    refused = call("GET", f"{keys}.json", 401, auth=("SKwrong", "wrong")).json()
    assert refused["code"] == 20003 and refused["status"] == 401
    call("GET", "/2010-04-01/Accounts/ACwrong/Keys.json", 404, auth=admin)

    mark = uuid.uuid4().hex
    made = []
    for number in range(3):
        answer = call("POST", f"{keys}.json", 201, data={"FriendlyName": f"test-{number}-{mark}"}, auth=admin).json()
        assert answer["sid"].startswith("SK") and answer["friendly_name"].endswith(mark)
        assert email.utils.parsedate_to_datetime(answer["date_created"])
        made.append(answer)

    seen, page = [], f"{keys}.json?PageSize=2"
    while page:
        assert page.startswith("/2010-04-01/"), "a page is named from the slash"
        answer = call("GET", page, 200, auth=admin).json()
        assert len(answer["keys"]) <= 2
        seen += answer["keys"]
        page = answer["next_page_uri"]
    ours = {key["sid"] for key in seen if (key["friendly_name"] or "").endswith(mark)}
    assert ours == {key["sid"] for key in made}
    assert all("secret" not in key for key in seen), "a secret is shown twice"

    own = (made[0]["sid"], made[0]["secret"])
    call("GET", f"/2010-04-01/Accounts/{account}/IncomingPhoneNumbers.json", 200, auth=own)
    call("GET", f"{keys}.json", 401, auth=own)
    for key in made:
        assert call("DELETE", f"{keys}/{key['sid']}.json", 204, auth=admin).text == ""
    assert call("DELETE", f"{keys}/{made[0]['sid']}.json", 404, auth=admin).json()["code"] == 20404
    call("GET", f"/2010-04-01/Accounts/{account}/IncomingPhoneNumbers.json", 401, auth=own)


def sentry():
    keys = "/api/0/projects/acme/backend/keys/"
    admin = {"Authorization": f"Bearer {ADMIN}"}
    call("GET", keys, 401)
    call("GET", keys, 401, headers={"Authorization": "Bearer wrong"})
    call("GET", "/api/0/projects/acme/other/keys/", 404, headers=admin)
    call("POST", keys, 400, json={"name": "x" * 65}, headers=admin)
    key = call("POST", keys, 201, json={"name": "test"}, headers=admin).json()
    assert key["isActive"] and key["dsn"]["public"].startswith(f"https://{key['public']}@")
    assert key["id"] == key["public"]

    answer = call("GET", keys, 200, headers=admin)
    assert [listed["name"] for listed in answer.json()] == ["test"]
    links = {link["rel"]: link for link in requests.utils.parse_header_links(answer.headers["link"])}
    assert links["next"]["results"] == "false" and links["previous"]["results"] == "false"

    event = {"X-Sentry-Auth": f"Sentry sentry_version=7, sentry_key={key['public']}"}
    call("POST", "/api/1/envelope/", 200, headers=event)
    for active, status in [(False, 403), (True, 200)]:
        changed = call("PUT", f"{keys}{key['id']}/", 200, json={"isActive": active}, headers=admin).json()
        assert changed["isActive"] is active
        assert call("GET", f"{keys}{key['id']}/", 200, headers=admin).json()["isActive"] is active
        call("POST", "/api/1/envelope/", status, headers=event)
    call("DELETE", f"{keys}{key['id']}/", 204, headers=admin)
    call("DELETE", f"{keys}{key['id']}/", 404, headers=admin)
    call("GET", f"{keys}{key['id']}/", 404, headers=admin)
    call("POST", "/api/1/envelope/", 403, headers=event)


def openai():
    bearer = lambda token: {"Authorization": f"Bearer {token}"}
    accounts = "/v1/organization/projects/proj_abc/service_accounts"
    admin = bearer(ADMIN)
    call("GET", accounts, 401)
    wrong = call("GET", accounts, 401, headers=bearer("sk-wrong")).json()["error"]
    assert wrong["code"] == "invalid_api_key" and "sk-wrong" in wrong["message"], "OpenAI repeats what was shown"
    call("POST", accounts, 400, json={}, headers=admin)
    call("POST", accounts, 400, json={"name": "x", "nme": "y"}, headers=admin)

    made = [call("POST", accounts, 200, json={"name": f"test-{n}"}, headers=admin).json() for n in range(3)]
    assert all(one["api_key"]["value"].startswith("sk-") and one["id"] for one in made)
    seen, after = [], {}
    while True:
        page = call("GET", accounts, 200, params={"limit": 2, **after}, headers=admin).json()
        seen += page["data"]
        assert page["last_id"] == page["data"][-1]["id"]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert {one["id"] for one in seen} == {one["id"] for one in made}
    assert all("api_key" not in one for one in seen), "a secret is shown twice"
    call("GET", accounts, 400, params={"limit": 101}, headers=admin)

    own = bearer(made[0]["api_key"]["value"])
    call("GET", "/v1/models", 200, headers=own)
    call("GET", accounts, 403, headers=own)
    for one in made:
        gone = call("DELETE", f"{accounts}/{one['id']}", 200, headers=admin).json()
        assert gone["deleted"] is True and gone["id"] == one["id"]
    call("DELETE", f"{accounts}/{made[0]['id']}", 404, headers=admin)
    call("GET", "/v1/models", 401, headers=own)


{"resend": resend, "twilio": twilio, "sentry": sentry, "openai": openai}[sys.argv[1]]()
print("all as expected")
