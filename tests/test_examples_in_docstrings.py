"""Every example in a docstring runs, and prints what the docstring shows."""

import ast
import doctest
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Modules of setup.cfg's extras, which an installation need not have.
EXTRAS = {"ray", "tf2onnx", "onnx", "onnxruntime"}


def docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str, int]]:
    """Dotted name, docstring and line of a module, class or function, and of all that are defined in it."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (docstring := ast.get_docstring(node)):
        yield name, docstring, node.body[0].lineno - 1
    for child in ast.iter_child_nodes(node):
        inner = getattr(child, "name", None)
        yield from docstrings(child, f"{name}.{inner}" if inner else name)


def examples() -> Iterator[tuple[str, doctest.DocTest]]:
    """Module and examples of every docstring that has some.

    They are parsed from the source: `doctest.DocTestFinder` would import every module, TensorFlow with them, whenever
    tests are collected.
    """
    parser = doctest.DocTestParser()
    for file in sorted([*ROOT.glob("bertgrid_tf/**/*.py"), *ROOT.glob("tuners/**/*.py")]):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for name, docstring, line in docstrings(ast.parse(file.read_text(encoding="utf-8")), module):
            test = parser.get_doctest(docstring, {}, name, str(file), line)
            if test.examples:
                yield module, test


@pytest.mark.parametrize(("module", "test"), [pytest.param(*pair, id=pair[1].name) for pair in examples()])
def test_the_examples_of_a_docstring_run(module, test, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        test.globs = dict(vars(import_module(module)))
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        pytest.skip(f"{module} needs {error.name}, which is not installed")
    from tiny_study import blank_figures  # which imports TensorFlow

    report: list[str] = []
    with blank_figures():  # No example shows one.
        results = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    assert not results.failed, "".join(report)
