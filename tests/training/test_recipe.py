"""A recipe is checked as a whole, and a wrong one is named."""

from importlib.resources import files

import pytest

from qsmprep.training.recipe import parse_recipe, read_recipe


def test_every_shipped_recipe_can_be_read():
    recipes = [path for path in files("qsmprep.data").joinpath("recipes").iterdir() if path.name.endswith(".toml")]
    assert len(recipes) >= 6
    for path in recipes:
        recipe = parse_recipe(path.read_text("utf-8"))
        assert f"{recipe.network.name}.toml" == path.name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width = 2", "widht = 2", "widht"),
        ("patch = 16", "patch = 18", "multiples of 4"),
        ("steps = 6", "steps = 0", "steps"),
        ("steps = 6", 'steps = "six"', "type int"),
        ('"tissue-field"', '"tissue-feld"', "tissue-feld"),
        ('["tissue-field"]', '["total-field"]', "takes tissue-field"),
        ("shapes = 1.0", "shapes = 0.5", "share of shapes"),
        ('family = "unet"', 'family = "transformer"', "transformer"),
        ("[training]", "[trainig]", "trainig"),
        ("patch = 16", "patch = 16\ntilted = true", "knows the kernel"),
        ("steps = 6", "steps = 6\nerror = 0.1", "expected-error"),
        ('outputs = ["chi"]', 'outputs = ["chi", "expected-error"]', "above 0"),
        ("patch = 16", 'patch = 16\nanatomy = "spheres"', "icbm152"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tiny_text, tmp_path, old, new, message):
    path = tmp_path / "recipe.toml"
    assert old in tiny_text
    path.write_text(tiny_text.replace(old, new), "utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)


def test_no_file_and_no_toml_are_told_apart(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_recipe(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("not = [toml", "utf-8")
    with pytest.raises(ValueError, match="not a valid TOML"):
        read_recipe(tmp_path / "bad.toml")
