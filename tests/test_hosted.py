"""A hosted machine gets what it lacks and keeps what it has; whatever can't be put right is one plain sentence."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.utils import canonicalize_name

from storylib import hosted
from storylib.errors import UserError
from storylib.runtime import T4

SHARED = Path(__file__).resolve().parents[2] / "shared" / "hosted"
LISTS = ("colab-gpu.txt", "kaggle-gpu.txt")


def machine_with(versions):
    """What `metadata.distribution` says on a machine with these packages; their needs are those they have here."""

    def find(name):
        if (key := canonicalize_name(name)) not in versions:
            raise metadata.PackageNotFoundError(name)
        try:
            needs = metadata.distribution(name).requires
        except metadata.PackageNotFoundError:
            needs = []
        return SimpleNamespace(version=versions[key], requires=needs)

    return find


def frozen(path):
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }


def all_here():
    return {canonicalize_name(found.metadata["Name"]): found.version for found in metadata.distributions()}


@pytest.fixture
def colab():
    if not (SHARED / LISTS[0]).exists():
        pytest.skip(f"no lists of hosted packages in {SHARED}")
    return frozen(SHARED / LISTS[0])


def installing(versions):
    """A `subprocess.run` that does what pip does with --no-deps, and the commands it was given."""
    commands = []

    def run(command, **_):
        commands.append(command)
        names = command[command.index("-c") + 2 :]
        versions.update(dict.fromkeys(names, "0"))
        for name in names:
            versions[name] = all_here().get(name, "99")
        return SimpleNamespace(returncode=0, stderr="")

    return run, commands


def test_colab_gets_what_it_lacks_and_keeps_all_it_has(colab):
    before, run_on = dict(colab), dict(colab)
    run, commands = installing(run_on)
    hosted.complete("colab", machine_with(run_on), run)
    named = {name for command in commands for name in command[command.index("-c") + 2 :]}
    assert {"trl", "bitsandbytes", "evaluate", "sacrebleu", "rouge-score", "emoji"} <= named
    assert {"portalocker", "colorama"} <= named  # what those need and Colab lacks
    assert not named & set(before)  # nothing that is there is named …
    assert all("--no-deps" in command for command in commands)  # … and nothing else is touched
    assert hosted.missing(machine_with(run_on)) == []
    assert {name: run_on[name] for name in before} == before


@pytest.mark.parametrize("name", LISTS)
def test_what_hosts_have_is_new_enough(name):
    if not (SHARED / name).exists():
        pytest.skip(f"no lists of hosted packages in {SHARED}")
    assert hosted.outdated(machine_with(frozen(SHARED / name))) == []


def test_kaggle_lacks_no_more_than_the_rest(colab):
    listed = frozen(SHARED / LISTS[1])  # the main packages alone: all others are taken to be those of Colab
    lacking = hosted.missing(machine_with(colab | listed))
    assert "trl" in lacking and not set(lacking) & set(listed)


def test_every_version_that_is_installed_is_a_tested_one():
    command = hosted.command(["trl", "emoji"])
    constraints = Path(command[command.index("-c") + 1]).read_text(encoding="utf-8")
    pinned = {canonicalize_name(line.partition("==")[0]) for line in constraints.splitlines() if "==" in line}
    assert {canonicalize_name(requirement.name) for requirement in hosted.requirements()} <= pinned
    assert command[-2:] == ["trl", "emoji"] and "--upgrade" not in command and "-U" not in command


def test_a_machine_with_everything_is_left_alone():
    hosted.complete("colab", run=lambda *a, **k: pytest.fail("pip was called"))


def test_a_laptop_is_told_and_left_alone():
    versions = {name: version for name, version in all_here().items() if name not in ("trl", "emoji")}
    with pytest.raises(UserError, match=r"trl, emoji not installed here; run: .* -m pip install -r "):
        hosted.complete("laptop", machine_with(versions), lambda *a, **k: pytest.fail("pip was called"))


def test_an_old_package_is_named_and_not_moved():
    versions = all_here() | {"transformers": "4.57.1"}
    with pytest.raises(UserError, match=r"transformers 4\.57\.1 is installed, >=5\.0 is needed: .*newest runtime"):
        hosted.complete("colab", machine_with(versions), lambda *a, **k: pytest.fail("pip was called"))


def test_a_local_version_counts_as_its_release():
    assert hosted.outdated(machine_with(all_here() | {"torch": "2.11.0+cu128"})) == []


@pytest.mark.parametrize(("place", "remedy"), [("kaggle", "turn on Internet"), ("colab", "check the network")])
def test_no_network(place, remedy):
    versions = {name: version for name, version in all_here().items() if name != "emoji"}
    failed = SimpleNamespace(returncode=1, stderr="WARNING: …\nERROR: No matching distribution found for emoji\n")
    with pytest.raises(UserError, match=rf"could not install emoji \(ERROR: No matching.*\); {remedy}"):
        hosted.complete(place, machine_with(versions), lambda *a, **k: failed)


def test_pip_that_changes_nothing_does_not_loop():
    versions = {name: version for name, version in all_here().items() if name != "emoji"}
    done = SimpleNamespace(returncode=0, stderr="")
    with pytest.raises(UserError, match="restart the runtime"):
        hosted.complete("colab", machine_with(versions), lambda *a, **k: done)


def test_pythons():
    for version in ((3, 10), (3, 13), (3, 14)):
        hosted.check_python(version)
    with pytest.raises(UserError, match=r"this is Python 3\.9; the course needs 3\.10 to 3\.13"):
        hosted.check_python((3, 9))


def test_profiles(monkeypatch):
    from storylib import sizes

    cpu = SimpleNamespace(profile="cpu", device="cpu")
    assert hosted.choose(cpu)[0] == "cpu"
    assert hosted.choose(T4, "cpu") == ("cpu", "as asked")
    with pytest.raises(UserError, match="no profile 'a100'; there are cpu and t4"):
        hosted.choose(T4, "a100")
    need = SimpleNamespace(total=9 * 2**30, free=4 * 2**30, fits=False)
    monkeypatch.setattr(sizes, "estimate_memory", lambda *a: need)
    assert hosted.choose(T4) == ("cpu", "training a 7B model takes 9.0 GiB, 4.0 GiB are free; so the embedded model")


def test_a_t4_takes_the_t4_profile():
    profile, why = hosted.choose(T4)
    assert profile == "t4" and re.fullmatch(r"training a 7B model takes \d+\.\d GiB, 14\.6 GiB are free", why)


def test_set_up_prints_its_table_and_can_be_called_again(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    profile = hosted.set_up("cpu")
    said = capsys.readouterr().out
    assert profile == "cpu" and "hf_secret" not in said and str(tmp_path) not in said
    rows = dict(re.split(r"  +", line)[:2] for line in said.splitlines())
    assert rows["Python"] == ".".join(map(str, sys.version_info[:3])) and rows["token"] == "found"
    assert rows["profile"] == "cpu" and rows["runs go to"] == "runs" and rows["disk"].endswith("free")
    hosted.set_up("cpu")


def test_a_full_disk_and_a_folder_that_is_not_ones_own(monkeypatch):
    monkeypatch.setattr(hosted.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**28))
    with pytest.raises(UserError, match="0.2 GiB are free on the disk of .*, 1 are needed; remove old runs"):
        hosted.folder_rows("laptop", "cpu")
    monkeypatch.setattr(hosted.os, "access", lambda *a: False)
    with pytest.raises(UserError, match="can't be written to.*a folder of your own"):
        hosted.folder_rows("laptop", "cpu")


def test_drive_is_offered_and_never_mounted():
    remark = {what: remark for what, _, remark in hosted.folder_rows("colab", "cpu")}["runs go to"]
    assert "drive.mount" in remark
    assert "drive.mount(" not in Path(hosted.__file__).read_text(encoding="utf-8")


def test_nothing_but_the_standard_library_is_needed_to_begin():
    code = "import sys, storylib.hosted; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=hosted.ROOT)
    loaded = set(done.stdout.split())
    assert "storylib" in loaded and not {"packaging", "torch", "huggingface_hub", "numpy", "psutil"} & loaded
