import gzip
import hashlib
import http.server
import threading
from dataclasses import replace

import pytest

from bertgrid_tf.corpus import (
    SOURCES,
    Patience,
    Source,
    SourceFile,
    fetch,
    find,
    load,
    missing,
    user_data_dir,
)
from bertgrid_tf.corpus.download import git_blob_id

TRAIN = ("id\tdocument\tlabel\n" + "".join(f"{n}\t리뷰 {n}\t{n % 2}\n" for n in range(3000))).encode()
TEST = b"id\tdocument\tlabel\n9\tgood\t1\n"
FILES = {"ratings_train.txt": TRAIN, "ratings_test.txt": TEST}
HALF = len(TRAIN) // 2
PATIENCE = Patience(timeout=20.0, attempts=3, pause=0.0)
# For hosts that fall silent: a test waits for the end of it.
HASTY = Patience(timeout=0.4, attempts=2, pause=0.0)


class _Host(http.server.BaseHTTPRequestHandler):
    """One server, many hosts: the first part of the path names how it behaves."""

    def do_GET(self):
        _, behaviour, name = self.path.split("/")
        asked = self.headers.get("Range")
        self.server.asked.append((behaviour, name, asked))
        self.first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        getattr(self, behaviour)(FILES[name])

    def good(self, content):
        if self.first >= len(content):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        elif self.first:
            total = f"bytes {self.first}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[self.first :], {"Content-Range": total})
        else:
            self.answer(200, content)

    def ignores_range(self, content):
        self.answer(200, content)

    def ignores_range_and_breaks_off(self, content):
        self.answer(200, content[:HALF], {"Content-Length": len(content)})

    def breaks_off(self, content):
        """Each answer ends after at most half of the file, short of the length that it announced."""
        if not self.first:
            self.answer(200, content[:HALF], {"Content-Length": len(content)})
        else:
            self.good(content)

    def breaks_off_unannounced(self, content):
        if not self.first:
            self.answer(200, content[:HALF], {"Content-Length": None})
        else:
            self.good(content)

    def stalls(self, content):
        if not self.first:
            self.answer(200, content[:HALF], {"Content-Length": len(content)})
            self.wfile.flush()
            self.server.released.wait(5)
        else:
            self.good(content)

    def silent(self, content):
        self.server.released.wait(5)

    def busy_once(self, content):
        if sum(behaviour == "busy_once" for behaviour, _, _ in self.server.asked) == 1:
            self.answer(503, b"later")
        else:
            self.good(content)

    def absent(self, content):
        self.answer(404, b"no such file")

    def wrong(self, content):
        self.good(b"x" * len(content))

    def shorter(self, content):
        self.good(content[:-5])

    def shorter_unannounced(self, content):
        if self.first:
            self.good(content[:-5])
        else:
            self.answer(200, content[:-5], {"Content-Length": None})

    def endless(self, content):
        self.answer(200, content + b"x" * 500_000, {"Content-Length": None})

    def other_range(self, content):
        if self.first:
            self.answer(206, content, {"Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}"})
        else:
            self.answer(200, content)

    def compresses(self, content):
        """Sends gzip to whoever does not ask for the file as it is, as GitHub does."""
        if self.headers["Accept-Encoding"] == "identity":
            self.good(content)
        else:
            self.compresses_regardless(content)

    def compresses_regardless(self, content):
        self.answer(200, gzip.compress(content), {"Content-Encoding": "gzip"})

    def answer(self, status, body, headers=None):
        self.server.sent.append(len(body))
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
    server.asked = []
    server.sent = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(running_server):
    running_server.asked.clear()
    running_server.sent.clear()
    return running_server


@pytest.fixture
def source(server):
    """A source in NSMC's format on hosts that behave as named."""

    def on(*behaviours):
        files = tuple(
            SourceFile(name, git_blob_id(content), len(content), name.removeprefix("ratings_").removesuffix(".txt"))
            for name, content in FILES.items()
        )
        hosts = tuple(f"http://127.0.0.1:{server.server_port}/{behaviour}" for behaviour in behaviours)
        return Source("reviews", "reviews", "CC0", "https://example.org/reviews", hosts, files, SOURCES["nsmc"].read)

    return on


