"""A command run in an empty folder, and the model that it is run on."""

import pytest

from prunekit.cli.main import main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def refused(run, tmp_path):
    """Assert that a command ends with one sentence and code 2, and leaves nothing behind; give the sentence."""

    def call(*arguments):
        before = sorted(tmp_path.rglob("*"))
        code, _, error = run(*arguments)
        assert code == 2, error
        assert error.startswith("prunekit: ") and error.endswith("\n") and error.count("\n") == 1, error
        assert "Traceback" not in error
        assert sorted(tmp_path.rglob("*")) == before
        return error

    return call


@pytest.fixture
def model(folders):
    return str(folders.llama)
