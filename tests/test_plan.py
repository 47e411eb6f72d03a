"""What a run is said to cost, against plain counts and against a run that is carried out."""

import math
import os
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import Mesh
from matplotlib.ticker import EngFormatter
from runs import save_often

from experiments.onset import main
from hierdiff.grammar import GrammarConfig
from hierdiff.learning.devices import ensemble_mesh, over_networks
from hierdiff.learning.network import TreeConfig
from hierdiff.learning.train_config import TrainConfig
from hierdiff.noising.process import cross_entropy
from hierdiff.questions import QUESTIONS, training
from hierdiff.runs import plan as planning
from hierdiff.runs import record, run
from hierdiff.runs.laboratory import label
from hierdiff.runs.plan import describe, flops, plan
from hierdiff.worlds.run_config import MeasureConfig, OnsetConfig
from hierdiff.worlds.sequences import Sequences

CONFIG = OnsetConfig(
    sets=2,
    seeds_per_set=2,
    size=100,
    grammar=GrammarConfig(depth=1),
    network=TreeConfig(width=64),
    train=TrainConfig(steps=40, batch=16, checkpoints=12, first_checkpoint=1, snapshots=3),
    measure=MeasureConfig(held_out=100, members=50, noise=(0.15, 0.3)),
)


@pytest.fixture(scope="module")
def planned(tmp_path_factory, monkeypatch_module):
    monkeypatch_module.setattr(planning, "LONG_ENOUGH", 0.1)
    world = Sequences.set_up(CONFIG)
    return plan(CONFIG, world, tmp_path_factory.mktemp("runs") / "plan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, monkeypatch_module):
    """A run that is carried out, before its state is dropped, which is saved twice."""
    save_often(monkeypatch_module)
    folder = tmp_path_factory.mktemp("runs")
    world = Sequences.set_up(CONFIG)
    inputs = world.inputs(CONFIG.measure)
    measured, _ = run.carry_out(CONFIG, world, inputs, folder, lambda *_: None)
    along = {"step": CONFIG.train.checkpoint_steps(), "noise": list(CONFIG.measure.noise)}
    record.write_results(folder / "results.nc", label(along, world, world.references(inputs), measured))
    return folder


def test_memory_is_what_a_container_or_a_scheduler_allows(tmp_path):
    """The least of a group's own limit and of those that hold it."""
    for folder, word in (("", "max"), ("job", "3000"), ("job/step", "5000"), ("job/step/task", "max")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "memory.max").write_text(f"{word}\n")
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/other\n0::/job/step/task\n")
    assert sorted(planning._limits(tmp_path, own)) == [3000, 5000]
    assert planning._limits(tmp_path, tmp_path / "none") == []


def test_loops_and_devices_count_as_often_as_they_run():
    """Products of n x n matrices, of 2 n^3 operations each."""
    n = 32
    a, b, c = jnp.ones((n, n)), jnp.ones((5, n, n)), jnp.ones((3, n, n))

    def products(count):
        return pytest.approx(count * 2 * n**3, rel=0.01)

    def nested(b, c):
        return jax.lax.map(lambda y: jax.jit(lambda z: jax.lax.map(lambda x: x @ z, b))(y @ y), c)

    assert flops(jax.make_jaxpr(lambda a: a @ a)(a)) == products(1)
    assert flops(jax.make_jaxpr(nested)(b, c)) == products(3 * (1 + 5))
    assert flops(jax.make_jaxpr(lambda a: jax.lax.fori_loop(0, 7, lambda _, x: x @ a, a))(a)) == products(7)
    # A length that the program is given counts once.
    assert flops(jax.make_jaxpr(lambda a, k: jax.lax.fori_loop(0, k, lambda _, x: x @ a, a))(a, 7)) == products(1)
    for mesh in (ensemble_mesh(6), Mesh(np.array(jax.devices()[:1]), ("network",))):
        spread = over_networks(lambda x, a: x @ a, mesh, stacked=1)
        assert flops(jax.make_jaxpr(jax.jit(spread))(jnp.ones((6, n, n)), a)) == products(6)


def matrix_flops(program):
    """Floating-point operations of all the matrix products of a program without loops."""
    total = 0
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inputs, outputs = equation.invars[0].aval, equation.outvars[0].aval
            total += 2 * math.prod(outputs.shape) * math.prod(inputs.shape[axis] for axis in contracted)
        for parameter in equation.params.values():
            inner = parameter.jaxpr if isinstance(parameter, ClosedJaxpr) else parameter
            total += matrix_flops(inner) if isinstance(inner, Jaxpr) else 0
    return total


def test_operations_of_matrix_products_are_counted():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
    program = jax.make_jaxpr(lambda a, b: jax.jit(jnp.matmul)(a, b) + 1)(a, b)
    assert matrix_flops(program.jaxpr) == 2 * 3 * 4 * 5
    assert matrix_flops(program.jaxpr) < flops(program) < 1.5 * matrix_flops(program.jaxpr)


def shapes(network, batch, grammar):
    """Of weights, sequences, noised sequences and times."""
    x_0 = (batch, grammar.leaves)
    return (
        jax.eval_shape(network.init, jax.random.key(0)),
        jax.ShapeDtypeStruct(x_0, int),
        jax.ShapeDtypeStruct((*x_0, grammar.vocab), float),
        jax.ShapeDtypeStruct((batch,), int),
    )


def test_operations_are_those_of_the_matrix_products_and_somewhat_more(planned):
    """Nearly all are in matrix products; what is done number by number, in the optimizer too, is counted besides."""
    world = Sequences.set_up(CONFIG)

    def loss(params, x_0, x_t, t):
        return cross_entropy(x_0, world.network.forward(params, x_t, t, None)).mean()

    params, x_0, x_t, t = shapes(world.network, CONFIG.train.batch, world.grammar)
    gradient = matrix_flops(jax.make_jaxpr(jax.grad(loss))(params, x_0, x_t, t).jaxpr)
    assert 1.0 < planned["step_flops"] / (4 * gradient) < 1.2

    # Each network reads the held-out sequences, at two levels with a completion at the one height below the root, and
    # the members of both sets; at uniform noise it reads both once more.
    held_out, members = CONFIG.measure.held_out, 2 * CONFIG.measure.members
    read = 2 * (2 * held_out + members) + held_out + members
    params, _, x_t, t = shapes(world.network, read, world.grammar)
    forward = jax.make_jaxpr(world.network.forward)(params, x_t, t, None)
    assert 1.0 < planned["measure_flops"] / (4 * matrix_flops(forward.jaxpr)) < 1.2


def test_what_is_counted_is_what_a_run_has(planned, folder):
    results = record.read_results(folder / "results.nc")
    with np.load(record.file_of_step(folder / "snapshots", 40)) as weights:
        sizes = [weights[name].size for name in weights.files]
    assert planned["networks"] * planned["parameters"] == sum(sizes)
    assert (planned["networks"], planned["checkpoints"]) == (results.sizes["network"], results.sizes["step"])
    assert planned["epochs"] == 40 * 16 / 100
    # On each device the weights, their average and two moments of its networks, and the three others while measuring.
    weights = 4 * planned["parameters"] * planned["networks"] // ensemble_mesh(planned["networks"]).shape["network"]
    assert 4 * weights < planned["train_memory"] < 20 * weights
    assert 4 * weights < planned["measure_memory"] < 20 * weights


def test_the_disk_is_what_a_run_takes(planned, folder):
    def size(path):
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())

    assert size(folder / "snapshots") == pytest.approx(planned["snapshots"], rel=0.2)
    assert (folder / "results.nc").stat().st_size == pytest.approx(planned["results"], rel=0.2)
    # Two saves are there, and the plan holds room for a third.
    assert size(folder / "state") == pytest.approx(planned["state"] * 2 / 3, rel=0.2)
    assert planned["free"] == pytest.approx(shutil.disk_usage(folder).free, rel=0.2)


