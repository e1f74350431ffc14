"""What the checker says of a proof that a recorder has followed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from verifier.certificate import Recorder


def checked(folder: Path, recorder: Recorder, model: bytes, prop: str) -> str:
    """Write model, property and certificate (folder/proof), over the reals, and close the recorder: the checker's last line."""
    recorder.write(str(folder / "proof"), *(hashlib.sha256(data).hexdigest() for data in (model, prop.encode())), "real")
    recorder.close()
    (folder / "m.onnx").write_bytes(model)
    (folder / "p.vnnlib").write_text(prop)
    command = [sys.executable, "-m", "verifier.checker", folder / "m.onnx", folder / "p.vnnlib", folder / "proof"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).splitlines()[-1]
