"""A folder with an emulator and an aarch64 Python with ONNX Runtime in it: ARM cores on an x86 Linux, without root.

Debian's packages and the wheels of PyPI are unpacked, not installed. apt gets a configuration of its own: the system's
is read for the mirror only. Nothing is registered with the kernel; the emulator is named in each command.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from compressor.errors import CompressError, printable

SUITE, PYTHON = "trixie", "3.13"
"""The release of Debian whose emulator runs ONNX Runtime (7.2 of the release before crashes), and its Python."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_EMULATOR, _PROGRAMS = "qemu-user", ("qemu-aarch64", "qemu-x86_64")
_LIBRARIES = (
    *(f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib"),
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5"),
    *("libssl3t64", "libcrypt1"),
)
"""Of arm64: Python, and what it and the wheels load."""
_WHEELS = ("numpy", "onnxruntime")
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
_DONE = "contents.json"
"""Written last: what the folder was made of."""


def prepare(root: Path, mirror: str | None = None) -> None:
    """Makes the folder, or leaves it as it is if it was made of the same.

    Args:
        root: The folder; replaced as a whole.
        mirror: Address of a mirror of Debian; None for the one that the system's apt uses.

    Raises:
        CompressError: A tool or a package is not to be had.
    """
    wheels = {name: metadata.version(name) for name in _WHEELS}
    contents = {"suite": SUITE, "packages": [_EMULATOR, *_LIBRARIES], "wheels": wheels}
    done = root / _DONE
    if done.is_file() and json.loads(done.read_text(encoding="utf-8")) == contents:
        return
    if root.exists() and any(root.iterdir()) and not done.is_file():
        raise CompressError(f"{root} is not empty, and not a folder that this benchmark made; name another as --root")
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise CompressError(f"{tool} is not installed here; run this on Debian, or in a container of it")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as folder:
        work = Path(folder)
        made = work / "made"
        made.mkdir()
        packages = _downloaded(work, mirror or _mirror())
        for package in packages:
            if package.name.startswith(f"{_EMULATOR}_"):
                _take(package, _PROGRAMS, made)
            else:
                _run(["dpkg-deb", "-x", str(package), str(made / "arm64")])
        (made / "arm64" / "lib").symlink_to("usr/lib")
        _install(wheels, made / "site")
        (made / _DONE).write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
        if root.exists():
            root.rename(work / "before")
        made.rename(root)


def _mirror() -> str:
    """The mirror of Debian that the system's apt uses."""
    found = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split()
    mirror = next((address for address in found if address.rstrip("/").endswith("/debian")), None)
    if mirror is None:
        raise CompressError("apt's sources name no mirror of Debian; give one: --mirror https://HOST/debian")
    return mirror


def _downloaded(work: Path, mirror: str) -> list[Path]:
    """The packages, in a folder of their own."""
    apt, packages = work / "apt", work / "packages"
    for folder in (apt / "lists" / "partial", apt / "cache" / "archives" / "partial", packages):
        folder.mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {SUITE} main\n", encoding="utf-8")
    settings = {
        "Dir::State": apt,
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "APT::Sandbox::User": "root",  # apt's own user cannot write into this folder
        "Acquire::Languages": "none",
    }
    lines = [f'{name} "{value}";' for name, value in settings.items()] + ['APT::Architectures { "amd64"; "arm64"; };']
    (apt / "apt.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}
    _run(["apt-get", "update"], env=environment)
    wanted = [f"{_EMULATOR}:amd64", *(f"{name}:arm64" for name in _LIBRARIES)]
    _run(["apt-get", "download", *wanted], env=environment, cwd=packages)
    return sorted(packages.iterdir())


def _take(package: Path, programs: Sequence[str], folder: Path) -> None:
    """Unpacks some programs of a package, which has them for thirty processors."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                path = Path(member.name)
                content = archive.extractfile(member) if path.name in programs and member.isfile() else None
                if content is not None and path.parent.name == "bin":
                    (folder / path.name).write_bytes(content.read())
                    (folder / path.name).chmod(0o755)
    if missing := [name for name in programs if not (folder / name).is_file()]:
        raise CompressError(f"{package.name} has no {missing[0]}; report this")


def _install(wheels: dict[str, str], site: Path) -> None:
    """Unpacks aarch64 wheels of this environment's versions."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site), "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    command += [word for platform in _PLATFORMS for word in ("--platform", platform)]
    _run([*command, *(f"{name}=={version}" for name, version in wheels.items())])


def _run(command: list[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """What a command prints.

    Raises:
        CompressError: It failed.
    """
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        what = f"{command[0]} failed with exit code {done.returncode}: {printable(lines[-1])}"
        raise CompressError(f"{what}; the command was: {' '.join(command)}")
    return done.stdout
