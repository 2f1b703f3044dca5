"""A study on workers: the same numbers as in one process, whichever worker is lost; and hosts that are refused."""

import sys
import threading
from dataclasses import replace
from pathlib import Path

import made_up_gpus
import pytest
import ray_cluster
import tiny_study

from bertgrid_tf import __version__
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study import workers
from bertgrid_tf.study.workers import WorkerConfig, WorkerOptions, WorkerTask
from bertgrid_tf.trial_config import GRID, INTERACTIONS, SEEDS
from tuners.ray_pool import Share

FOLLOWED_UP = tiny_study.tiny(n_seeds=2, check_interactions=True)
SAME = ("sweeps.csv", "grid.csv", "model/model.safetensors")


def numbers(folder: Path) -> dict[str, bytes]:
    predictions = {path.name: path.read_bytes() for path in (folder / "predictions").iterdir()}
    return {name: (folder / name).read_bytes() for name in SAME} | predictions


@pytest.fixture(scope="module")
def single_process(tmp_path_factory) -> Path:
    """The folder of a study in one process, with trials after its search."""
    folder = tmp_path_factory.mktemp("single_process") / "study"
    tiny_study.run(folder, FOLLOWED_UP)
    assert {trial.config.stage for trial in StudyFolder(folder).read_follow_ups()} == {SEEDS, INTERACTIONS}
    return folder


@pytest.fixture
def hosts():
    """A cluster of two hosts with two cores each."""
    cluster, (second,) = ray_cluster.start(2, 2)
    yield cluster, second
    cluster.shutdown()


@pytest.mark.slow
def test_three_workers_on_two_hosts_give_the_numbers_of_one_process_though_two_are_lost(
    hosts, single_process, tmp_path
):
    cluster, second = hosts

    class Unlucky(tiny_study.Recorder):
        """Loses a worker in its sweep and a host in its grid, each while an epoch is trained."""

        def on_trial_begin(self, trial, config, steps) -> None:
            super().on_trial_begin(trial, config, steps)
            if config.stage == "sweep:context" and len(self.trials) == 2:
                threading.Thread(target=ray_cluster.kill_one_worker).start()
            if config.stage == GRID and len(self.trials) == 4:
                threading.Thread(target=self.shut_down).start()

        def shut_down(self) -> None:
            ray_cluster.wait_for(lambda: ray_cluster.workers(host=second))
            cluster.remove_node(second, allow_graceful=False)

    recorder = Unlucky()
    tiny_study.run(tmp_path / "study", FOLLOWED_UP, callback=recorder, workers=WorkerOptions(3, cluster.address))
    assert numbers(tmp_path / "study") == numbers(single_process)
    assert recorder.workers == (3, "1 CPU core")
    assert [trial for trial in recorder.lost if trial is not None]
    assert recorder.steps == 0  # nothing was trained in this process


def test_a_study_begun_on_workers_goes_on_in_one_process(single_process, tmp_path):
    class Stopped(tiny_study.Recorder):
        def on_epoch_end(self, trial, epoch, metrics) -> None:
            super().on_epoch_end(trial, epoch, metrics)
            if len(self.epochs) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_study.run(tmp_path / "study", FOLLOWED_UP, callback=Stopped(), workers=WorkerOptions(2))
    assert StudyFolder(tmp_path / "study").read_sweeps()
    tiny_study.run(tmp_path / "study", FOLLOWED_UP)
    assert numbers(tmp_path / "study") == numbers(single_process)


def test_the_trials_after_the_search_are_trained_at_a_time(tmp_path, capfd):
    class Noting(tiny_study.Recorder):
        """Ends with the search if asked to, and notes what begins and ends after it."""

        def __init__(self, search_only: bool = False) -> None:
            super().__init__()
            self.events: list[str] = []
            self.search_only = search_only

        def on_trial_begin(self, trial, config, steps) -> None:
            super().on_trial_begin(trial, config, steps)
            if self.search_only and config.stage == SEEDS:
                raise KeyboardInterrupt
            self.events.append(f"{trial} begins")

        def on_trial_end(self, trial) -> None:
            self.events.append(f"{trial} ends")

    recipe = tiny_study.tiny(sweeps={}, learning_rates=[8e-3], epochs=1, n_seeds=3, **{"final.model": "none"})
    one, two = tmp_path / "one", tmp_path / "two"
    tiny_study.run(one, recipe)
    with pytest.raises(KeyboardInterrupt):
        tiny_study.run(two, recipe, callback=Noting(search_only=True))
    noted = Noting()
    tiny_study.run(two, recipe, callback=noted, workers=WorkerOptions(2))
    names = [f"seed{seed}_0.008_1" for seed in (2, 3)]
    assert noted.events[:2] == [f"{name} begins" for name in names]
    assert sorted(noted.events[2:]) == [f"{name} ends" for name in names]
    assert noted.steps == 0  # nothing was trained in this process
    assert numbers(two) == numbers(one)
    assert "forked" not in capfd.readouterr().err  # a warning of the tokenizers


