"""What a dotted path may name: this package, and what the person at the terminal trusts."""

import hashlib
import sys

import pytest

from modalign.config.build import build
from modalign.errors import ModalignError
from modalign.targets import VARIABLE, check_trusted, is_own, locate, own_code, trusted_packages

OWN = """
from torch.nn import Linear


class Doubled:
    def __init__(self, width):
        self.width = 2 * width


def made(width):
    return Doubled(width)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's own, trusted."""
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "__init__.py").write_text("")
    path = tmp_path / "my_lab" / "parts.py"
    path.write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(VARIABLE, " my_lab, other ")
    yield path
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]


@pytest.mark.parametrize("path", ["os.system", "subprocess.run", "modalignx.evil", "builtins.eval"])
def test_nothing_outside_the_package_can_be_named(path):
    with pytest.raises(ModalignError, match="outside the allowed packages"):
        locate(path, "here")


def test_a_library_that_a_module_imports_is_no_way_out_of_the_package():
    """`modalign.runs.files.os.system` begins as one of ours and is none."""
    with pytest.raises(ModalignError):
        locate("modalign.runs.files.os.system", "here")
    for path in ("modalign.runs.finished.Path", "modalign.data.shards.os"):
        with pytest.raises(ModalignError):
            locate(path, "here")


def test_a_misspelt_class_names_the_nearest_one_of_its_module():
    with pytest.raises(ModalignError, match=r"did you mean 'modalign\.curriculum\.replay\.ReplayRule'"):
        locate("modalign.curriculum.replay.ReplayRul", "here")
    with pytest.raises(ModalignError, match=r"no module modalign\.curriculum\.replai"):
        locate("modalign.curriculum.replai.ReplayRule", "here")


def test_the_environment_adds_packages(own):
    assert trusted_packages() == ("modalign", "my_lab", "other")
    assert build({"_target_": "my_lab.parts.Doubled", "width": 3}, "here").width == 6
    assert locate("my_lab.parts.made", "here")(1).width == 2
    assert is_own("my_lab.parts.Doubled")
    assert not is_own("modalign.data.order.Permutation")


def test_a_package_that_merely_begins_like_a_trusted_one_is_not(own):
    for path in ("my_labs.parts.Doubled", "my_lab", "otherwise.X"):
        with pytest.raises(ModalignError, match="outside the allowed packages"):
            locate(path, "here")


def test_what_an_own_module_imports_is_no_part_of_it(own):
    with pytest.raises(ModalignError, match=r"is not a class or function of modalign\.\*, my_lab\.\*, other\.\*"):
        locate("my_lab.parts.Linear", "here")
    with pytest.raises(ModalignError, match=r"did you mean 'my_lab\.parts\.Doubled'\? known: [^L]+$"):
        locate("my_lab.parts.Doublet", "here")


def test_what_to_do_is_told(own):
    with pytest.raises(ModalignError, match=r"^there: _target_ 'lab2.eeg.X' is outside .* MODALIGN_PACKAGES=lab2$"):
        check_trusted("lab2.eeg.X", "there")
    with pytest.raises(ModalignError, match=r"no module other; is its folder on PYTHONPATH, or"):
        locate("other.X", "here")


def test_the_files_of_own_modules_are_known_by_their_digests(own):
    named = {"model": {"projectors": [{"_target_": "my_lab.parts.Doubled"}], "fusion": {"_target_": "modalign.x.Y"}}}
    assert own_code(named) == {"my_lab.parts": hashlib.sha256(own.read_bytes()).hexdigest()}
    assert own_code({"_target_": "other.eeg.X"}) == {}
