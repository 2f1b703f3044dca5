"""The public corpora: their publication, their download, and their place on disk."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bertgrid_tf.corpus.dialogue import Corpus, Dialogue
from bertgrid_tf.corpus.download import DownloadError, DownloadProgress, download
from bertgrid_tf.corpus.readers import read_emotionlines, read_nsmc
from bertgrid_tf.corpus.split import hold_out
from bertgrid_tf.errors import UserError

_HELD_OUT = 0.1


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A published file.

    Attributes:
        name: The file's name, on the hosts and in the local folder.
        sha256: The SHA-256 checksum of the published content, in hexadecimal.
        size: The size in bytes.
        split: The split in the file, or None for a file that no study needs.
    """

    name: str
    sha256: str
    size: int
    split: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """A published corpus.

    Attributes:
        name: The name on the command line.
        title: A description of one line.
        licence: The terms under which the corpus is published.
        page: The public page to get the files from by hand.
        hosts: The URLs of the folders with the files, in the order in which to ask them.
        files: The published files.
        read: A function that reads the file of one split.
    """

    name: str
    title: str
    licence: str
    page: str
    hosts: tuple[str, ...]
    files: tuple[SourceFile, ...]
    read: Callable[[Path], tuple[Dialogue, ...]]

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(file.size for file in self.files)


FRIENDS = Source(
    name="friends",
    title="EmotionLines, Friends: English dialogues, 8 emotions",
    licence="no licence text is published with it; see the authors' page, and Chen et al., LREC 2018",
    page="http://doraemon.iis.sinica.edu.tw/emotionlines/",
    # The authors' page serves no single files, so that the pinned mirror is what can be fetched.
    hosts=(
        "https://raw.githubusercontent.com/missu79/sa_for_friends_koreauniv_project/557f8d70463d4f29af69680542cfd122fe2d7aa5",
        "https://github.com/missu79/sa_for_friends_koreauniv_project/raw/557f8d70463d4f29af69680542cfd122fe2d7aa5",
    ),
    files=(
        SourceFile(
            "friends_train.json", "5e829d109fe0a0eef5eed6539a2010aa6582e9b31ac67e9091542dcf1a09e101", 2_065_470, "train"
        ),
        SourceFile(
            "friends_dev.json", "1c0fcfc39a3434197863495d4bf66f8c348499fee15990367f74f7521982c803", 229_392, "dev"
        ),
        SourceFile(
            "friends_test.json", "1707bb019e4863230bc84656b548caa4ab2abcac09192af2f2b75d68fe75dcff", 544_341, "test"
        ),
        SourceFile("en_data.csv", "a13521904503972355d87f25942e3cf8fd1e19e937760a324f44ab17e30ee328", 97_634, None),
    ),
    read=read_emotionlines,
)

NSMC = Source(
    name="nsmc",
    title="Naver sentiment movie corpus: Korean reviews, negative or positive",
    licence="CC0 1.0",
    page="https://github.com/e9t/nsmc",
    hosts=(
        "https://raw.githubusercontent.com/e9t/nsmc/cc0670e872d4ac27bfe36c87456783004b39ef6c",
        "https://github.com/e9t/nsmc/raw/cc0670e872d4ac27bfe36c87456783004b39ef6c",
    ),
    files=(
        SourceFile(
            "ratings_train.txt", "e03b7d14e9e41be8d464a28057cd25d7396c53e67aa7fd5f7e552c59b0ee2940", 14_628_807, "train"
        ),
        SourceFile(
            "ratings_test.txt", "8ac9f64052f11dbf6ae0acb5e038f03d90a76f0eda7820cfb3a92d02edfcebda", 4_893_335, "test"
        ),
    ),
    read=read_nsmc,
)

SOURCES: Mapping[str, Source] = MappingProxyType({source.name: source for source in (FRIENDS, NSMC)})


