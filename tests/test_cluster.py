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


def test_the_array_has_a_job_for_each_run_of_the_sweep(monkeypatch):
    path = FOLDER / "sweep.sbatch"
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text()
    (array,) = re.findall(r"^#SBATCH --array=0-(\d+)$", text, re.MULTILINE)
    (command,) = re.findall(r"^srun --cpus-per-task=\S+ (hierdiff sweep .*)$", text, re.MULTILINE)
    config, options = asked(monkeypatch, "sweep", shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", array))[2:])
    assert options.job == int(array) == len(config.own.points(config.training)) - 1
    (gathers,) = re.findall(r'--wrap="hierdiff sweep (.*)"', text)
    _, gathering = asked(monkeypatch, "sweep", shlex.split(gathers))
    assert gathering.out == options.out


def test_the_workers_of_an_indexed_job_share_a_folder(monkeypatch):
    job = yaml.safe_load((FOLDER / "sweep.yaml").read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert job["completionMode"] == "Indexed"
    assert container["command"] == ["hierdiff", "sweep"]
    _, options = asked(monkeypatch, "sweep", container["args"])
    assert options.job is None
    assert str(options.out.parent) in {mount["mountPath"] for mount in container["volumeMounts"]}
