"""Files that a kill cannot spoil, and folders that one process holds."""

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from medrft import files
from medrft.errors import DataError, RunInUseError, StorageError
from medrft.files import append_bytes, find_flaw, list_files, locked_folder, replace_file, sweep_scraps, write_atomic
from medrft.rundir import read_growing, read_record

HOLDER = """
import sys, time
from pathlib import Path
from medrft.files import locked_folder
with locked_folder(Path(sys.argv[1])):
    print(flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """A folder that another process holds."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield tmp_path / "run", process
        process.kill()


def test_a_second_process_is_told_who_works_in_the_folder_and_a_kill_frees_it(held):
    folder, process = held
    with pytest.raises(RunInUseError, match=rf"run is in use by process {process.pid} on .* since \d{{4}}-.*--output"):
        locked_folder(folder).__enter__()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with locked_folder(folder):
        pass


@pytest.mark.parametrize("ending", [None, DataError("wrong"), KeyboardInterrupt()], ids=lambda one: type(one).__name__)
def test_the_lock_file_goes_with_the_work_however_it_ends(tmp_path, ending):
    with suppress(DataError, KeyboardInterrupt), locked_folder(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").is_file()
        if ending is not None:
            raise ending
    assert os.listdir(tmp_path / "run") == []


CROWD = """
import os, sys
from contextlib import suppress
from pathlib import Path
from medrft.errors import RunInUseError
from medrft.files import locked_folder
folder, done = Path(sys.argv[1]), 0
while done < 100:
    with suppress(RunInUseError), locked_folder(folder):
        os.close(os.open(folder / "alone", os.O_CREAT | os.O_EXCL))  # fails if another one is in here
        os.unlink(folder / "alone")
        done += 1
"""


def test_removing_the_lock_file_never_lets_two_processes_in(tmp_path):
    crowd = [subprocess.Popen([sys.executable, "-c", CROWD, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(4)]
    told = [process.communicate(timeout=120)[1].decode() for process in crowd]
    assert [process.returncode for process in crowd] == [0] * 4, told
    assert os.listdir(tmp_path) == []


def test_waiting_is_told_once_and_ends_with_the_other_process(held):
    folder, process = held
    told = []

    def tell(line):
        told.append(line)
        process.kill()

    with locked_folder(folder, wait=True, tell=tell):
        assert len(told) == 1 and f"waiting for process {process.pid}" in told[0]


def test_a_file_system_without_locks_is_one_line_and_the_work_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "try_lock", lambda descriptor: None)
    with locked_folder(tmp_path):
        pass
    assert capsys.readouterr().err.count("\n") == 1


def test_a_fork_does_not_keep_the_lock_of_its_parent(tmp_path):
    ready, up = os.pipe()
    with locked_folder(tmp_path):
        child = os.fork()
        if child == 0:
            os.write(up, b"x")
            time.sleep(20)
            os._exit(0)
        os.read(ready, 1)
    try:
        with locked_folder(tmp_path):  # the child is still there
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_what_killed_writes_left_is_swept_and_what_is_being_written_stays(tmp_path):
    (tmp_path / "eval").mkdir()
    left = [tmp_path / ".recipe.yaml.a1.tmp", tmp_path / "eval" / ".metrics.json.b2.tmp", tmp_path / ".final.c3.tmp"]
    for path in left[:2]:
        path.write_text("hal")
    left[2].mkdir()
    (left[2] / "config.json").write_text("{")
    with replace_file(tmp_path / "data.json") as file:
        file.write(b"{}")
        assert sweep_scraps(tmp_path) == 3 and not any(path.exists() for path in left)
    assert (tmp_path / "data.json").read_text() == "{}" and os.listdir(tmp_path / "eval") == []


def test_a_line_is_added_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    append_bytes(path, b'{"a": 1}\n')
    with path.open("ab") as file:
        file.write(b'{"a": 2')  # killed while writing
    append_bytes(path, b'{"a": 3}\n')
    assert path.read_bytes() == b'{"a": 1}\n{"a": 3}\n'
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (22, before[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*metrics.jsonl: File too large; free space"):
            append_bytes(path, b'{"a": 4}\n')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b'{"a": 1}\n{"a": 3}\n'


def test_readers_of_a_growing_file_take_whole_lines_and_tell_of_a_cut_one(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    assert list(read_growing(path)) == []
    path.write_text('{"a": 1}\n{"a": 2')
    assert list(read_growing(path)) == [{"a": 1}]
    assert capsys.readouterr().err.count("metrics.jsonl: its last line was cut off") == 1
    path.write_text('{"a": 1}\n{"a"\n{"a": 3}\n')
    with pytest.raises(DataError, match=r"metrics.jsonl, line 2: not JSON .*; take that line out"):
        list(read_growing(path))


@pytest.mark.parametrize("content", ["", '{"a": ', "[1]", "\x00" * 40, "9" * 5000])
def test_half_a_record_is_told_and_counts_as_none(tmp_path, capsys, content):
    (tmp_path / "stage.json").write_text(content)
    assert read_record(tmp_path / "stage.json") == {}
    assert "stage.json" in capsys.readouterr().err


@pytest.mark.parametrize("at", ["/proc/x", "file/x", "folder"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, at, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for use in (files.check_writable, lambda path: write_atomic(path, "x")):
        with pytest.raises(StorageError, match=f"cannot write {at}"):
            use(Path(at))
    if at != "folder":
        with pytest.raises(StorageError, match=f"cannot write {at}"):
            files.make_folder(Path(at))


def test_every_byte_of_a_listed_folder_counts(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights").write_bytes(bytes(1000))
    listed = list_files(tmp_path)
    assert find_flaw(tmp_path, listed, content=True) is None
    content = bytearray(1000)
    content[700] = 1
    (tmp_path / "a" / "weights").write_bytes(bytes(content))
    assert find_flaw(tmp_path, listed, content=False) is None
    assert "a/weights is not what was written" in find_flaw(tmp_path, listed, content=True)
    (tmp_path / "a" / "weights").write_bytes(bytes(10))
    assert "10 bytes, 1000 were written" in find_flaw(tmp_path, listed, content=False)
