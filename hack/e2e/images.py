"""The images: built by buildah on a base that debootstrap makes, without a registry, and kept.

The base is Debian with its own Python; the Dockerfile's default base comes from a registry, and all
else in the Dockerfile is the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hack.e2e import parts
from hack.tools import ROOT, cache_home

SUITE = "bookworm"
BASE_PACKAGES = ["ca-certificates", "python3"]
BUILD_PACKAGES = ["python3-venv"]
INPUTS = [
    "Dockerfile", ".dockerignore", "README.md", "pyproject.toml", "requirements", "runtime",
    "operator", "examples/__init__.py", "examples/stack",
]  # fmt: skip
"""What the Dockerfile copies, and itself."""

TARGETS = {"operator": "stackstore-operator", "stack-example": "stackstore-example"}
_UNNEEDED = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "var/cache/apt",
    "var/lib/apt/lists",
]
_PIP_OPTIONS = {"index-url", "extra-index-url", "find-links", "cert", "trusted-host", "proxy", "timeout",
                "default-timeout", "retries"}  # fmt: skip


class ImageError(Exception):
    """An image could not be made; the text has the end of what was said."""


@dataclass(frozen=True, slots=True)
class Image:
    """A name, and an archive of it that `ctr images import` takes, where there has to be one."""

    name: str
    archive: Path | None
    built: bool

    @property
    def repository(self) -> str:
        """The name without its tag."""
        return self.name.rpartition(":")[0]

    @property
    def tag(self) -> str:
        """Of what it was built from."""
        return self.name.rpartition(":")[2]


class Images:
    """All of them, in the user's cache; each is built when its inputs have changed.

    Args:
        log: where the builds' output goes.
        say: is told what takes long.
    """

    def __init__(self, log: Path, say: Callable[[str], None]) -> None:
        self._home = cache_home() / "e2e"
        self._archives = self._home / "images"
        self._log = log
        self._say = say
        self._base_tag = _digest([SUITE, *BASE_PACKAGES, *BUILD_PACKAGES, *_UNNEEDED])

    def make(self) -> dict[str, Image]:
        """`base`, which serves as the pause image as well, `operator` and `stack-example`.

        Raises:
            ImageError: one could not be made.
        """
        self._archives.mkdir(parents=True, exist_ok=True)
        with (self._home / ".lock").open("w") as lock:
            # A second run waits here and then finds everything built.
            fcntl.flock(lock, fcntl.LOCK_EX)
            tag = _digest([self._base_tag, *_contents(ROOT / name for name in INPUTS)])
            made = {"base": self._archived("stackstore-e2e-base", self._base_tag, self._build_base)}
            for target, name in TARGETS.items():
                made[target] = self._archived(name, tag, partial(self._build, target))
        return made

    def _archived(self, name: str, tag: str, build: Callable[[str], None]) -> Image:
        full = f"localhost/{name}:{tag}"
        archive = self._archives / f"{name}-{tag}.tar"
        if archive.exists():
            return Image(full, archive, built=False)
        self._say(f"building {name}")
        build(full)
        with tempfile.TemporaryDirectory(dir=self._archives) as scratch:
            fresh = Path(scratch) / "image.tar"
            self._buildah("push", full, f"docker-archive:{fresh}:{full}")
            for old in self._archives.glob(f"{name}-*.tar"):
                old.unlink()
            fresh.replace(archive)
        return Image(full, archive, built=True)

    def _build_base(self, full: str) -> None:
        with tempfile.TemporaryDirectory(dir=self._home) as scratch:
            root = Path(scratch) / "root"
            self._say(f"debootstrap {SUITE}: once, a minute or two")
            self._run(
                parts.program("debootstrap"), "--variant=minbase",
                f"--include={','.join(BASE_PACKAGES)}", SUITE, root,
            )  # fmt: skip
            for directory in (*_UNNEEDED, "dev"):
                for entry in (root / directory).iterdir():
                    _remove(entry)
            container = self._buildah("from", "scratch")
            self._buildah("add", "--quiet", container, root, "/")
            path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            # The command is for the pause container, which does nothing but be there.
            self._buildah("config", "--cmd", '["sleep", "infinity"]', "--env", path, container)
            self._buildah("commit", "--quiet", "--format=docker", "--rm", container, full)
            recipe = Path(scratch) / "Containerfile"
            recipe.write_text(
                f"FROM {full}\nRUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive "
                f"apt-get -qq install --yes --no-install-recommends {' '.join(BUILD_PACKAGES)}\n"
            )
            self._buildah(*self._how, "--tag", self._build_base_name, "--file", recipe, scratch)

    def _build(self, target: str, full: str) -> None:
        base = f"localhost/stackstore-e2e-base:{self._base_tag}"
        with _pip_mounts() as mounts:
            self._buildah(
                *self._how, "--layers", *mounts, "--build-arg", f"BASE={base}",
                "--build-arg", f"BUILD_BASE={self._build_base_name}", "--target", target,
                "--tag", full, "--file", ROOT / "Dockerfile", ROOT,
            )  # fmt: skip

    @property
    def _build_base_name(self) -> str:
        return f"localhost/stackstore-e2e-build-base:{self._base_tag}"

    _how = ("build", "--isolation=chroot", "--network=host", "--format=docker", "--pull-never")

    def _buildah(self, *arguments: str | Path) -> str:
        return self._run(
            parts.program("buildah"), "--root", self._home / "store", "--runroot",
            self._home / "run", "--storage-driver=overlay", *arguments,
        )  # fmt: skip

    def _run(self, *command: str | Path) -> str:
        with self._log.open("ab") as log:
            done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=log)
            log.write(done.stdout)
        if done.returncode:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise ImageError(f"{' '.join(map(str, command[:6]))} … failed:\n{tail}")
        return done.stdout.decode().strip()


@contextmanager
def _pip_mounts() -> Iterator[list[str]]:
    """This machine's pip configuration for the build: mounted, so that no image holds it."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        options = pip_options(_pip_says())
        file.write("[global]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()))
        file.flush()
        mounts = [f"--volume={file.name}:/etc/pip.conf:ro"]
        paths = [options.get("cert", ""), *options.get("find-links", "").split()]
        mounts += [
            f"--volume={path}:{path}:ro"
            for path in paths
            if path.startswith("/") and Path(path).exists()
        ]
        yield mounts


def _pip_says() -> str:
    command = [sys.executable, "-m", "pip", "config", "list"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def pip_options(listed: str) -> dict[str, str]:
    """What matters of `pip config list`, as pip would weigh it: the environment comes last."""
    found: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in _PIP_OPTIONS:
            found[name] = value.strip().strip("'\"").replace("\\n", " ").strip()
    return found


def _contents(paths: Iterable[Path]) -> Iterable[str]:
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                yield str(file.relative_to(ROOT))
                yield hashlib.sha256(file.read_bytes()).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _digest(parts_: Sequence[str] | Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts_).encode()).hexdigest()[:12]
