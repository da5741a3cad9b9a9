"""From nothing to the first story: what a fresh process spends its seconds on.

What lies on the disk is in its cache: each process runs once before it counts.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.runner import Size
from storylib.files import write_text

PARTS = {  # in the order in which `python -m storylib tell` comes to them
    "import storylib": "import storylib, storylib.__main__",
    "import torch": "import torch",
    "import transformers": "import transformers.modeling_utils, transformers.generation",
    "import bitsandbytes": "import bitsandbytes",  # peft does, wherever it is installed
    "import peft": "import peft",
    "import the rest of ours": "import storylib.generation, storylib.models, storylib.gate",
    "load base and adapter": ("from storylib.storyteller import storyteller\nteller = storyteller()\nteller.loaded"),
    "first sentence": (
        "class Said(Exception): pass\n"
        "def stop(text): raise Said\n"
        "try: teller('🦔🏰📚', on_text=stop)\n"
        "except Said: pass"
    ),
    "whole story": "teller('🦔🏰📚', seed=3)",
    "first sentence, warm": "try: teller('🦔🏰📚', on_text=stop)\nexcept Said: pass",
}
SCRIPT = """
import json, sys, time
start, seconds = time.perf_counter(), {}
for name, code in json.loads(sys.argv[1]).items():
    exec(code, globals())
    now = time.perf_counter()
    start, seconds[name] = now, now - start
    if name == "import storylib":
        from storylib.runtime import quiet
        quiet()
print(json.dumps(seconds))
"""


def measure(size: Size, out: Path, figures: Path) -> None:
    """Print and write the median seconds of each part."""
    rounds = [once() for _ in range(size.rounds + 1)][1:]
    parts = {name: round(statistics.median(found[name] for found in rounds), 2) for name in PARTS}
    print("| part | seconds |\n| --- | ---: |")
    print("\n".join(f"| {name} | {seconds:.2f} |" for name, seconds in parts.items()), flush=True)
    write_text(out / "cold_start.json", json.dumps(parts, indent=1) + "\n")


def once() -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(PARTS)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
