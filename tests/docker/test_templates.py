"""The templates for compose, Kubernetes and Slurm, as far as they can be tested without those."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bertgrid_tf.cli import app

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker" / "compose.yaml"
COMPOSE_GPU = ROOT / "docker" / "compose.gpu.yaml"
KUBERNETES = sorted((ROOT / "docker" / "kubernetes").glob("*.yaml"))
SLURM = ROOT / "docker" / "slurm" / "study.sbatch"
PAGE = ROOT / "docs" / "workers.md"
ALL = [COMPOSE, COMPOSE_GPU, *KUBERNETES, SLURM, PAGE]


def interpolated(value: Any) -> Any:
    """As compose reads it where no variable is set."""
    if isinstance(value, dict):
        return {key: interpolated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item) for item in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"\$\$|\$\{\w+:-([^}]*)\}", lambda match: "$" if match[0] == "$$" else match[1], value)


def services() -> dict[str, Any]:
    return interpolated(yaml.safe_load(COMPOSE.read_text()))["services"]


def manifests() -> dict[str, dict[str, Any]]:
    """Kind and name ▶ manifest."""
    documents = [manifest for file in KUBERNETES for manifest in yaml.safe_load_all(file.read_text())]
    return {f"{manifest['kind']}/{manifest['metadata']['name']}": manifest for manifest in documents}


def pods() -> dict[str, dict[str, Any]]:
    """The pods that Kubernetes is asked for: metadata and spec."""
    groups = manifests()["RayCluster/bertgrid"]["spec"]
    return {
        "head": groups["headGroupSpec"]["template"],
        "worker": groups["workerGroupSpecs"][0]["template"],
        "study": manifests()["Job/bertgrid-study"]["spec"]["template"],
    }


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    return only


def study_command() -> list[str]:
    study = container(pods()["study"])
    return [*study["command"], *study["args"]]


def scripts() -> dict[str, str]:
    """Every piece of shell within a YAML file."""
    commands = {name: [*service["entrypoint"], *service["command"]] for name, service in services().items()}
    commands["kubernetes"] = study_command()
    return {name: command[command.index("-c") + 1] for name, command in commands.items()}


def flags(command: str) -> set[str]:
    """The options of a command of bertgrid-tf."""
    group = typer.main.get_command(app)
    return {option for parameter in group.commands[command].params for option in parameter.opts}


def variables() -> set[str]:
    """The environment variables of bertgrid-tf's options."""
    commands = [typer.main.get_command(app)]
    names = set()
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        names |= {parameter.envvar for parameter in command.params if getattr(parameter, "envvar", None)}
    return names


@pytest.mark.parametrize("file", ALL, ids=lambda file: file.name)
def test_every_flag_of_a_study_is_one_of_tune_s(file):
    text = file.read_text().replace("\\\n", " ")
    studies = re.findall(r"(?:bertgrid-tf|run --rm study|study\.sbatch) tune([^`#\n]*)", text)
    named = {flag for study in studies for flag in re.findall(r"--[a-z][a-z-]+", study)}
    assert named <= flags("tune")
    assert named or file != PAGE


def explained(script: Path) -> set[str]:
    """The variables that a script's head explains, apart from those of options."""
    head = "\n".join(line for line in script.read_text().splitlines() if line.startswith("#"))
    return set(re.findall(r"BERTGRID_(?:DOCKER|SLURM)_[A-Z_]+[A-Z]", head))


@pytest.mark.parametrize("file", ALL, ids=lambda file: file.name)
def test_every_variable_is_an_option_s_or_explained_by_a_script(file):
    named = set(re.findall(r"BERTGRID_[A-Z_]+[A-Z]", file.read_text()))
    assert named <= variables().union(*map(explained, (COMPOSE, SLURM, ROOT / "docker" / "run")))


@pytest.mark.parametrize("file", [COMPOSE, SLURM], ids=lambda file: file.name)
def test_every_variable_that_is_explained_is_used(file):
    assert explained(file) <= set(re.findall(r"\$\{(\w+)", file.read_text()))


@pytest.mark.parametrize("script", scripts().items(), ids=lambda item: item[0])
def test_scripts_in_yaml_pass_shellcheck(script):
    shellcheck(script[1], "-")


def test_slurm_s_script_passes_shellcheck():
    shellcheck("", SLURM)


