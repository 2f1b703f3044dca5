"""What the pages say stays true."""

import re
from pathlib import Path

from bertgrid_tf.recipe import keys_in_markdown

ROOT = Path(__file__).parents[1]


def test_the_recipe_page_has_the_tables_that_the_recipe_prints():
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    tables = page.partition("<!-- keys -->")[2].partition("<!-- /keys -->")[0]
    assert tables.strip() == keys_in_markdown().strip(), "put there what `python -m bertgrid_tf.recipe` prints"


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
