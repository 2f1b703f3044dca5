"""What the pages say stays true."""

import re
from pathlib import Path

from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.recipe import Final, Recipe

ROOT = Path(__file__).parents[1]


def test_the_recipe_page_names_every_key_with_its_default():
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \|([^|]*)\|", page, re.MULTILINE))
    keys = {
        *Hyperparameters.model_fields,
        *(key for key in Recipe.model_fields if key not in ("hyperparameters", "final")),
    }
    assert rows.keys() == keys | {f"final.{key}" for key in Final.model_fields}
    for name, field in Hyperparameters.model_fields.items():
        shown = rows[name].strip("` ")
        assert shown == field.default or float(shown) == field.default, name


def test_the_drawing_of_the_house_shows_every_room():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    drawing = readme.split("## The house")[1].split("## ")[0]
    rooms = {path.name for path in (ROOT / "bertgrid_tf").iterdir() if path.suffix == ".py" or path.is_dir()}
    # Not rooms but fittings: the error, whole files, the recipes' YAML.
    rooms -= {"__init__.py", "__main__.py", "__pycache__", "errors.py", "files.py", "recipes"}
    missing = {room for room in rooms if room not in drawing}
    assert not missing


def test_every_link_of_a_page_leads_somewhere():
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("datasets/*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