def _assert_whole(folder):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


def _first_bytes(server, host):
    """From which byte on each request to a host asked for the training file."""
    return [
        int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        for behaviour, name, asked in server.asked
        if (behaviour, name) == (host, "ratings_train.txt")
    ]


def test_the_blob_id_is_gits():
    assert git_blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert git_blob_id(b"") == hashlib.sha1(b"blob 0\0").hexdigest()


def test_fetch_verifies_reports_progress_and_leaves_nothing_else(source, tmp_path):
    reports = []
    folder = fetch(source("good"), tmp_path / "a" / "reviews", lambda *report: reports.append(report), PATIENCE)
    assert folder == tmp_path / "a" / "reviews"
    _assert_whole(folder)
    train = [report for report in reports if report[0] == "ratings_train.txt"]
    assert train == sorted(train)
    assert train[-1] == ("ratings_train.txt", len(TRAIN), len(TRAIN))


@pytest.mark.parametrize(
    "behaviour",
    ["breaks_off", "breaks_off_unannounced", "busy_once", "compresses_regardless", "ignores_range"],
)
def test_a_host_with_troubles_is_asked_again(behaviour, source, tmp_path):
    _assert_whole(fetch(source(behaviour), tmp_path, None, PATIENCE))


def test_a_host_that_stalls_is_asked_for_the_rest(source, server, tmp_path):
    _assert_whole(fetch(source("stalls", "absent"), tmp_path, None, replace(HASTY, attempts=3)))
    assert _first_bytes(server, "stalls")[0] == 0
    assert _first_bytes(server, "stalls")[-1] == pytest.approx(HALF, abs=8192)


def test_a_silent_host_is_left_in_time(source, server, tmp_path, refusal):
    refusal(lambda: fetch(source("silent"), tmp_path, None, HASTY), "did not answer in time")
    assert _first_bytes(server, "silent") == [0, 0]


def test_what_broke_off_is_gone_on_from_where_it_stopped(source, server, tmp_path):
    fetch(source("breaks_off"), tmp_path, None, PATIENCE)
    _assert_whole(tmp_path)
    assert _first_bytes(server, "breaks_off") == [0, pytest.approx(HALF, abs=8192)]


@pytest.mark.parametrize("behaviour", ["good", "ignores_range", "other_range", "compresses"])
def test_a_part_of_an_earlier_call_is_gone_on_from_or_done_over(behaviour, source, server, tmp_path):
    (tmp_path / "ratings_train.txt.part").write_bytes(TRAIN[:1000])
    _assert_whole(fetch(source(behaviour), tmp_path, None, PATIENCE))
    assert _first_bytes(server, behaviour)[0] == 1000
    if behaviour in ("good", "compresses"):
        assert server.sent == [len(TRAIN) - 1000, len(TEST)]


@pytest.mark.parametrize("part", [b"other content", b"x" * len(TRAIN), b"x" * (len(TRAIN) + 7)])
def test_a_part_of_other_content_is_done_over(part, source, tmp_path):
    (tmp_path / "ratings_train.txt.part").write_bytes(part)
    _assert_whole(fetch(source("good"), tmp_path, None, PATIENCE))


def test_another_process_that_fetches_the_same_files_does_no_harm(source, tmp_path):
    nested = []

    def fetch_meanwhile(*_):
        if not nested:
            nested.append(fetch(source("good"), tmp_path, None, PATIENCE))

    fetch(source("good"), tmp_path, fetch_meanwhile, PATIENCE)
    assert nested == [tmp_path]
    _assert_whole(tmp_path)


