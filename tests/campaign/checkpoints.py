"""A checkpoint of each family, one of its files damaged: refused in a sentence, and nothing of it is run."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

from tests.campaign.case import BRIEF, TRAINING, Case, CaseError
from tests.campaign.damage import VALUES, damage

CASES = 300
SHARED: tuple[str, ...] = ("study", "families")
NUMBERS = (-1, 0, 1, 3, 7, 33, 2**31, 10**12, 1.5, float("nan"), "32", None, True, [], {})
CODE = "import pathlib; pathlib.Path({ran!r}).touch()\n"


class _Payload:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, ran: Path) -> None:
        self._ran = ran

    def __reduce__(self) -> Any:
        return Path.touch, (self._ran,)


def config_value(folder: Path, case: Case) -> None:
    """Change a value of the config."""
    _change(folder / "config.json", case, NUMBERS if case.chance(0.7) else VALUES)


def tokenizer_value(folder: Path, case: Case) -> None:
    """Change a value of the tokenizer's files."""
    names = ("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json")
    present = [folder / name for name in names if (folder / name).exists()]
    _change(case.random.choice(present), case, VALUES) if present else config_value(folder, case)


def _change(file: Path, case: Case, values: tuple[Any, ...]) -> None:
    content = json.loads(file.read_text())
    where = content
    while (inner := [one for one in where.values() if isinstance(one, dict) and one]) and case.chance(0.6):
        where = case.random.choice(inner)
    for key in case.random.sample(sorted(where), min(len(where), case.random.choice((1, 1, 2)))):
        if case.chance(0.15):
            del where[key]
        else:
            where[key] = case.random.choice([one for one in values if one != 10**4000])
    file.write_text(json.dumps(content))


def another_architecture(folder: Path, case: Case) -> None:
    """Name another type of model than the weights are of."""
    config = json.loads((folder / "config.json").read_text())
    types = (
        "bert",
        "roberta",
        "albert",
        "electra",
        "distilbert",
        "deberta-v2",
        "xlm-roberta",
        "gpt2",
        "t5",
        "camembert",
    )
    config["model_type"] = case.random.choice(types)
    (folder / "config.json").write_text(json.dumps(config))


def vocabulary(folder: Path, case: Case) -> None:
    """Spoil the vocabulary: other lines, twice the same, more than there are embeddings."""
    file = next(file for name in ("vocab.txt", "vocab.json", "tokenizer.json", "spiece.model", "spm.model")
                if (file := folder / name).exists() or name == "spm.model")  # fmt: skip
    if file.suffix != ".txt":
        damage(file if file.exists() else next(folder.glob("*.model")), case.random)
        return
    lines = file.read_text().splitlines()
    case.random.choice(
        (
            lambda: lines.extend(f"more{n}" for n in range(5000)),
            lambda: lines.clear(),
            lambda: case.random.shuffle(lines),
            lambda: lines.extend(lines[:]),
            lambda: lines.__delitem__(slice(0, 5)),
            lambda: lines.insert(0, "\0"),
            lambda: lines.__setitem__(slice(5, 9), ["", " ", "[PAD]", "\x85"]),
        )
    )()
    file.write_text("\n".join(lines))
    for other in folder.glob("tokenizer.json"):
        other.unlink()


def weights(folder: Path, case: Case) -> None:
    """Spoil the header of the weights: types, shapes, places, names."""
    file = folder / "model.safetensors"
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    name = case.random.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    case.random.choice(
        (
            lambda: header.pop(name),
            lambda: header.__setitem__(f"{name}x", header.pop(name)),
            lambda: entry.update(dtype=case.random.choice(("F16", "I64", "BOOL", "X9", 3))),
            lambda: entry.update(
                shape=case.random.choice(([], [0], [-1, 2], [2**40, 2**40], [*entry["shape"], 2], "x"))
            ),
            lambda: entry.update(shape=entry["shape"][::-1]),
            lambda: entry.update(data_offsets=case.random.choice(([0, 4], [-4, 0], [0, 2**60], [8, 4], []))),
            lambda: header.update(__metadata__=case.random.choice(({}, {"format": "mlx"}, 3))),
        )
    )()
    text = json.dumps(header).encode()
    length = case.random.choice((len(text), len(text), len(text), 2**63, 0, len(text) + 9))
    file.write_bytes(length.to_bytes(8, "little") + text + content[8 + size :])


def shards(folder: Path, case: Case) -> None:
    """Put an index in the place of the weights, which names what it should not."""
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    name = case.random.choice(("part.safetensors", "../part.safetensors", "/etc/passwd", "", ".", "x" * 300, "a\0b"))
    index = case.random.choice(({"weight_map": {"a": name}}, {"weight_map": [name]}, {"weight_map": {"a": 3}}, {}, []))
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def code(folder: Path, case: Case) -> None:
    """Put code into the checkpoint, in each of the ways that libraries run it."""
    ran = case.folder / "ran"
    (folder / "evil.py").write_text(CODE.format(ran=str(ran)) + "class Evil: pass\n")
    kind = case.random.choice(("auto_map", "tokenizer", "pickle", "class", "template"))
    if kind in ("auto_map", "class", "template"):
        file = folder / case.random.choice(("config.json", "tokenizer_config.json"))
        content = json.loads(file.read_text()) if file.exists() else {}
        names = ("AutoConfig", "AutoTokenizer", "TFAutoModelForSequenceClassification")
        content |= {
            "auto_map": {"auto_map": dict.fromkeys(names, "evil.Evil")},
            "class": {"tokenizer_class": "Evil", "architectures": ["Evil"]},
            "template": {"chat_template": "{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}"},
        }[kind]
        file.write_text(json.dumps(content))
    elif kind == "tokenizer":
        (folder / "tokenizer.pkl").write_bytes(pickle.dumps(_Payload(ran)))
        (folder / "tokenization_bert.py").write_text(CODE.format(ran=str(ran)))
    else:
        for name in ("pytorch_model.bin", "tf_model.h5", "training_args.bin"):
            (folder / name).write_bytes(pickle.dumps(_Payload(ran)))
        if case.chance(0.5):
            (folder / "model.safetensors").unlink()


def any_file(folder: Path, case: Case) -> None:
    """Damage any file."""
    damage(case.random.choice([path for path in sorted(folder.iterdir()) if path.is_file()]), case.random)


def run(case: Case) -> None:
    """Train from a damaged checkpoint, or describe a corpus with it."""
    families = sorted((case.shared / "families" / "all").iterdir())
    bert = case.finished / "model"
    source = bert if case.chance(0.4) else case.random.choice(families)
    folder = Path(shutil.copytree(source, case.folder / "checkpoint"))
    kinds = (config_value, config_value, config_value, tokenizer_value, tokenizer_value, another_architecture)
    kind = case.random.choice((*kinds, vocabulary, weights, weights, shards, code, any_file, any_file))
    try:
        kind(folder, case)
        if case.chance(0.25):
            case.bertgrid("data", "describe", "sample", "--model", "./checkpoint", stdin=b"y\n" * 9).check()
        else:
            flags = ["--set", "max_length=16", "--max-train-samples", "20"]
            case.bertgrid("tune", "sample", *BRIEF, "--model", "./checkpoint", *flags, limit=TRAINING).check()
        if (case.folder / "ran").exists():
            raise CaseError("other", "code of the checkpoint was run")
    except CaseError as failure:
        changed = json.loads((folder / "config.json").read_text()) if kind is config_value else ""
        raise CaseError(failure.kind, f"{failure}\n{source.name}: {kind.__name__} {changed}") from failure