def user_data_dir() -> Path:
    """Return the default folder of fetched corpora, in the user's cache."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("bertgrid-tf")) / "datasets"


def find(source: str | Source, data_dirs: Iterable[Path]) -> Path | None:
    """Find the first of `data_dirs`, or of their subfolders named after the corpus, that holds all splits."""
    source = _source(source)
    for data_dir in data_dirs:
        for folder in (Path(data_dir) / source.name, Path(data_dir)):
            if not missing(source, folder):
                return folder
    return None


def missing(source: str | Source, folder: Path) -> tuple[str, ...]:
    """List the files of a public corpus that a study needs and a folder lacks.

    Example:
        >>> from pathlib import Path
        >>> from bertgrid_tf.corpus import missing
        >>> missing("nsmc", Path("no/such/folder"))
        ('ratings_train.txt', 'ratings_test.txt')
    """
    return tuple(file.name for file in _source(source).files if file.split and not (Path(folder) / file.name).is_file())


def load(source: str | Source, data_dirs: Iterable[Path], seed: int = 0) -> Corpus:
    """Read a public corpus from a local folder, without fetching anything.

    A source without a dev split (NSMC) gets 10 % of its training split as one: stratified by class, drawn with `seed`.

    Args:
        source: The name of the corpus, or its `Source`.
        data_dirs: The folders to search, as in `find`.
        seed: The seed that decides which dialogues are held out.

    Raises:
        UserError: The corpus is unknown, no folder holds its files, or a file cannot be read.
    """
    source = _source(source)
    data_dirs = tuple(map(Path, data_dirs))
    folder = find(source, data_dirs)
    if folder is None:
        raise UserError(
            f"The corpus {source.name} lies in none of {', '.join(map(str, data_dirs))}; fetch it with "
            f"`bertgrid-tf data fetch {source.name}`, or {_by_hand(source, data_dirs[0] / source.name)}."
        )
    splits = {file.split: source.read(folder / file.name) for file in source.files if file.split}
    if "dev" not in splits:
        splits["train"], splits["dev"] = hold_out(splits["train"], _HELD_OUT, seed)
    return Corpus.from_splits(
        source.name, {split: splits[split] for split in ("train", "dev", "test") if split in splits}
    )


def fetch(
    source: str | Source,
    folder: Path,
    progress: DownloadProgress | None = None,
    timeout: float = 10.0,
) -> Path:
    """Download every file of a public corpus that `folder` lacks, and verify all files.

    A file gets its name once its content is verified.

    Args:
        source: The name of the corpus, or its `Source`.
        folder: The folder for the files; it is made if it does not exist.
        progress: A callback that is called as bytes arrive.
        timeout: The seconds to wait for a host's answer, and for the next bytes of a stalled one.

    Raises:
        UserError: The corpus is unknown; an existing file has other content; no host delivers the published content
            (the message explains how to place the files by hand); or the folder cannot be written.
    """
    import pooch

    source = _source(source)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in source.files:
            target = folder / file.name
            if not target.exists():
                urls = [f"{host.rstrip('/')}/{file.name}" for host in source.hosts]
                download(urls, target, file.sha256, file.size, progress, timeout)
            elif not target.is_file() or pooch.file_hash(target) != file.sha256:
                raise UserError(
                    f"{target} exists already, with other content than the published file; move it away to fetch it."
                )
            elif progress is not None:
                progress(file.name, file.size, file.size)
    except DownloadError as error:
        raise UserError(
            f"{file.name} cannot be fetched ({error}); try it later, or {_by_hand(source, folder)}."
        ) from None
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); choose another folder.") from None
    return folder


def _by_hand(source: Source, folder: Path) -> str:
    names = ", ".join(file.name for file in source.files if file.split)
    return f"get {names} from {source.page} by hand and place them in {folder}"


def _source(source: str | Source) -> Source:
    if isinstance(source, Source):
        return source
    if source not in SOURCES:
        raise UserError(f"There is no public corpus {source!r}; there are {' and '.join(SOURCES)}.")
    return SOURCES[source]
