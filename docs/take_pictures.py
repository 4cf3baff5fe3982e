"""Take the pictures of the README again: the console of a run, and the pages of MLflow.

    python docs/take_pictures.py                                   # the default run, three minutes, then its pages
    python docs/take_pictures.py --curriculum.steps='{code: 8, math: 8, qa: 8, writing: 8}'   # a shorter one

Needs Chromium. Further arguments go to the runs: one of the curriculum, one of joint training.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
COLUMNS = 88
REDRAWN = re.compile(r"(?:\r|\x1b\[2K|\x1b\[1A|\x1b\[\?25[lh])+")  # what rich writes before it draws a frame anew
BROWSER = [
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-background-networking", "--disable-sync", "--disable-component-update"),
    *("--window-size=1400,900", "--virtual-time-budget=30000"),
]


def fit(config: str, folder: Path, arguments: list[str]) -> str:
    """Run a fit in a folder and return all that it wrote."""
    return in_terminal(
        [sys.executable, str(ROOT / "main.py"), "fit", f"--config=configs/{config}.yaml", *arguments], folder
    )


def in_terminal(command: list[str], folder: Path) -> str:
    """Run a command in a terminal of its own and return all that it wrote there."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    written = b""
    try:
        while chunk := os.read(screen, 65536):
            written += chunk
    except OSError:  # Linux's way to say that the other side has closed the terminal
        pass
    if process.wait() != 0:
        sys.exit(written.decode()[-3000:])
    return written.decode()


def draw_console(written: str) -> None:
    """Draw one moment of the run, two thirds through, and its end."""
    frames = [frame.strip("\r\n") for frame in REDRAWN.split(written.replace("\r\n", "\n"))]
    drawn = [frame for frame in frames if frame.count("\n") > 3]
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print("[bold green]$[/] make fit\n")
    console.print(Text.from_ansi(drawn[len(drawn) * 2 // 3]), "\n[dim]…[/]", Text.from_ansi("\n" + drawn[-1]), sep="\n")
    svg = console.export_svg(title="Omni-Think on Lightning")
    fonts = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)  # which would be loaded from elsewhere
    (IMAGES / "console.svg").write_text(fonts.sub("", svg))


def take_pages(folder: Path) -> None:
    """Serve the runs' store and take its pages: the table of runs, and the score matrix of the curriculum."""
    from mlflow.tracking import MlflowClient

    store = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(store)
    (experiment,) = [found for found in client.search_experiments() if found.name == "omnithink"]
    run = next(run for run in client.search_runs([experiment.experiment_id]) if run.data.tags["kind"] == "curriculum")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ui = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--port", str(port)]
    server = subprocess.Popen(ui, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    here = f"http://127.0.0.1:{port}"
    try:
        while not _answers(here):
            time.sleep(0.5)
        page = f"{here}/#/experiments/{experiment.experiment_id}"
        pages = {
            "run_table": f"{page}/runs?compareRunsMode=TABLE",
            "score_matrix_page": f"{page}/runs/{run.info.run_id}/artifacts/figures/score_matrix.png",
        }
        for name, url in pages.items():
            subprocess.run([*BROWSER, f"--screenshot={IMAGES / name}.png", url], check=True, capture_output=True)
    finally:
        server.terminate()
        server.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health"):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="omnithink-pictures-") as folder:
        draw_console(fit("curriculum", Path(folder), sys.argv[1:]))
        fit("joint", Path(folder), sys.argv[1:])
        take_pages(Path(folder))