def test_a_complete_part_needs_no_host(source, server, tmp_path):
    for name, content in FILES.items():
        (tmp_path / f"{name}.part").write_bytes(content)
    _assert_whole(fetch(source("absent"), tmp_path, None, PATIENCE))
    assert server.asked == []


@pytest.mark.parametrize(
    "behaviour",
    [
        "absent",
        "wrong",
        "shorter",
        "shorter_unannounced",
        "endless",
        "ignores_range_and_breaks_off",
    ],
)
def test_the_mirror_is_asked_where_the_first_host_fails(behaviour, source, tmp_path):
    _assert_whole(fetch(source(behaviour, "good"), tmp_path, None, PATIENCE))


def test_the_mirror_goes_on_where_the_first_host_broke_off(source, server, tmp_path):
    fetch(source("breaks_off", "good"), tmp_path, None, replace(PATIENCE, attempts=1))
    assert _first_bytes(server, "good") == [pytest.approx(HALF, abs=8192)]
    _assert_whole(tmp_path)


def test_an_answer_that_never_ends_is_cut_off(source, tmp_path, refusal):
    reached = []
    refusal(
        lambda: fetch(source("endless"), tmp_path, lambda _, there, __: reached.append(there), PATIENCE),
        "published",
    )
    assert max(reached) < len(TRAIN) + 200_000


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("absent", "404"),
        ("wrong", "not the published"),
        ("shorter", f"{len(TRAIN) - 5} bytes instead of {len(TRAIN)}"),
        ("ignores_range_and_breaks_off", "broke off"),
    ],
)
def test_where_no_host_helps_the_error_says_how_to_place_the_files_by_hand(
    behaviour, reason, source, tmp_path, refusal
):
    folder = tmp_path / "reviews"
    by_hand = ["ratings_train.txt, ratings_test.txt", "https://example.org/reviews", folder]
    refusal(lambda: fetch(source(behaviour, behaviour), folder, None, PATIENCE), reason, *by_hand)
    assert {path.suffix for path in folder.iterdir()} <= {".part"}
    assert missing(source("good"), folder) == ("ratings_train.txt", "ratings_test.txt")


def test_wrong_content_leaves_no_part_behind(source, tmp_path, refusal):
    refusal(lambda: fetch(source("wrong", "wrong"), tmp_path, None, PATIENCE), "not the published")
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_cannot_be_reached_is_named(source, tmp_path, refusal):
    nowhere = replace(source(), hosts=("http://127.0.0.1:9/x",))
    refusal(lambda: fetch(nowhere, tmp_path, None, PATIENCE), "http://127.0.0.1:9/x/ratings_train.txt", "reached")


def test_a_file_that_is_there_is_verified_not_fetched(source, server, tmp_path, refusal):
    (tmp_path / "ratings_test.txt").write_bytes(TEST)
    fetch(source("good"), tmp_path, None, PATIENCE)
    assert [name for _, name, _ in server.asked] == ["ratings_train.txt"]
    (tmp_path / "ratings_test.txt").write_bytes(b"my own")
    refusal(
        lambda: fetch(source("good"), tmp_path, None, PATIENCE),
        tmp_path / "ratings_test.txt",
        "other content",
    )
    assert (tmp_path / "ratings_test.txt").read_bytes() == b"my own"


def test_a_folder_that_cannot_be_made_is_refused(source, tmp_path, refusal):
    (tmp_path / "file").write_text("")
    refusal(lambda: fetch(source("good"), tmp_path / "file" / "reviews", None, PATIENCE), "cannot be written")


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
    fetch(reviews, tmp_path / "reviews", None, PATIENCE)
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
        assert (git_blob_id(content), len(content)) == (file.blob_id, file.size)


def test_the_real_friends_corpus_loads(real_data):
    corpus = load("friends", [real_data])
    assert len(corpus.labels) == 8
    assert [len(dialogues) for dialogues in corpus.splits.values()] == [720, 80, 200]


def test_the_users_own_folder_is_in_the_cache():
    assert user_data_dir().parts[-2:] == ("bertgrid-tf", "datasets")
