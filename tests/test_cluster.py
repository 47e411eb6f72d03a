"""The examples for schedulers: they parse, and the commands in them are the program's."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from runs import asked

FOLDER = Path(__file__).parent.parent / "experiments" / "cluster"


@pytest.mark.parametrize("name", ["splits.sbatch", "hosts.sbatch"])
def test_a_batch_script_is_good_bash_and_runs_the_program(name, monkeypatch):
    path = FOLDER / name
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text().replace("$SLURM_ARRAY_TASK_ID", "3")
    (command,) = re.findall(r"^srun --cpus-per-task=\S+ (hierdiff onset .*)$", text, re.MULTILINE)
    config, options = asked(monkeypatch, "onset", shlex.split(command)[2:])
    assert options.distributed == (name == "hosts.sbatch")
    assert config.split == (3 if name == "splits.sbatch" else 0)
    tasks = int(re.findall(r"--ntasks-per-node=(\d+)", text)[0]) if "ntasks" in text else 1
    nodes = int(re.findall(r"--nodes=(\d+)", text)[0]) if "nodes=" in text else 1
    assert tasks * nodes in (1, config.sets)


def test_the_jobset_runs_the_program_on_every_host(monkeypatch):
    job = yaml.safe_load((FOLDER / "jobset.yaml").read_text())
    (replicated,) = job["spec"]["replicatedJobs"]
    hosts = replicated["template"]["spec"]
    (container,) = hosts["template"]["spec"]["containers"]
    assert hosts["parallelism"] == hosts["completions"]
    assert container["command"] == ["hierdiff", "onset"]
    config, options = asked(monkeypatch, "onset", container["args"])
    assert options.distributed
    assert hosts["completions"] * container["resources"]["limits"]["google.com/tpu"] == config.sets
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(Path(options.out).parent) in mounts
