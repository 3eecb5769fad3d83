"""What a user installs: one distribution whose runtime does not drag the operator's world in."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_holds_both_packages_and_says_they_are_typed(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
         "--no-build-isolation", "--wheel-dir", tmp_path, ROOT],
        check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("stackstore-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(
            next(n for n in names if n.endswith("entry_points.txt"))
        ).decode()
    assert {"stackstore/py.typed", "stackstore_operator/py.typed"} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "stackstore",
        "stackstore_operator",
    }
    assert "stackstore = " in entry_points
    assert "stackstore-operator = " in entry_points


def test_importing_the_runtime_loads_nothing_of_the_operator():
    script = (
        "import sys, stackstore, stackstore.cli.main\n"
        "print(sorted({'kopf', 'kubernetes', 'aiohttp', 'stackstore_operator'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert shown.stdout.strip() == "[]"


def test_every_lock_pins_with_hashes_and_names_no_address():
    locks = sorted((ROOT / "requirements").glob("*.txt"))
    assert locks
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text, lock.name
        for requirement in text.replace("\\\n", " ").splitlines():
            if requirement.strip() and not requirement.startswith("#"):
                assert "==" in requirement, (lock.name, requirement[:60])
                assert "--hash=sha256:" in requirement, (lock.name, requirement[:60])
