"""The public corpora: where they are published, how to get them, where they lie."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bertgrid_tf.corpus.dialogue import Corpus, Dialogue
from bertgrid_tf.corpus.download import DownloadError, Patience, Progress, download, git_blob_id
from bertgrid_tf.corpus.readers import read_emotionlines, read_nsmc
from bertgrid_tf.corpus.split import hold_out
from bertgrid_tf.errors import UserError

_HELD_OUT = 0.1


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One published file.

    Attributes:
        name: The file's name, there and here.
        blob_id: Its content's git blob id, which a download must have.
        size: In bytes.
        split: The split that it holds, or None where a study does not need it.
    """

    name: str
    blob_id: str
    size: int
    split: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """A published corpus.

    Attributes:
        name: What the command line calls it.
        title: One line on what it is.
        licence: Under which terms it is published.
        page: The public page to get the files from by hand.
        hosts: URLs of the folders that hold the files, in the order in which to ask them.
        files: What is published.
        read: Reads the file of one split.
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
        """Bytes of all files."""
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
        SourceFile("friends_train.json", "e12157e7929057da7ae717df4ecb5092f2ebc93f", 2_065_470, "train"),
        SourceFile("friends_dev.json", "62c84d5ef2fcb24f7a9a4a9f6099b384567b75b4", 229_392, "dev"),
        SourceFile("friends_test.json", "13eab9dc26fb3d95858c2e4bc1a25a9cf2436bc7", 544_341, "test"),
        SourceFile("en_data.csv", "017252fcd081579f596c533b42cbe1f08adb0ae3", 97_634, None),
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
        SourceFile("ratings_train.txt", "ac0dba272895dc1d0b3dd5f11afbeaeb7abe7876", 14_628_807, "train"),
        SourceFile("ratings_test.txt", "b6cfcd8cd1557bcd9bf06617b0e429ed73e9a367", 4_893_335, "test"),
    ),
    read=read_nsmc,
)

SOURCES: Mapping[str, Source] = MappingProxyType({source.name: source for source in (FRIENDS, NSMC)})


def user_data_dir() -> Path:
    """The folder in the user's cache where corpora lie that were fetched without a folder of their own."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("bertgrid-tf")) / "datasets"


def find(source: str | Source, data_dirs: Iterable[Path]) -> Path | None:
    """The folder that holds a file for every split of the corpus, or None.

    Each of `data_dirs` is looked in, in order: first its folder named as the corpus, then itself.

    Raises:
        UserError: There is no such corpus.
    """
    source = _source(source)
    for data_dir in data_dirs:
        for folder in (Path(data_dir) / source.name, Path(data_dir)):
            if not missing(source, folder):
                return folder
    return None


def missing(source: str | Source, folder: Path) -> tuple[str, ...]:
    """The names of the files, one per split, that a study needs and `folder` lacks.

    Raises:
        UserError: There is no such corpus.
    """
    return tuple(file.name for file in _source(source).files if file.split and not (Path(folder) / file.name).is_file())


def load(source: str | Source, data_dirs: Iterable[Path], seed: int = 0) -> Corpus:
    """Reads a public corpus from where `find` finds it; nothing is fetched.

    Where the source has no dev split (NSMC), 10 % of its training split becomes it: stratified, seeded.

    Raises:
        UserError: There is no such corpus, no folder holds its files, or a file cannot be read.
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
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Path:
    """Downloads every file of a public corpus that `folder` lacks, and verifies each.

    A file that broke off is gone on from, in this call or the next; under its own name a file is whole and
    verified or not there. A file that is there already is only verified.

    Args:
        source: The corpus, by name or as it is.
        folder: Where the files go; made where it is missing.
        progress: Called as bytes arrive, with the file's name, its bytes so far and its bytes in all.
        patience: How long to try each host.

    Returns:
        `folder`.

    Raises:
        UserError: There is no such corpus; a file that is there has other content; no host can be reached or
            gives the published content (the message says how to place the files by hand); the folder cannot
            be written.
    """
    source = _source(source)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in source.files:
            target = folder / file.name
            if target.exists():
                if git_blob_id(target.read_bytes()) != file.blob_id:
                    raise UserError(
                        f"{target} is there already, with other content than the published file; "
                        "move it away to fetch it."
                    )
                if progress is not None:
                    progress(file.name, file.size, file.size)
                continue
            urls = [f"{host.rstrip('/')}/{file.name}" for host in source.hosts]
            download(urls, target, file.blob_id, file.size, progress, patience)
    except DownloadError as error:
        raise UserError(
            f"{file.name} cannot be fetched ({error}); run it again to go on, or {_by_hand(source, folder)}."
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