def shellcheck(text: str, file: str | Path) -> None:
    command = Path(sys.executable).parent / "shellcheck"
    if not command.exists():
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [command, "--shell=bash", file], input=text, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("file", ALL, ids=lambda file: file.name)
def test_every_option_of_ray_start_is_one(file):
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    text = re.sub(r"\\\n|(?<=[a-z0-9}])\n +(?=--)", " ", file.read_text())
    starts = re.findall(r"ray start([^`\n]*)|ray_node \S+(.*)", text)
    named = {option for line in starts for option in re.findall(r"(?<!\S)--[a-z][a-z-]+", "".join(line).split(">")[0])}
    if file.name == "ray-cluster.yaml":
        cluster = manifests()["RayCluster/bertgrid"]["spec"]
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        named = {f"--{name}" for group in groups for name in group["rayStartParams"]}
    assert named <= known


def stand_ins(folder: Path, **commands: str) -> str:
    """A PATH whose first commands are the given scripts, each of which first writes down its words."""
    folder.mkdir()
    for name, script in commands.items():
        (folder / name).write_text(f'#!/bin/bash\nprintf "%s\\n" "{name} $*" >>"$RECORD"\n{script}\n')
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def run(command: list[str], path: str, record: Path, **environment: str) -> list[str]:
    """The calls of the stand-in commands by a command that succeeds."""
    given = os.environ | {"PATH": path, "RECORD": str(record)} | environment
    subprocess.run(command, env=given, check=True, timeout=60, capture_output=True)
    return record.read_text().splitlines()


def from_bash(command: list[str]) -> list[str]:
    return command[command.index("/bin/bash") :]


# Compose


def test_all_containers_see_the_same_folders_and_only_those():
    mounted = [service["volumes"] for service in services().values()]
    assert all(volumes == mounted[0] for volumes in mounted)
    assert {volume.rpartition(":")[2] for volume in mounted[0]} == {"/datasets", "/results", "/cache", "/token"}


def test_no_port_is_published_and_ray_wants_a_token():
    for service in services().values():
        assert "ports" not in service
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN_PATH"].startswith("/token/")


def test_workers_come_back_and_a_study_does_not_start_by_itself():
    assert services()["worker"]["restart"] == "unless-stopped"
    assert services()["study"]["profiles"] == ["study"]
    assert "restart" not in services()["study"]


def test_the_one_worker_that_has_the_gpus_cannot_be_scaled():
    gpu = yaml.safe_load(COMPOSE_GPU.read_text())["services"]
    assert gpu.keys() == services().keys()
    assert gpu["worker"]["container_name"]
    (devices,) = gpu["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert (devices["count"], devices["capabilities"]) == ("all", ["gpu"])


def test_the_head_makes_a_secret_token_once(tmp_path):
    head = services()["head"]
    command = from_bash([*head["entrypoint"], *head["command"]])
    path, token = stand_ins(tmp_path / "bin", ray=""), tmp_path / "token"
    tokens = []
    for _ in range(2):
        [started] = run(command, path, tmp_path / "record", RAY_AUTH_TOKEN_PATH=str(token))[-1:]
        assert started.startswith("ray start --head --block ")
        assert token.stat().st_mode & 0o777 == 0o600
        tokens.append(token.read_text())
    assert tokens[0] == tokens[1]
    assert re.fullmatch("[0-9a-f]{64}", tokens[0])


def test_the_words_after_study_are_the_command_s(tmp_path):
    study = services()["study"]
    path = stand_ins(tmp_path / "bin", ray="echo noise", **{"bertgrid-tf": 'printf "%s\\n" "$#" >>"$RECORD"'})
    command = [*from_bash(study["entrypoint"]), "tune", "my texts", "--workers", "3"]
    calls = run(command, path, tmp_path / "record")
    assert calls[0].startswith("ray start --address head:6379 --num-cpus 0 --num-gpus 0")
    assert calls[1:] == ["bertgrid-tf tune my texts --workers 3", "4"]
    (tmp_path / "bin" / "ray").write_text("#!/bin/sh\nexit 3")
    with pytest.raises(subprocess.CalledProcessError, match="3"):
        run(command, path, tmp_path / "record")
    assert len((tmp_path / "record").read_text().splitlines()) == 3


# Kubernetes


def test_every_claim_is_there_and_can_be_mounted_by_many_nodes():
    claims = {name: manifest for name, manifest in manifests().items() if name.startswith("PersistentVolumeClaim/")}
    assert all(claim["spec"]["accessModes"] == ["ReadWriteMany"] for claim in claims.values())
    for pod in pods().values():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for mount in container(pod)["volumeMounts"]} == volumes.keys()
        mounted = {mount["mountPath"] for mount in container(pod)["volumeMounts"]}
        assert {"/results", "/cache", "/tmp"} <= mounted
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}" in claims


