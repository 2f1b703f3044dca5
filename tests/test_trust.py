"""Nothing that is loaded may run code: which calls load, and how, anywhere in the tree."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import load_recipe

ROOT = Path(__file__).parents[1]
OWN_PICKLES = {"bertgrid_tf/system/isolated_process.py"}
"""Both ends of a pipe to a child process of its own."""


def calls() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the file, the function and the keywords of every call in the tree, as source."""
    for folder in ("bertgrid_tf", "tuners", "benchmarks"):
        for file in sorted((ROOT / folder).glob("**/*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    keywords = {keyword.arg or "**": ast.unparse(keyword.value) for keyword in node.keywords}
                    yield str(file.relative_to(ROOT)), ast.unparse(node.func), keywords


def test_every_load_is_one_that_runs_no_code():
    runs_code = {"eval", "exec", "pickle.loads", "torch.load", "joblib.load", "yaml.unsafe_load"}
    loads = set()
    for file, function, keywords in calls():
        name = function.rpartition(".")[2]
        if name in ("from_pretrained", "from_config"):
            loads.add(name)
            assert keywords.get("trust_remote_code") == "False", (file, function)
        assert function not in runs_code, file
        assert function != "yaml.load" or keywords.get("Loader") == "_SafeLoader", file
        assert function != "pickle.load" or file in OWN_PICKLES, file
        assert keywords.get("allow_pickle", "False") == "False", file
        assert name not in ("load_model", "read_pickle", "get_class_from_dynamic_module"), file
    assert loads


def test_a_recipe_names_no_objects_of_python(tmp_path):
    (tmp_path / "own.yaml").write_text(f"model: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'ran'}]\n")
    with pytest.raises(UserError, match=r"own\.yaml is not YAML: line 1"):
        load_recipe("own", tmp_path / "own.yaml")
    assert not (tmp_path / "ran").exists()
