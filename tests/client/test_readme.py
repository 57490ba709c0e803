"""The README's walk works as it stands: a reader who copies it, block after block, sees what it says.

A bash block belongs to the walk when the line before its fence is `<!-- walk -->`. A json block that comes next shows the
expected answer: its keys, its UPPER_CASE words and its decimal figures must all appear in what the bash block prints.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"(<!-- walk -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMISE = re.compile(r'"\w+"(?=\s*:)|"[A-Z]+(?:_[A-Z]+)*"|\b\d+\.\d+\b(?=\s*[,}\]\n])')
# Without inherit_errexit a failure inside $(...) would pass unseen.
STRICT = "set -euo pipefail\nshopt -s inherit_errexit\n"
END_OF_BLOCK = "\n---- end of block ----\n"


class Step(NamedTuple):
    """One block of the walk, and the answer that the README shows for it."""

    commands: str
    answer: str


def walk(readme: str) -> list[Step]:
    """Finds the walk's blocks in order, each with the json block that follows it, if one does."""
    steps: list[Step] = []
    open_for_answer = False
    for mark, language, text in FENCE.findall(readme):
        if mark:
            steps.append(Step(text, answer=""))
        elif language == "json" and open_for_answer:
            steps[-1] = steps[-1]._replace(answer=text)
        open_for_answer = bool(mark)
    return steps


def test_the_walk_of_the_readme_does_what_it_says(server, account, tmp_path):
    steps = walk((ROOT / "README.md").read_text(encoding="utf-8"))
    assert steps, "README.md has no block marked <!-- walk -->"
    script = STRICT + "".join(f"{step.commands}printf {END_OF_BLOCK!r}\n" for step in steps)

    # curl takes an HTTP error for a success unless told otherwise; the reader's own commands stay as they are.
    (tmp_path / ".curlrc").write_text("fail-with-body\n")
    done = subprocess.run(
        ["bash", "-c", script.replace("localhost:8000", server.url.removeprefix("http://"))],
        cwd=ROOT,
        env=os.environ
        | {"PIKARC_API_KEY": account.api_key, "PIKARC_ADMIN_KEY": account.admin_key, "PIKARC_DATA_DIR": str(server.data_dir), "CURL_HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )

    printed = done.stdout.split(END_OF_BLOCK)
    finished = len(printed) - 1
    stopped_in = steps[min(finished, len(steps) - 1)].commands
    assert done.returncode == 0, f"stopped in:\n{stopped_in}\nit printed:\n{printed[-1]}\n{done.stderr}"
    for step, output in zip(steps, printed):
        missing = [promise for promise in PROMISE.findall(step.answer) if promise not in output]
        assert not missing, f"the README promises {missing} of:\n{step.commands}\nbut the answer was:\n{output}"