def test_the_probes_are_our_own_since_kuberay_s_ask_an_agent_that_the_image_lacks():
    [group] = manifests()["RayCluster/bertgrid"]["spec"]["workerGroupSpecs"]
    for name in ("readinessProbe", "livenessProbe"):
        assert container(pods()["head"])[name]["exec"]["command"][:2] == ["ray", "health-check"]
        assert container(pods()["worker"])[name]["tcpSocket"]["port"] == int(
            group["rayStartParams"]["node-manager-port"]
        )


def test_kuberay_gets_the_image_s_ray_version_and_the_head_carries_no_trials():
    cluster = manifests()["RayCluster/bertgrid"]["spec"]
    [locked] = re.findall(r"^ray==(\S+)", (ROOT / "docker" / "requirements-gpu.lock").read_text(), re.MULTILINE)
    assert cluster["rayVersion"] == locked
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_each_worker_has_a_gpu_and_the_study_waits_for_all_of_them():
    [group] = manifests()["RayCluster/bertgrid"]["spec"]["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    assert container(pods()["worker"])["resources"]["limits"]["nvidia.com/gpu"] == "1"
    environment = {entry["name"]: entry for entry in container(pods()["study"])["env"]}
    assert environment["BERTGRID_WORKERS"]["value"] == str(group["replicas"])


def test_study_and_cluster_share_the_token_and_other_pods_are_kept_away():
    cluster = manifests()["RayCluster/bertgrid"]
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    environment = {entry["name"]: entry for entry in container(pods()["study"])["env"]}
    # KubeRay names the secret after the cluster.
    secret = environment["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": cluster["metadata"]["name"], "key": "auth_token"}
    allowed = manifests()["NetworkPolicy/bertgrid"]["spec"]
    labels = allowed["podSelector"]["matchLabels"]
    assert allowed["ingress"] == [{"from": [{"podSelector": {"matchLabels": labels}}]}]
    assert all(labels.items() <= pod["metadata"]["labels"].items() for pod in pods().values())


def test_no_pod_runs_as_root_or_may_become_it():
    for pod in pods().values():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert container(pod)["securityContext"]["allowPrivilegeEscalation"] is False
        assert container(pod)["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_study_s_pod_joins_the_cluster_s_head_waits_and_begins(tmp_path):
    path = stand_ins(tmp_path / "bin", ray="", python='cat >"$RECORD.py"', **{"bertgrid-tf": ""})
    calls = run(from_bash(study_command()), path, tmp_path / "record", BERTGRID_WORKERS="4")
    head = manifests()["RayCluster/bertgrid"]["metadata"]["name"] + "-head-svc"
    assert calls[0].startswith(f"ray start --address {head}:6379 --num-cpus 0 --num-gpus 0")
    assert calls[1:] == ["python - 4", "bertgrid-tf tune friends"]
    compile((tmp_path / "record.py").read_text(), "study.yaml", "exec")


def test_a_mistake_ends_the_job_and_a_lost_pod_does_not():
    job = manifests()["Job/bertgrid-study"]["spec"]
    by_action = {rule["action"]: rule for rule in job["podFailurePolicy"]["rules"]}
    assert by_action["FailJob"]["onExitCodes"]["values"] == [2]
    assert by_action["FailJob"]["onExitCodes"]["containerName"] == container(pods()["study"])["name"]
    assert by_action["Ignore"]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert job["template"]["spec"]["restartPolicy"] == "Never"


# Slurm

# Each starts its command here, as Slurm does on a node; `scancel` ends what is still at it.
SRUN = 'while [[ $1 == --* ]]; do shift; done\necho $$ >>"$RECORD.steps"\nexec "$@"'
SCANCEL = 'kill -TERM $(cat "$RECORD.rays") 2>/dev/null'
RAY = """case $1 in
  start)
    [[ $* != *"$NO_RAY"* ]] || exit 1
    [[ $* != *--temp-dir* ]] || mkdir "${!#}"
    echo $$ >>"$RECORD.rays"
    exec sleep 60
    ;;
  health-check) [[ -s $RECORD.rays ]] ;;
esac"""
STUDY = """printf '%s\\n' "$BERTGRID_RAY_ADDRESS" "$BERTGRID_RESULTS" >"$RECORD.study"
trap 'exit "${STUDY_ENDS:-143}"' TERM
for _ in $(seq ${STUDY_LASTS:-0}); do sleep 0.1; done"""


class Allocation:
    """`study.sbatch` on two nodes of a simulated Slurm."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.record = folder, folder / "record"
        self.job = 900_000_000 + os.getpid()
        self.path = stand_ins(
            folder / "bin",
            scontrol='[[ $1 != show ]] || printf "%s\\n" node1 node2',
            srun=SRUN,
            scancel=SCANCEL,
            ray=RAY,
            python='until (($(wc -l <"$RECORD.rays") == 2)); do sleep 0.1; done',
            # The script's own pauses are what most of these tests would wait for.
            sleep='case $1 in [12]) set -- 0.05 ;; esac\nPATH=/usr/bin:/bin exec sleep "$1"',
            apptainer='while [[ $1 != *.sif ]]; do shift; done\nshift\nexec "$@"',
            **{"bertgrid-tf": STUDY},
        )

    def submit(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        given = {
            "PATH": self.path,
            "HOME": str(self.folder),
            "RECORD": str(self.record),
            "NO_RAY": "none",
            "SLURM_JOB_ID": str(self.job),
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_CPUS_PER_TASK": "6",
        }
        return subprocess.Popen(
            ["bash", SLURM, *words],
            cwd=self.folder,
            env=given | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def calls(self, command: str) -> list[str]:
        return [line for line in self.record.read_text().splitlines() if line.split()[0] == command]

    def wait_for_the_study(self) -> None:
        deadline = time.monotonic() + 30
        while not (self.folder / "record.study").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def allocation(tmp_path):
    return Allocation(tmp_path)


def test_a_ray_node_on_each_node_then_the_study_then_nothing_is_left(allocation):
    job = allocation.submit("tune", "my texts", "--epochs", "4", BERTGRID_RESULTS="tables")
    out = job.communicate(timeout=60)[0]
    assert job.returncode == 0, out
    address = f"node1:{20000 + allocation.job % 10000}"
    assert sorted(re.search(r"--nodelist=(\S+)", line)[1] for line in allocation.calls("srun")) == ["node1", "node2"]
    assert all("--cpus-per-task=6" in line for line in allocation.calls("srun"))
    starts = [line for line in allocation.calls("ray") if line.startswith("ray start")]
    assert sorted("--head" in line for line in starts) == [False, True]
    assert any(f"--address {address}" in line for line in starts)
    assert all("--num-cpus 6" in line for line in starts)
    assert allocation.calls("bertgrid-tf") == ["bertgrid-tf tune my texts --epochs 4"]
    # A relative folder is the same for every node, whatever it starts in.
    assert (allocation.folder / "record.study").read_text().split() == [address, str(allocation.folder / "tables")]
    assert allocation.calls("scancel") == [f"scancel --signal=TERM {allocation.job}"]
    for kind in ("rays", "steps"):
        for pid in (allocation.folder / f"record.{kind}").read_text().split():
            assert not Path("/proc", pid).exists()
    assert not Path(f"/tmp/ray-{allocation.job}").exists()


@pytest.mark.parametrize(
    ("sent", "environment", "queued"),
    [
        (signal.SIGUSR1, {}, 1),
        (signal.SIGUSR1, {"SLURM_RESTART_COUNT": "20"}, 0),
        (signal.SIGUSR1, {"SLURM_RESTART_COUNT": "1", "BERTGRID_SLURM_REQUEUES": "2"}, 1),
        (signal.SIGTERM, {}, 0),
    ],
    ids=["time limit", "too often", "not too often", "cancelled"],
)
def test_a_signal_stops_the_study_and_the_time_limit_queues_it_again(allocation, sent, environment, queued):
    job = allocation.submit("tune", "friends", STUDY_LASTS="300", **environment)
    allocation.wait_for_the_study()
    job.send_signal(sent)
    out = job.communicate(timeout=60)[0]
    assert job.returncode == 143, out
    requeues = [line for line in allocation.calls("scontrol") if "requeue" in line]
    assert requeues == [f"scontrol requeue {allocation.job}"] * queued


def test_a_study_that_ends_just_then_is_not_queued_again(allocation):
    job = allocation.submit("tune", "friends", STUDY_LASTS="300", STUDY_ENDS="0")
    allocation.wait_for_the_study()
    job.send_signal(signal.SIGUSR1)
    out = job.communicate(timeout=60)[0]
    assert job.returncode == 0, out
    assert len(allocation.calls("scontrol")) == 1


def test_slurm_sends_the_signal_that_queues_again_to_the_script_alone():
    assert re.search(r"^#SBATCH --signal=B:USR1@\d+$", SLURM.read_text(), re.MULTILINE)
    assert re.search(r"^trap 'end_study USR1' USR1$", SLURM.read_text(), re.MULTILINE)


def test_the_study_s_exit_code_is_the_job_s(allocation):
    (allocation.folder / "bin" / "bertgrid-tf").write_text("#!/bin/sh\nexit 2")
    job = allocation.submit("tune", "nothing")
    job.communicate(timeout=60)
    assert job.returncode == 2
    assert len(allocation.calls("scontrol")) == 1


def test_a_head_that_does_not_start_ends_the_job_with_a_sentence(allocation):
    (allocation.folder / "bin" / "python").write_text("#!/bin/sh\nexit 1")
    job = allocation.submit("tune", "friends", NO_RAY="--head")
    out = job.communicate(timeout=60)[0]
    assert job.returncode == 1
    assert "Ray did not start on node1 node2" in out
    assert not allocation.calls("bertgrid-tf")


def test_with_an_image_every_command_runs_in_it_with_the_folders_bound(allocation):
    job = allocation.submit("tune", "friends", BERTGRID_SLURM_IMAGE="/images/bertgrid.sif", HF_HOME="cache")
    out = job.communicate(timeout=60)[0]
    assert job.returncode == 0, out
    here = allocation.folder
    bound = f"apptainer exec --nv --bind {here}/datasets,{here}/results,{here}/cache /images/bertgrid.sif"
    inside = [line.removeprefix(bound).split()[:2] for line in allocation.calls("apptainer")]
    assert all(line.startswith(bound) for line in allocation.calls("apptainer"))
    assert inside.count(["ray", "start"]) == 2
    assert ["bertgrid-tf", "tune"] in inside


def test_a_virtual_environment_comes_first_on_the_path(allocation):
    (allocation.folder / "venv" / "bin").mkdir(parents=True)
    (allocation.folder / "bin" / "bertgrid-tf").rename(allocation.folder / "venv" / "bin" / "bertgrid-tf")
    job = allocation.submit("tune", "friends", BERTGRID_SLURM_VENV=str(allocation.folder / "venv"))
    assert job.wait(timeout=60) == 0
    assert allocation.calls("bertgrid-tf") == ["bertgrid-tf tune friends"]


@pytest.mark.slow
def test_with_a_real_ray_on_two_nodes_the_study_has_two_workers(allocation):
    pytest.importorskip("ray", reason="Ray is not installed")
    for name in ("ray", "python", "bertgrid-tf"):
        (allocation.folder / "bin" / name).unlink()
    (allocation.folder / "bin" / "scontrol").write_text("#!/bin/sh\nprintf 'localhost\\nlocalhost\\n'\n")
    # Slurm signals every process of a step.
    (allocation.folder / "bin" / "scancel").write_text(
        '#!/bin/bash\nfor step in $(cat "$RECORD.steps"); do pkill -TERM -P $step; done; true\n'
    )
    job = allocation.submit(
        *("tune", "sample", "--no-sweeps", "--epochs", "1", "--learning-rates", "1e-3,5e-4", "--final-model", "none"),
        PATH=f"{Path(sys.executable).parent}:{allocation.path}",
        SLURM_CPUS_PER_TASK="1",
    )
    out = job.communicate(timeout=240)[0]
    assert job.returncode == 0, out
    assert "2 workers, each with 1 CPU core" in out
    assert len((allocation.folder / "results" / "sample" / "grid.csv").read_text().splitlines()) == 3
    assert not Path(f"/tmp/ray-{allocation.job}").exists()
