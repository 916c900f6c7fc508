"""Drives a Vault server with hvac, the Python client of the real product.

Every expectation here holds for a real Vault with KV version 2 at secret/ and
AppRole at approle/ as well: point VAULT_ADDR and VAULT_TOKEN at one to see it.
"""

import os

import hvac
from hvac import exceptions

ROOT = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ["VAULT_TOKEN"])
PATH = "hvac/one"


def refused(error, call, *arguments, **named):
    """The call must fail in exactly this way; gives the error."""
    try:
        call(*arguments, **named)
    except error as raised:
        assert type(raised) is error, raised
        return raised
    raise AssertionError(f"{call.__name__} was not refused")


def key_value():
    kv = ROOT.secrets.kv.v2
    kv.delete_metadata_and_all_versions(PATH)
    first = kv.create_or_update_secret(PATH, {"value": "one"}, cas=0)
    assert first["data"]["version"] == 1
    missed = refused(exceptions.InvalidRequest, kv.create_or_update_secret, PATH, {"value": "two"}, cas=0)
    assert "check-and-set parameter did not match the current version" in str(missed)
    assert kv.create_or_update_secret(PATH, {"value": "two"}, cas=1)["data"]["version"] == 2
    latest = kv.read_secret_version(PATH, raise_on_deleted_version=True)
    assert latest["data"]["data"] == {"value": "two"}
    older = kv.read_secret_version(PATH, version=1, raise_on_deleted_version=True)
    assert older["data"]["data"] == {"value": "one"}

    kv.delete_latest_version_of_secret(PATH)
    refused(exceptions.InvalidPath, kv.read_secret_version, PATH, raise_on_deleted_version=True)
    deleted = kv.read_secret_version(PATH, raise_on_deleted_version=False)
    assert deleted["data"]["data"] is None
    assert deleted["data"]["metadata"]["deletion_time"] != ""
    kv.undelete_secret_versions(PATH, versions=[2])
    assert kv.read_secret_version(PATH, raise_on_deleted_version=True)["data"]["metadata"]["version"] == 2
    kv.destroy_secret_versions(PATH, versions=[1])
    metadata = kv.read_secret_metadata(PATH)["data"]
    assert metadata["current_version"] == 2
    assert metadata["versions"]["1"]["destroyed"] is True
    assert metadata["versions"]["2"]["destroyed"] is False

    kv.update_metadata(PATH, max_versions=3, cas_required=True, custom_metadata={"team": "acd"})
    metadata = kv.read_secret_metadata(PATH)["data"]
    assert (metadata["max_versions"], metadata["cas_required"]) == (3, True)
    assert metadata["custom_metadata"] == {"team": "acd"}
    unset = refused(exceptions.InvalidRequest, kv.create_or_update_secret, PATH, {"value": "three"})
    assert "check-and-set parameter required for this call" in str(unset)
    assert kv.list_secrets("hvac")["data"]["keys"] == ["one"]
    refused(exceptions.InvalidPath, kv.list_secrets, "hvac/none")
    kv.delete_metadata_and_all_versions(PATH)
    refused(exceptions.InvalidPath, kv.read_secret_metadata, PATH)

    before = kv.read_configuration()["data"]
    kv.configure(max_versions=7, cas_required=False, delete_version_after="1h30m")
    config = kv.read_configuration()["data"]
    assert (config["max_versions"], config["delete_version_after"]) == (7, "1h30m0s")
    kv.configure(before["max_versions"], before["cas_required"], before["delete_version_after"])


