"""The verbs, called in this process: what they say on stdout, and what they refuse in one line on stderr."""

from dataclasses import dataclass

import pytest

from modalign.cli.main import main


@dataclass(frozen=True)
class Said:
    """What came of one command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a refused command."""
        lines = self.err.splitlines()
        assert self.code != 0, self.out
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        return lines[0].removeprefix("error: ")


@pytest.fixture
def modalign(capsys):
    """`modalign(verb, …)` runs a verb."""

    def call(*words):
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as ended:
            code = ended.code or 0
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call