def test_times_are_scaled_to_the_whole(planned):
    assert 0 < planned["step_seconds"] < 1
    changed = {"steps": 900, "step_seconds": 2.0, "step_flops": 1e9, "measure_flops": 27e9, "checkpoints": 10}
    words = describe(**planned | changed)
    for said in ("30.0 minutes", "9.0 minutes", "39.0 minutes in all", "2.0 seconds (500.0 Mflop/s)"):
        assert said in words
    assert "warning" not in words


@pytest.mark.slow
def test_the_command_line_plans_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    """With little memory and disk it warns of both, and trains not even a step."""
    sysconf = os.sysconf
    monkeypatch.setattr(os, "sysconf", lambda name: 300 if name == "SC_PHYS_PAGES" else sysconf(name))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3_000_000))
    monkeypatch.setattr(planning, "_seconds_per_step", lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("carried out"))
    monkeypatch.setitem(QUESTIONS["onset"].presets, "smoke", CONFIG)
    main(["--preset", "smoke", "--plan", "--out", str(tmp_path / "new" / "run")])
    printed = capsys.readouterr().out
    assert "40 training steps (6 epochs), 11 checkpoints" in printed
    assert "warning: training needs" in printed
    assert "warning: measuring needs" in printed
    assert "of disk, and 3.0 MB are there" in printed
    assert "not tried, for want of memory" in printed
    assert "intervals: not estimated with two data sets" in printed
    assert "--sets 4 would do" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="2"):
        main(["--preset", "smoke", "--plan", "--out", str(tmp_path / "file" / "run")])
    assert "needs a folder that can be written" in capsys.readouterr().err


def test_amounts_have_the_prefixes_of_the_trade():
    """As matplotlib has them, which training is not to ask: it may be set up so that it cannot be imported."""
    there = EngFormatter("B", places=1)
    for amount in (0, 1, 999, 999.96, 1000, 1500, 999_949, 999_951, 5e7, 3e12, 7e15, 2e19, 4e25):
        assert planning._amount(amount, "B") == there(amount)
    assert planning._amount(float("nan"), "B") == "not known"