def app_role():
    policy = 'path "secret/data/hvac/*" { capabilities = ["read"] }'
    ROOT.sys.create_or_update_policy("hvac-reader", policy)
    assert "hvac-reader" in ROOT.sys.list_policies()["data"]["policies"]
    roles = ROOT.auth.approle
    roles.create_or_update_approle("hvac", token_policies=["hvac-reader"], token_ttl="15m", token_max_ttl="30m")
    role_id = roles.read_role_id("hvac")["data"]["role_id"]
    secret = roles.generate_secret_id("hvac")["data"]
    client = hvac.Client(url=ROOT.url)
    login = client.auth.approle.login(role_id, secret["secret_id"])
    assert login["auth"]["lease_duration"] == 900
    assert client.is_authenticated()

    ROOT.secrets.kv.v2.create_or_update_secret("hvac/two", {"value": "x"})
    read = client.secrets.kv.v2.read_secret_version("hvac/two", raise_on_deleted_version=True)
    assert read["data"]["data"] == {"value": "x"}
    refused(exceptions.Forbidden, client.secrets.kv.v2.create_or_update_secret, "hvac/two", {"value": "y"})
    refused(exceptions.Forbidden, client.secrets.kv.v2.read_secret_metadata, "hvac/two")
    capabilities = client.sys.get_capabilities(paths=["secret/data/hvac/two"])
    assert capabilities["data"]["secret/data/hvac/two"] == ["read"]

    renewed = client.auth.token.renew_self(increment="1h")
    assert 1_790 <= renewed["auth"]["lease_duration"] <= 1_800, renewed["auth"]["lease_duration"]
    roles.destroy_secret_id("hvac", secret["secret_id"])
    stranger = hvac.Client(url=ROOT.url)
    refused(exceptions.InvalidRequest, stranger.auth.approle.login, role_id, secret["secret_id"])
    client.auth.token.revoke_self()
    assert not client.is_authenticated()
    roles.delete_role("hvac")


def tokens():
    parent = ROOT.auth.token.create(policies=["default"], ttl="1h", display_name="parent")["auth"]
    assert parent["renewable"] and not parent["orphan"]
    client = hvac.Client(url=ROOT.url, token=parent["client_token"])
    shown = client.auth.token.lookup_self()["data"]
    assert shown["display_name"] == "token-parent" and 3_590 <= shown["ttl"] <= 3_600
    assert client.auth.token.renew_self()["auth"]["client_token"] == parent["client_token"]
    assert ROOT.auth.token.lookup_accessor(parent["accessor"])["data"]["accessor"] == parent["accessor"]
    assert parent["accessor"] in ROOT.auth.token.list_accessors()["data"]["keys"]
    ROOT.auth.token.revoke_accessor(parent["accessor"])
    refused(exceptions.Forbidden, client.auth.token.lookup_self)

    ROOT.auth.token.create_or_update_role("hvac", allowed_policies=["default"], orphan=True, renewable=True)
    by_role = ROOT.auth.token.create(role_name="hvac", policies=["default"])["auth"]
    assert by_role["orphan"]
    orphan = ROOT.auth.token.create_orphan(policies=["default"], period="1h")["auth"]
    assert orphan["orphan"] and orphan["lease_duration"] == 3_600
    ROOT.auth.token.revoke(orphan["client_token"])
    named = ROOT.auth.token.create_orphan(policies=["default"], ttl="1h", meta={"made_by": "7"}, display_name="x")["auth"]
    shown = ROOT.auth.token.lookup_accessor(named["accessor"])["data"]
    assert shown["meta"] == {"made_by": "7"} and shown["orphan"] and shown["id"] == "", shown
    assert shown["creation_ttl"] == 3_600 and shown["display_name"] == "token-x", shown
    ROOT.auth.token.revoke_accessor(named["accessor"])
    assert named["accessor"] not in ROOT.auth.token.list_accessors()["data"]["keys"]
    refused(exceptions.Forbidden, ROOT.auth.token.lookup_accessor, named["accessor"])
    refused(exceptions.Forbidden, ROOT.auth.token.revoke_accessor, named["accessor"])
    ROOT.auth.token.revoke(by_role["client_token"])


def system():
    assert ROOT.sys.is_initialized() and not ROOT.sys.is_sealed()
    assert ROOT.sys.read_health_status(method="GET")["initialized"]
    assert ROOT.sys.list_mounted_secrets_engines()["data"]["secret/"]["options"] == {"version": "2"}
    assert ROOT.sys.list_auth_methods()["data"]["approle/"]["type"] == "approle"


for part in (key_value, app_role, tokens, system):
    part()
print("all as expected")
