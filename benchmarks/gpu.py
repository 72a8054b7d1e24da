"""Everything about schedcmp that only a GPU can tell, in one command and a few minutes; needs no network and no files.

    python benchmarks/gpu.py [--minutes 8] [--only NAME...] [--out DIR] [--dry-run]

Sections run in order of worth, each for its share of the time and each by itself: an error is a line of the result,
and the next one runs. DIR/gpu.json has each section's result at once; a table comes last. `--only smoke` names the
quick ones. `--dry-run` runs all of them on a CPU with shapes as small as their classes allow.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import time
import traceback
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from sections import SECTIONS, SMOKE, Section
from sections.context import Context


def machine(device: torch.device) -> dict[str, Any]:
    """Hardware and versions."""
    found = {name: version(name) for name in ("torch", "diffusers", "transformers", "greenlet")}
    found |= {"python": platform.python_version(), "system": platform.platform(), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        known = torch.cuda.get_device_properties(device)
        found |= {"device": known.name, "memory_bytes": known.total_memory, "cuda": torch.version.cuda}
    return found


def measured(section: Section, context: Context) -> None:
    """The section's result, or its error; with the seconds that it took."""
    start = time.monotonic()
    try:
        context.note(**{str(key): value for key, value in section.measure(context).items()})
    except Exception as error:
        context.note(error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    gc.collect()
    if context.cuda:
        torch.cuda.empty_cache()
    context.note(took_s=round(time.monotonic() - start, 1))


def shortened(value: Any) -> Any:
    """Numbers as a person reads them."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {str(k): shortened(v) for k, v in value.items() if k != "traceback"}
    return [shortened(v) for v in value] if isinstance(value, list | tuple) else value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--only", nargs="+", choices=["smoke", *(s.name for s in SECTIONS)], metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu"))
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --dry-run runs the sections on a CPU")
    device = torch.device("cpu" if arguments.dry_run else "cuda:0")
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    arguments.out.mkdir(parents=True, exist_ok=True)
    dtype = torch.float32 if arguments.dry_run else torch.float16
    context = Context(device, dtype, arguments.dry_run, arguments.out)
    wanted = [name for only in arguments.only or [] for name in (SMOKE if only == "smoke" else [only])]
    sections = [s for s in SECTIONS if not wanted or s.name in wanted]
    end = time.monotonic() + 60 * arguments.minutes
    context.section = "machine"
    context.note(**machine(device))
    print(json.dumps(context.found["machine"]), flush=True)
    for i, section in enumerate(sections):
        context.section, left = section.name, max(0.0, end - time.monotonic())
        context.until = time.monotonic() + left * section.share / sum(s.share for s in sections[i:])
        if left:
            measured(section, context)
        else:
            context.note(skipped="no time was left")
        print(f"{section.name}: {context.found[section.name].get('error', 'done')}", flush=True)
    for name, result in context.found.items():
        print(f"\n## {name}")
        for key, value in shortened(result).items():
            print(f"  {key}: {json.dumps(value)}")
    return sum("error" in result for result in context.found.values())


if __name__ == "__main__":
    sys.exit(main())
