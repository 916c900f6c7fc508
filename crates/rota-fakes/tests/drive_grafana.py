"""Drives a Grafana server as the examples of its documentation do, with `requests`.

Every expectation here holds for a real Grafana (10 or later, its first start, default
configuration) as well: point GRAFANA_URL at one to see it. It ends with the password of the
administrator as it was, and one user more.
"""

import os
import uuid

import requests

URL = os.environ["GRAFANA_URL"]
ADMIN = ("admin", os.environ.get("GRAFANA_PASSWORD", "admin"))
USER = f"probe-{uuid.uuid4().hex[:8]}"


def call(method, path, login, body=None, **named):
    """The status and the body of an answer."""
    answer = requests.request(method, f"{URL}/api/{path}", auth=login, json=body, timeout=10, **named)
    return answer.status_code, answer.json()


def told(answer, status, message):
    """The answer has this status and this sentence."""
    assert answer[0] == status, answer
    assert answer[1]["message"] == message, answer


def health():
    status, body = call("GET", "health", None)
    assert status == 200 and body["database"] == "ok"


def logins():
    told(call("GET", "user", None), 401, "Unauthorized")
    status, body = call("GET", "user", (ADMIN[0], "not the password"))
    assert (status, body["messageId"]) == (401, "password-auth.failed"), body
    told((status, body), 401, "Invalid username or password")
    told(call("GET", "user", ("nobody", "x")), 401, "Invalid username or password")
    status, body = call("GET", "user", ADMIN)
    assert status == 200 and body["login"] == "admin" and body["isGrafanaAdmin"] is True, body


def users():
    status, body = call("POST", "admin/users", ADMIN, {"login": USER, "email": "", "password": "first-word"})
    assert (status, body["message"]) == (200, "User created"), body
    number = body["id"]
    status, body = call("GET", "users/lookup", ADMIN, params={"loginOrEmail": USER})
    assert status == 200 and body["id"] == number and body["login"] == USER, body
    told(call("GET", "users/lookup", ADMIN, params={"loginOrEmail": "nobody"}), 404, "user not found")
    told(call("GET", "users/999999", ADMIN), 404, "user not found")
    status, body = call("GET", "users/lookup", (USER, "first-word"), params={"loginOrEmail": "admin"})
    assert status == 403 and "users:read" in body["message"], body
    return number


def passwords(number):
    path = f"admin/users/{number}/password"
    told(call("PUT", path, ADMIN, {"password": "second-word"}), 200, "User password updated")
    assert call("GET", "user", (USER, "second-word"))[0] == 200
    assert call("GET", "user", (USER, "first-word"))[0] == 401
    told(call("PUT", path, ADMIN, {"password": "abc"}), 400, "New password is too short")
    assert call("PUT", path, (USER, "second-word"), {"password": "third-word"})[0] == 403
    told(call("PUT", "admin/users/x/password", ADMIN, {"password": "third-word"}), 400, "id is invalid")
    answer = requests.put(f"{URL}/api/{path}", auth=ADMIN, data="{", headers={"content-type": "application/json"}, timeout=10)
    assert answer.status_code == 400, answer.text

    own = {"oldPassword": "second-word", "newPassword": "third-word", "confirmNew": "third-word"}
    told(call("PUT", "user/password", (USER, "second-word"), own), 200, "User password changed")
    told(call("PUT", "user/password", (USER, "third-word"), own), 401, "Invalid old password")
    assert call("GET", "user", (USER, "third-word"))[0] == 200


def guessing():
    for _ in range(5):
        assert call("GET", "user", (USER, "a guess"))[0] == 401
    status, body = call("GET", "user", (USER, "third-word"))
    assert status == 401, "the right password is let in after five guesses"
    assert body["message"] == "Invalid username or password", body
    assert call("GET", "user", ADMIN)[0] == 200


health()
logins()
passwords(users())
guessing()
print("all as expected")
