"""A study on workers: the same numbers as in one process, whoever dies; and who may not work."""

import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import ray_cluster
import tiny_study

from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study import workers
from bertgrid_tf.study.workers import WorkerOptions
from tuners.ray_pool import Share

SAME = ("sweeps.csv", "grid.csv", "model/model.safetensors")


def numbers(folder: Path) -> dict[str, bytes]:
    predictions = {path.name: path.read_bytes() for path in (folder / "predictions").iterdir()}
    return {name: (folder / name).read_bytes() for name in SAME} | predictions


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The folder of a study in one process."""
    folder = tmp_path_factory.mktemp("alone") / "study"
    tiny_study.run(folder)
    return folder


@pytest.fixture
def hosts():
    """A cluster of two hosts with two cores each."""
    cluster, (second,) = ray_cluster.start(2, 2)
    yield cluster, second
    cluster.shutdown()


def test_three_workers_on_two_hosts_find_what_one_process_finds_though_two_are_lost(hosts, alone, tmp_path):
    cluster, second = hosts

    class Unlucky(tiny_study.Recorder):
        """Loses a worker in its sweep and a host in its grid, each while an epoch is trained."""

        def on_trial_begin(self, run, stage, *rest) -> None:
            super().on_trial_begin(run, stage, *rest)
            if stage == "sweep:context" and len(self.runs) == 2:
                threading.Thread(target=ray_cluster.kill_one_worker).start()
            if stage == "grid" and len(self.runs) == 4:
                threading.Thread(target=self.shut_down).start()

        def shut_down(self) -> None:
            ray_cluster.wait_for(lambda: ray_cluster.workers(host=second))
            cluster.remove_node(second, allow_graceful=False)

    told = Unlucky()
    tiny_study.run(tmp_path / "study", callback=told, workers=WorkerOptions(3, cluster.address))
    assert numbers(tmp_path / "study") == numbers(alone)
    assert told.workers == (3, "1 CPU core")
    assert [run for run in told.lost if run is not None]
    assert told.steps == 0  # nothing was trained here


def test_a_study_begun_on_workers_goes_on_in_one_process(alone, tmp_path):
    class Stopped(tiny_study.Recorder):
        def on_epoch_end(self, run, epoch, metrics) -> None:
            super().on_epoch_end(run, epoch, metrics)
            if len(self.epochs) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_study.run(tmp_path / "study", callback=Stopped(), workers=WorkerOptions(2))
    assert StudyFolder(tmp_path / "study").rows(tmp_path / "study" / "sweeps.csv")
    tiny_study.run(tmp_path / "study")
    assert numbers(tmp_path / "study") == numbers(alone)


def test_a_host_with_another_version_or_none_is_refused(hosts, tmp_path, monkeypatch):
    cluster, second = hosts
    cluster.remove_node(second)
    for version, sentence in (
        ("9.9.9", r"has bertgrid-tf 9\.9\.9, the study's own bertgrid-tf 0"),
        (None, "has no bertgrid-tf"),
    ):
        # What a process of that host finds in the place of this package.
        site = tmp_path / str(version) / "sitecustomize.py"
        site.parent.mkdir()
        found = f"type(sys)('bertgrid_tf'); sys.modules['bertgrid_tf'].__version__ = {version!r}" if version else "None"
        site.write_text(f"import sys; sys.modules['bertgrid_tf'] = {found}")
        monkeypatch.setenv("PYTHONPATH", str(site.parent))
        other = cluster.add_node(num_cpus=2)
        with pytest.raises(UserError, match=sentence):
            tiny_study.run(tmp_path / "study", workers=WorkerOptions(2, cluster.address))
        cluster.remove_node(other)


def test_a_worker_that_lacks_the_checkpoint_or_the_results_folder_says_so(tmp_path):
    recipe = tiny_study.tiny()
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / workers.LOCK).write_text("process 1 on here")
    job = workers.WorkerConfig(
        tiny_study.corpus_of(recipe), recipe, folder, folder / "predictions", {"scratch:1x32": "scratch:1x32"}
    )

    def order(**changes) -> workers.WorkerTask:
        base = workers.WorkerTask.of(job, WorkerOptions(2))
        return replace(base, **changes)

    assert workers._runs(order()).recipe == recipe
    with pytest.raises(UserError, match="does not see the results folder"):
        workers._runs(order(owner="process 2 on here"))
    with pytest.raises(UserError, match=r"has bertgrid-tf 0.*, the study's own bertgrid-tf 9\.9\.9"):
        workers._runs(order(version="9.9.9"))
    elsewhere = replace(job, recipe=tiny_study.tiny(model=str(tmp_path / "checkpoint")))
    with pytest.raises(UserError, match=r"The worker on .* cannot train: .*checkpoint"):
        workers._runs(order(job=elsewhere))
    other = replace(job, checkpoints={"scratch:1x32": "abc"})
    with pytest.raises(UserError, match="has other files of the checkpoint scratch:1x32"):
        workers._runs(order(job=other))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (WorkerOptions(99), "99 workers are more than the"),
        (WorkerOptions(2, "127.0.0.1:1"), "no Ray cluster answers at 127.0.0.1:1"),
        (WorkerOptions(None, "127.0.0.1"), "is no address of a Ray cluster"),
    ],
)
def test_workers_that_cannot_be_had_are_refused_before_anything_runs(asked, sentence, tmp_path):
    told = tiny_study.Recorder()
    with pytest.raises(ValueError, match=sentence):
        tiny_study.run(tmp_path / "study", callback=told, workers=asked)
    assert not told.runs


def test_the_final_model_has_as_many_gpus_as_a_host_has():
    start_workers = workers.WorkerPool(WorkerOptions(None), [Share(8, 4), Share(8, 2)])
    assert (start_workers.count, start_workers.each) == (6, "a GPU of its own")
    assert [start_workers.final_gpus(asked) for asked in (1, 3, "all")] == [1, 3, 4]
    with pytest.raises(UserError, match=r"on 5 GPUs, since no host has more than 4: choose --final-gpus 4 or all"):
        start_workers.final_gpus(5)
    assert workers.WorkerPool(WorkerOptions(None), [Share(8, 0), Share(8, 0)]).count == 2


def test_without_ray_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tuners.ray_pool", None)
    with pytest.raises(UserError, match=r"pip install 'bertgrid-tf\[ray\]'"):
        tiny_study.run(tmp_path / "study", workers=WorkerOptions(2))


def test_what_looks_at_the_winner_again_is_carried_by_workers_too(alone, tmp_path):
    found = []
    for name, carriers in (("here", None), ("workers", WorkerOptions(2))):
        folder = shutil.copytree(alone, tmp_path / name)
        shutil.rmtree(folder / "model")  # until it is there, more seeds may be asked for
        told = tiny_study.run(folder, tiny_study.tiny(repeats=2, audit=True), workers=carriers)
        assert bool(told.steps) == (carriers is None)
        found.append(
            [
                (run.name, run.stage, [epoch["loss"] for epoch in run.epochs])
                for run in StudyFolder(folder).read_follow_ups()
            ]
        )
    assert {stage for _, stage, _ in found[0]} == {"repeats", "audit"}
    assert found[0] == found[1]
