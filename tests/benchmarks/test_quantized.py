"""A quantized model beside its float32 one: scores of both, and the same texts."""

from importlib.util import find_spec

import pytest

from benchmarks.quantize import main
from bertgrid_tf import api


@pytest.mark.slow
@pytest.mark.skipif(not (find_spec("tf2onnx") and find_spec("onnxruntime")), reason="the extra `onnx` is not installed")
def test_both_models_label_dev(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["quantize", str(tmp_path / "sample"), "--rounds", "1"])
    settings = {"model": "scratch:1x32", "sweeps": {}, "learning_rates": [1e-3], "epochs": 1, "final_model": "none"}
    api.tune("sample", results=tmp_path, progress=False, **settings)
    main()
    printed = capsys.readouterr().out
    assert "202 texts of dev" in printed
    assert all(name in printed for name in ("float32", "int8", "same label"))
