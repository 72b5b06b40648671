"""Signatures of manifests, which hold the digests of everything that ships: made and checked by OpenSSH's ssh-keygen.

A digest finds damage; a signature also finds a file that was exchanged together with its digest. Sign with
`ssh-keygen -Y sign -f KEY -n compressor model/manifest.json`, which writes `model/manifest.json.sig`.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from compressor.errors import StageError
from compressor.package import manifest as manifests
from compressor.package.manifest import Check

NAMESPACE = "compressor"
"""What the signature is for: one that was made for a commit or a mail is not valid here."""

_TIMEOUT_S = 60
_SIGN = f"sign it with `ssh-keygen -Y sign -f KEY -n {NAMESPACE} {manifests.NAME}`"


@dataclass(frozen=True)
class Signers:
    """Who may have signed.

    Attributes:
        file: Names and public keys, as ssh-keygen(1) describes under ALLOWED SIGNERS.
        identity: The one that has to have signed; None for any of them.
    """

    file: Path
    identity: str | None = None


def check(folder: Path, signers: Signers) -> Check:
    """Whether a folder's manifest is signed by one of those who may sign.

    Args:
        folder: The folder that ships.
        signers: Who may sign.

    Raises:
        StageError: ssh-keygen is not there, or does not answer.
    """
    path, manifest = folder / manifests.SIGNATURE, folder / manifests.NAME
    if not path.is_file():
        return Check("signature", path.name, "fail", f"is missing; {_SIGN}")
    given = ("-s", str(path.absolute()), "-f", str(signers.file.absolute()))
    identity = signers.identity
    if identity is None:
        found = _run("find-principals", *given, stdin=manifest)
        names = [name for line in found.stdout.splitlines() for name in line.split(",") if name[:1] not in ("", "!")]
        if found.returncode != 0 or not names:
            return Check("signature", path.name, "fail", f"is of nobody in {signers.file} ({_said(found)}); {_SIGN}")
        identity = names[0]
    done = _run("verify", "-I", identity, "-n", NAMESPACE, *given, stdin=manifest)
    if done.returncode != 0:
        message = f"is not {identity}'s signature of this manifest ({_said(done)}); {_SIGN}, or copy the folder again"
        return Check("signature", path.name, "fail", message)
    return Check("signature", path.name, "pass", _said(done))


def _run(action: str, *arguments: str, stdin: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise StageError("ssh-keygen, which checks signatures, is not installed: install OpenSSH 8.2 or newer")
    try:
        with stdin.open("rb") as content:
            command = [program, "-Y", action, *arguments]
            return subprocess.run(
                command,
                stdin=content,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StageError(f"ssh-keygen cannot check the signature: {error}") from error


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stdout if done.returncode == 0 else done.stderr + done.stdout).strip().splitlines()
    return lines[0] if lines else f"ssh-keygen gave {done.returncode}"