def test_a_host_with_another_version_or_none_is_refused(hosts, tmp_path, monkeypatch):
    cluster, second = hosts
    cluster.remove_node(second)
    for version, sentence in (
        ("9.9.9", r"has bertgrid-tf 9\.9\.9, the study's own bertgrid-tf 0"),
        (None, "has no bertgrid-tf"),
    ):
        # Stands for the package in every process of that host.
        site = tmp_path / str(version) / "sitecustomize.py"
        site.parent.mkdir()
        module = (
            f"type(sys)('bertgrid_tf'); sys.modules['bertgrid_tf'].__version__ = {version!r}" if version else "None"
        )
        site.write_text(f"import sys; sys.modules['bertgrid_tf'] = {module}")
        monkeypatch.setenv("PYTHONPATH", str(site.parent))
        other = cluster.add_node(num_cpus=2)
        with pytest.raises(UserError, match=sentence):
            tiny_study.run(tmp_path / "study", workers=WorkerOptions(2, cluster.address))
        cluster.remove_node(other)


def test_a_worker_that_lacks_the_checkpoint_or_the_study_folder_is_refused(tmp_path):
    recipe = tiny_study.tiny()
    folder = tmp_path / "study"
    folder.mkdir()
    StudyFolder(folder).lock_file.write_text("process 1 on here")
    config = WorkerConfig(tiny_study.corpus_of(recipe), recipe, folder, {"scratch:1x32": "scratch:1x32"})

    def start(**changes) -> object:
        task = WorkerTask(config, __version__, "process 1 on here", str(Path.cwd()), None)
        return workers._trial_runner(replace(task, **changes))

    assert start()
    with pytest.raises(UserError, match="does not see the study folder"):
        start(owner="process 2 on here")
    with pytest.raises(UserError, match=r"has bertgrid-tf 0.*, the study's own bertgrid-tf 9\.9\.9"):
        start(version="9.9.9")
    elsewhere = replace(config, recipe=tiny_study.tiny(model=str(tmp_path / "checkpoint")))
    with pytest.raises(UserError, match=r"The worker on .* cannot train: .*checkpoint"):
        start(config=elsewhere)
    other = replace(config, checkpoints={"scratch:1x32": "abc"})
    with pytest.raises(UserError, match="has other files of the checkpoint scratch:1x32"):
        start(config=other)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (WorkerOptions(99), "99 workers are more than the"),
        (WorkerOptions(2, "127.0.0.1:1"), "no Ray cluster answers at 127.0.0.1:1"),
        (WorkerOptions(None, "127.0.0.1"), "is no address of a Ray cluster"),
    ],
)
def test_workers_that_cannot_be_had_are_refused_before_anything_runs(asked, sentence, tmp_path):
    recorder = tiny_study.Recorder()
    with pytest.raises(ValueError, match=sentence):
        tiny_study.run(tmp_path / "study", callback=recorder, workers=asked)
    assert not recorder.trials


def test_the_final_model_has_as_many_gpus_as_a_host_has():
    pool = workers.WorkerPool(WorkerOptions(None), [Share(8, 4), Share(8, 2)])
    assert (pool.count, pool.share) == (6, "a GPU of its own")
    assert [pool.final_gpus(asked) for asked in (1, 3, "all")] == [1, 3, 4]
    with pytest.raises(UserError, match=r"on 5 GPUs, since no host has more than 4: choose --final-gpus 4 or all"):
        pool.final_gpus(5)
    on_cpus = workers.WorkerPool(WorkerOptions(None), [Share(8, 0), Share(8, 0)])
    assert (on_cpus.count, on_cpus.at_once(1)) == (2, 2)


def test_models_of_several_gpus_are_trained_on_as_many_hosts_as_have_them():
    hosts = [Share(8, 4), Share(8, 2)]
    assert [workers.WorkerPool(WorkerOptions(None), hosts).at_once(gpus) for gpus in (1, 2, 3, 4)] == [6, 3, 1, 1]
    assert workers.WorkerPool(WorkerOptions(2), hosts).at_once(1) == 2


def test_without_ray_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tuners.ray_pool", None)
    with pytest.raises(UserError, match=r"pip install 'bertgrid-tf\[ray\]'"):
        tiny_study.run(tmp_path / "study", workers=WorkerOptions(2))


@pytest.mark.parametrize(
    ("cards", "cores", "free", "expected"),
    [
        (2, 2, 10**10, (2, "there are 2 GPUs")),
        (9, 2, 10**10, (7, "the grid has 7 rows")),
        (0, 1, 10**10, (1, "there is 1 CPU core")),
        (0, 2, 10**10, (1, "4 CPU cores each, of 2 in all")),
        (0, 16, 10**10, (4, "4 CPU cores each, of 16 in all")),
        (0, 64, 10**10, (7, "the grid has 7 rows")),
    ],
)
def test_as_many_workers_as_gpus_or_every_four_cores(monkeypatch, cards, cores, free, expected):
    made_up_gpus.give(monkeypatch, *[made_up_gpus.A10] * cards)
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setattr(workers, "free_memory", lambda: free)
    recipe = tiny_study.tiny(learning_rates=[1e-3 / 2**n for n in range(7)])
    assert workers.sensible_count(recipe, tiny_study.corpus_of(recipe)) == expected


def test_no_more_workers_than_fit_the_free_memory(monkeypatch):
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda process: set(range(64)))
    monkeypatch.setattr(workers, "free_memory", lambda: 9 * 10**9)
    recipe = tiny_study.tiny(model="scratch:12x768", learning_rates=[1e-3 / 2**n for n in range(7)])
    count, because = workers.sensible_count(recipe, tiny_study.corpus_of(recipe))
    assert count == 2
    assert because == "about 3.2 GB each, of 9.0 GB of free memory"
