#!/usr/bin/env python3
"""Holds the files in deploy/ against the program and against the documentation.

    scripts/check-deploy.py ROTA        ROTA is a built `rota`

Each deploy file starts a process with an environment. In that environment every variable is
a setting that Rota knows, `rota config show` succeeds, `rota serve` comes up without a
database, and the file's health check calls it alive then. The rights of the two AWS
templates are those that the documentation asks for, neither fewer nor more. What systemd
forbids is nothing that pm2 needs.

Deliberately absent: the formats themselves, which hadolint, cfn-lint, terraform and
systemd-analyze check.
"""

import glob
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import hcl2
import yaml

DOCKERFILE = "Dockerfile"
TERRAFORM = "deploy/terraform/main.tf"
CLOUDFORMATION = "deploy/cloudformation/rota.yaml"
COMPOSE = "deploy/compose/compose.yaml"
UNIT = "deploy/systemd/rota@.service"

# Port 1 (tcpmux) refuses on any machine that the checks run on.
DATABASE = "postgres://rota@127.0.0.1:1/rota"
# What `rota serve` says while it waits for its database.
WAITING = "the state database does not answer"
# Far longer than a start takes, on a machine with much else to do.
LIMIT_S = 60

problems = []


def refuse(path, what):
    """Notes what is wrong with a file."""
    problems.append(f"{path}: {what}")


@dataclass
class Process:
    """A process that a deploy file starts: arguments without the program's own name."""

    path: str
    variables: dict
    command: list
    health: list


def read(path):
    return Path(path).read_text(encoding="utf-8")


# --- What each file starts.


