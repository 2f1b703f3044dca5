import gzip
import hashlib
import http.server
import threading
from dataclasses import replace

import pytest

from bertgrid_tf.corpus import SOURCES, Source, SourceFile, download, fetch, find, load, missing, user_data_dir

TRAIN = ("id\tdocument\tlabel\n" + "".join(f"{n}\t리뷰 {n}\t{n % 2}\n" for n in range(3000))).encode()
TEST = b"id\tdocument\tlabel\n9\tgood\t1\n"
FILES = {"ratings_train.txt": TRAIN, "ratings_test.txt": TEST}


class _Host(http.server.BaseHTTPRequestHandler):
    """One server, many hosts: the first part of the path names the host's behaviour."""

    def do_GET(self):
        _, behaviour, name = self.path.split("/")
        self.server.requests.append((behaviour, name))
        getattr(self, behaviour)(FILES[name])

    def good(self, content):
        self.answer(200, content)

    def compresses(self, content):
        self.answer(200, gzip.compress(content), {"Content-Encoding": "gzip"})

    def unannounced(self, content):
        self.answer(200, content, {"Content-Length": None})

    def breaks_off(self, content):
        """Sends half of the file, short of the announced length."""
        self.answer(200, content[: len(content) // 2], {"Content-Length": len(content)})

    def breaks_off_unannounced(self, content):
        self.answer(200, content[: len(content) // 2], {"Content-Length": None})

    def stalls(self, content):
        self.breaks_off(content)
        self.wfile.flush()
        self.server.released.wait(5)

    def endless(self, content):
        self.answer(200, b"", {"Content-Length": None})
        while not self.server.released.wait(0):
            self.wfile.write(content)

    def drips(self, content):
        self.answer(200, b"", {"Content-Length": None})
        while not self.server.released.wait(0.1):
            self.wfile.write(b"x")
            self.wfile.flush()

    def silent(self, content):
        self.server.released.wait(5)

    def busy(self, content):
        self.answer(503, b"later")

    def absent(self, content):
        self.answer(404, b"no such file")

    def wrong(self, content):
        self.answer(200, b"x" * len(content))

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for key, value in {"Content-Length": len(body), **(headers or {})}.items():
            if value is not None:
                self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def running_server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Host)
    server.daemon_threads = True
    server.released = threading.Event()
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(running_server):
    running_server.requests.clear()
    return running_server


@pytest.fixture
def source(server):
    """A source in NSMC's format on hosts with the named behaviours."""

    def on(*behaviours):
        files = tuple(
            SourceFile(
                name,
                hashlib.sha256(content).hexdigest(),
                len(content),
                name.removeprefix("ratings_").removesuffix(".txt"),
            )
            for name, content in FILES.items()
        )
        hosts = tuple(f"http://127.0.0.1:{server.server_port}/{behaviour}" for behaviour in behaviours)
        return Source("reviews", "reviews", "CC0", "https://example.org/reviews", hosts, files, SOURCES["nsmc"].read)

    return on


def _assert_whole(folder):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


@pytest.mark.parametrize("behaviour", ["good", "compresses", "unannounced"])
def test_fetch_verifies_reports_progress_and_leaves_nothing_else(behaviour, source, tmp_path):
    reports = []
    folder = fetch(source(behaviour), tmp_path / "a" / "reviews", lambda *report: reports.append(report))
    assert folder == tmp_path / "a" / "reviews"
    _assert_whole(folder)
    train = [report for report in reports if report[0] == "ratings_train.txt"]
    assert train == sorted(train)
    assert train[-1] == ("ratings_train.txt", len(TRAIN), len(TRAIN))


def test_fetched_files_are_readable_for_others_who_share_the_folder(source, tmp_path):
    for path in fetch(source("good"), tmp_path).iterdir():
        assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("behaviour", ["absent", "busy", "wrong", "breaks_off", "breaks_off_unannounced"])
def test_the_mirror_is_asked_where_the_first_host_fails(behaviour, source, server, tmp_path):
    _assert_whole(fetch(source(behaviour, "good"), tmp_path))
    assert server.requests == [(host, name) for name in FILES for host in (behaviour, "good")]


@pytest.mark.parametrize("behaviour", ["silent", "stalls", "endless", "drips"])
def test_a_host_that_falls_silent_or_never_ends_is_left_in_time_for_the_mirror(
    behaviour, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(download, "SLOWEST", 1e6)
    _assert_whole(fetch(source(behaviour, "good"), tmp_path, timeout=0.4))


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("absent", "answered 404 Not Found"),
        ("wrong", "not the published"),
        ("breaks_off", "broke off"),
        ("breaks_off_unannounced", "not the published"),
        ("silent", "did not answer in time"),
    ],
)
def test_where_no_host_helps_the_error_says_how_to_place_the_files_by_hand(
    behaviour, reason, source, tmp_path, refusal
):
    folder = tmp_path / "reviews"
    by_hand = ["ratings_train.txt, ratings_test.txt", "https://example.org/reviews", folder]
    refusal(lambda: fetch(source(behaviour, behaviour), folder, timeout=0.4), reason, *by_hand)
    assert list(folder.iterdir()) == []


def test_unverified_content_never_gets_the_final_name(source, tmp_path, refusal):
    seen = []

    def watch(*_):
        seen.extend(path.name for path in tmp_path.iterdir())

    refusal(lambda: fetch(source("wrong"), tmp_path, watch), "not the published")
    assert seen
    assert not set(seen) & set(FILES)


def test_another_process_that_fetches_the_same_files_does_no_harm(source, tmp_path):
    nested = []

    def fetch_meanwhile(*_):
        if not nested:
            nested.append(fetch(source("good"), tmp_path))

    fetch(source("good"), tmp_path, fetch_meanwhile)
    assert nested == [tmp_path]
    _assert_whole(tmp_path)


def test_a_host_that_cannot_be_reached_is_named(source, tmp_path, refusal):
    nowhere = replace(source(), hosts=("http://127.0.0.1:9/x",))
    refusal(lambda: fetch(nowhere, tmp_path), "http://127.0.0.1:9/x/ratings_train.txt", "reached")


def test_a_file_that_is_there_is_verified_not_fetched(source, server, tmp_path, refusal):
    (tmp_path / "ratings_test.txt").write_bytes(TEST)
    fetch(source("good"), tmp_path)
    assert [name for _, name in server.requests] == ["ratings_train.txt"]
    (tmp_path / "ratings_test.txt").write_bytes(b"my own")
    refusal(lambda: fetch(source("good"), tmp_path), tmp_path / "ratings_test.txt", "other content")
    assert (tmp_path / "ratings_test.txt").read_bytes() == b"my own"


def test_a_folder_that_cannot_be_made_is_refused(source, tmp_path, refusal):
    (tmp_path / "file").write_text("")
    refusal(lambda: fetch(source("good"), tmp_path / "file" / "reviews"), "cannot be written")


def test_the_first_folder_with_all_files_is_found_named_folders_before_bare_ones(source, tmp_path):
    reviews = source()

    def place(folder, names=tuple(FILES)):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_bytes(FILES[name])

    one, two = tmp_path / "one", tmp_path / "two"
    assert find(reviews, [one, two]) is None
    place(two)
    assert find(reviews, [one, two]) == two
    place(one / "reviews", ["ratings_test.txt"])
    assert find(reviews, [one, two]) == two
    assert missing(reviews, one / "reviews") == ("ratings_train.txt",)
    place(two / "reviews")
    assert find(reviews, [one, two]) == two / "reviews"
    place(one)
    assert find(reviews, [one, two]) == one


def test_load_reads_what_was_fetched_and_holds_out_a_dev_split(source, tmp_path):
    reviews = source("good")
    fetch(reviews, tmp_path / "reviews")
    corpus = load(reviews, [tmp_path], seed=1)
    assert corpus.name == "reviews"
    assert {split: len(dialogues) for split, dialogues in corpus.splits.items()} == {
        "train": 2700,
        "dev": 300,
        "test": 1,
    }
    assert load(reviews, [tmp_path], seed=1) == corpus
    assert load(reviews, [tmp_path], seed=2) != corpus


def test_load_says_how_to_get_what_is_not_there(tmp_path, refusal):
    parts = [
        tmp_path,
        "data fetch nsmc",
        "ratings_train.txt",
        "https://github.com/e9t/nsmc",
        tmp_path / "nsmc",
    ]
    refusal(lambda: load("nsmc", [tmp_path]), *parts)


def test_an_unknown_corpus_is_refused(tmp_path, refusal):
    refusal(lambda: load("frends", [tmp_path]), "'frends'", "friends and nsmc")


def test_the_real_files_of_friends_are_the_published_ones(real_data):
    for file in SOURCES["friends"].files:
        content = (real_data / "friends" / file.name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file.sha256, file.size)


def test_the_real_friends_corpus_loads(real_data):
    corpus = load("friends", [real_data])
    assert len(corpus.labels) == 8
    assert [len(dialogues) for dialogues in corpus.splits.values()] == [720, 80, 200]


def test_the_users_own_folder_is_in_the_cache():
    assert user_data_dir().parts[-2:] == ("bertgrid-tf", "datasets")