def image():
    """The image's own variables, command and health check."""
    text = read(DOCKERFILE).rsplit("\nFROM ", 1)[1]
    variables = dict(re.findall(r"^ENV (\w+)=(\S+)$", text, re.M))
    command = json.loads(re.search(r"^CMD (\[.*\])$", text, re.M)[1])
    health = json.loads(re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", text, re.M)[1])
    return Process(DOCKERFILE, variables, command, health[1:])


def terraform(base):
    """A task on top of the image's variables."""
    text = read(TERRAFORM)
    pairs = re.findall(r'\{ name = "(\w+)", value(?:From)?\s*= (.+) \}', text)
    own = {name: terraform_value(value) for name, value in pairs}
    commands = [json.loads(found) for found in re.findall(r"^ +command +=\s*(\[.*\])$", text, re.M)]
    [health] = [command for command in commands if command[0] == "CMD"]
    [command] = [command for command in commands if command[0] != "CMD"]
    return Process(TERRAFORM, base.variables | own, command, health[2:])


def terraform_value(text):
    """A text as it stands, a truth as true, whatever else as something."""
    if text.startswith('"'):
        return re.sub(r"\$\{[^}]*\}", "x", text.strip('"'))
    return "true" if text.startswith("tostring(") else "x"


class Template(yaml.SafeLoader):
    """Reads CloudFormation with every condition true and every reference as `x`."""

    def short_form(self, suffix, node):
        if suffix == "If":
            return self.construct_sequence(node, deep=True)[1]
        if isinstance(node, yaml.SequenceNode):
            return self.construct_sequence(node, deep=True)
        return re.sub(r"\$\{[^}]*\}", "x", node.value) if suffix == "Sub" else "x"


Template.add_multi_constructor("!", Template.short_form)


def template():
    return yaml.load(read(CLOUDFORMATION), Template)["Resources"]


def cloudformation(base):
    """A task on top of the image's variables."""
    [container] = template()["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    own = {entry["Name"]: entry["Value"] for entry in container["Environment"]}
    own |= {entry["Name"]: entry["ValueFrom"] for entry in container["Secrets"]}
    health = container["HealthCheck"]["Command"]
    return Process(CLOUDFORMATION, base.variables | own, container["Command"], health[2:])


def compose(base):
    """The service `rota`; it has the image's health check."""
    service = yaml.safe_load(read(COMPOSE))["services"]["rota"]
    own = {name: str(value) for name, value in service["environment"].items()}
    return Process(COMPOSE, base.variables | own, service["command"], base.health)


def unit_settings():
    """The unit's directives; each with its values in their order."""
    settings = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", read(UNIT), re.M):
        settings.setdefault(name, []).append(value)
    return settings


def systemd(machine):
    """The unit of the user `deploy`, with its credentials as systemd hands them out."""
    settings = unit_settings()
    credentials = machine / "credentials"
    credentials.mkdir()
    for name in (value.split(":")[0] for value in settings["LoadCredential"]):
        (credentials / name).write_text(DATABASE + "\n", encoding="utf-8")
        # Root's, and readable by the unit's user through an access control list.
        (credentials / name).chmod(0o440)
    known = {"%d": str(credentials), "%i": "deploy", "%l": "web-1"}
    pairs = (value.split("=", 1) for value in settings["Environment"])
    variables = {name: re.sub("%.", lambda found: known[found[0]], value) for name, value in pairs}
    for name, value in variables.items():
        if value.startswith(str(credentials)) and not Path(value).is_file():
            refuse(UNIT, f"{name} names a credential that is not loaded")
    return Process(UNIT, variables, settings["ExecStart"][0].split()[1:], ["health", "--live"])


# --- Each process against the program.


def on_machine(process, machine):
    """The variables, with the image's or the host's folder and a database that is not there."""
    variables = dict(process.variables)
    if "ROTA__DATABASE__URL" in variables:
        variables["ROTA__DATABASE__URL"] = DATABASE
    return {name: value.replace("/etc/rota", str(machine / "etc/rota")) for name, value in variables.items()}


def run(rota, arguments, variables, folder):
    return subprocess.run(
        [rota, *arguments], env=variables, cwd=folder, text=True, capture_output=True, timeout=LIMIT_S, check=False
    )


def check_variables(rota, process, variables, folder):
    """Every variable is one that the program reads, and none contradicts another."""
    switches = set(re.findall(r"\[env:\s+(ROTA_\w+)=", run(rota, ["rotate", "--help"], {}, folder).stdout))
    shown = run(rota, ["config", "show", "--json"], variables, folder)
    if shown.returncode != 0:
        refuse(process.path, f"`rota config show` fails with its variables: {shown.stderr.strip()}")
        return False
    sources = {entry["source"] for entry in json.loads(shown.stdout)["settings"]}
    unknown = [name for name in variables if name.startswith("ROTA_") and name not in sources | switches]
    for name in unknown:
        refuse(process.path, f"{name} is no setting of Rota")
    return not unknown


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def check_start(rota, process, variables, folder):
    """Comes up without its database, waits for it, is called alive, and stops when told to."""
    settings = ["--set", f"daemon.listen=127.0.0.1:{free_port()}", "--set", "database.rds_iam=false"]
    daemon = subprocess.Popen(
        [rota, *process.command, *settings], env=variables, cwd=folder, text=True, stderr=subprocess.PIPE
    )
    watchdog = threading.Timer(LIMIT_S, daemon.kill)
    watchdog.start()
    said = []
    for line in daemon.stderr:
        said.append(line)
        if WAITING in line:
            break
    else:
        refuse(process.path, f"`rota {' '.join(process.command)}` does not wait for its database: {''.join(said)}")
    health = run(rota, [*process.health, *settings], variables, folder)
    if health.returncode != 0:
        refuse(process.path, f"its health check fails while the database is down: {health.stdout}{health.stderr}")
    daemon.terminate()
    daemon.stderr.read()
    if daemon.wait() != 0:
        refuse(process.path, f"SIGTERM ends the daemon with {daemon.returncode}")
    watchdog.cancel()


def check_process(rota, process, machine):
    variables = on_machine(process, machine)
    folder = machine / "etc/rota"
    if check_variables(rota, process, variables, folder):
        check_start(rota, process, variables, folder)


# --- Rights.


def actions_of(statement):
    """The actions of a statement of an AWS policy, which may be one text."""
    actions = statement["Action"]
    return {actions} if isinstance(actions, str) else set(actions)


def documented_actions():
    """What the JSON of all pages allows."""
    actions = set()
    for path in glob.glob("docs/**/*.md", recursive=True):
        for block in re.findall(r"```json\n(.*?)```", read(path), re.S):
            if '"Statement"' in block:
                actions |= set().union(*map(actions_of, json.loads(block)["Statement"]))
    return actions


def plain(value):
    """What hcl2 has read, without its quotes and in CloudFormation's words."""
    if isinstance(value, dict):
        return {plain(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value.strip('"') if isinstance(value, str) else value


def terraform_statements():
    """The statements of the task's role, those for some policies included."""
    with open(TERRAFORM, encoding="utf-8") as file:
        data = plain(hcl2.load(file))["data"]
    [document] = [
        entry["aws_iam_policy_document"]["task"] for entry in data if "task" in entry.get("aws_iam_policy_document", {})
    ]
    optional = [content for entry in document["dynamic"] for content in entry["statement"]["content"]]
    statements = document["statement"] + optional
    return [{"Action": entry["actions"], "Resource": entry["resources"]} for entry in statements]


def cloudformation_statements():
    [policy] = template()["TaskRole"]["Properties"]["Policies"]
    return policy["PolicyDocument"]["Statement"]


def check_rights(path, statements, slots):
    """The same actions as in the documentation, and those on slots under `slots`."""
    documented = documented_actions()
    allowed = set().union(*map(actions_of, statements))
    for action in sorted(documented - allowed):
        refuse(path, f"the documentation asks for {action}")
    for action in sorted(allowed - documented):
        refuse(path, f"no page of the documentation asks for {action}")
    on_slots = set().union(*(actions_of(entry) for entry in statements if slots in str(entry["Resource"])))
    for action in sorted(action for action in documented - on_slots if action.startswith("secretsmanager:")):
        refuse(path, f"{action} does not reach rota-slots/*")


# --- What pm2 needs of the unit.


def check_pm2():
    """Node makes code at run time; pm2 talks through its home and writes there."""
    settings = unit_settings()
    if settings.get("MemoryDenyWriteExecute", ["no"])[-1] != "no":
        refuse(UNIT, "MemoryDenyWriteExecute= ends node, which the commands of rollouts are")
    if settings.get("ProtectHome", ["no"])[-1] not in ("no", "read-only"):
        refuse(UNIT, "ProtectHome= hides pm2's home")
    [home] = [value.split("=", 1)[1] for value in settings["Environment"] if value.startswith("PM2_HOME=")]
    if home not in settings["ReadWritePaths"][-1].replace("-/", "/").split():
        refuse(UNIT, f"{home} cannot be written")


def check_compose(rota, machine):
    """Its policy holds, and its documented commands know who asks."""
    linted = run(rota, ["policy", "lint", str(Path("deploy/compose/policy.toml").resolve())], {}, machine)
    if linted.returncode != 0:
        refuse("deploy/compose/policy.toml", linted.stdout + linted.stderr)
    services = yaml.safe_load(read(COMPOSE))["services"]
    if "ROTA_OPERATOR" not in services["rota"]["environment"]:
        refuse(COMPOSE, "ROTA_OPERATOR is missing: nobody is logged in in a container")
    for name, service in services.items():
        if "image" not in service and "build" not in service:
            refuse(COMPOSE, f"service {name} has neither an image nor a build")


def main(rota):
    with tempfile.TemporaryDirectory() as folder:
        machine = Path(folder)
        (machine / "etc/rota").mkdir(parents=True)
        (machine / "etc/rota/default.toml").write_text(read("config/default.toml"), encoding="utf-8")
        base = image()
        alone = replace(base, variables=base.variables | {"ROTA__DATABASE__URL": DATABASE})
        processes = [alone, terraform(base), cloudformation(base), compose(base), systemd(machine)]
        # At once: each waits some seconds for its database.
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda process: check_process(rota, process, machine), processes))
        check_compose(rota, machine)
    check_rights(TERRAFORM, terraform_statements(), "local.slot_arns")
    check_rights(CLOUDFORMATION, cloudformation_statements(), "rota-slots/*")
    check_pm2()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(str(Path(sys.argv[1]).resolve())))
